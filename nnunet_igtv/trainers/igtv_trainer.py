"""The trainer: nnU-Net's, on stacks of slices, with the recipe of this package."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from torch import nn

from nnunet_igtv.architectures.compiling import compile_regions
from nnunet_igtv.architectures.strides import OUTPUT_STRIDES
from nnunet_igtv.channels import (
    CT_PET_OF_ANY_UNIT,
    Channel,
    cases_without_pet,
    channels_of,
    mismatch,
    unknown,
)
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.folds import SPLITS, groups_of
from nnunet_igtv.plans import rewrite_plans
from nnunet_igtv.trainers.augmentation import training_transforms
from nnunet_igtv.trainers.checkpoints import checkpoint_written, plain, readable
from nnunet_igtv.trainers.losses import chosen_loss
from nnunet_igtv.trainers.modality_dropout import OptionalPET, require_optional_pet
from nnunet_igtv.trainers.optimisation import new_parameters
from nnunet_igtv.trainers.pet_scale import PETScale, zero_suv
from nnunet_igtv.trainers.split import require_apart, require_both, require_fold
from nnunet_igtv.trainers.starting_weights import (
    OPTION,
    LoadedTensors,
    file_of_the_caller,
    file_on_command_line,
    require_same_data,
)
from nnunet_igtv.trainers.step import StepTrainer
from nnunet_igtv.weights.reading import channels_in, load_checkpoint


class IGTVTrainer(StepTrainer):
    """Trains the network from scratch.

    A variant is a subclass that sets some of the attributes below, or of those in `optimisation.py`, and
    nothing else; `variants.py` lists them. Its name is stored in checkpoints and folder names: never rename
    one.
    """

    preset = "tiny"
    slices = 3  # in a stack
    slice_interaction = "before_head"  # how they see each other: a name of `SLICE_INTERACTIONS`
    mixer = "scan"  # how the positions of a map see each other: a name of `MIXERS`
    deep_supervision = False  # heads at 1/4 and 1/8 of the size are trained too
    modality_dropout = 0.0  # share of samples that lose their PET; above 0, the network knows of them
    pet_scale: tuple[float, float] | None = None  # range of factors for the SUV in training
    loss_function = "dice"  # a name in losses.py
    epochs = 1000
    iterations, validation_iterations = 250, 50
    checkpoint_every = 10
    other_units = False  # whether to start from weights of data in other units (grey levels, not HU and SUV)
    mirror_axes: tuple[int, ...] = (1, 2)  # of the stack (S, H, W), in training and at prediction

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net's signature
    ) -> None:
        channels = _ct_and_pet(dataset_json, plans)
        plans = rewrite_plans(
            plans,
            configuration,
            self.preset,
            self.slice_interaction,
            self.deep_supervision,
            self.slices,
            optional_pet=self.modality_dropout > 0,
            mixer=self.mixer,
            half_precision=device.type == "cuda",  # where nnU-Net makes a `grad_scaler`
        )
        require_optional_pet(
            plans["configurations"][configuration]["architecture"]["arch_kwargs"],
            self.modality_dropout,
            cases_without_pet(dataset_json),
        )
        plans.setdefault("continue_training", False)  # absent where a trainer is rebuilt from a checkpoint
        self.continuing = plans["continue_training"]
        super().__init__(plans, configuration, fold, dataset_json, device)
        if names := unknown(channels):
            self.print_to_log_file(
                f"WARNING: the channel names {', '.join(names)} do not say CT or PET. "
                "Channel 0 is taken for the CT, channel 1 for the PET"
            )
        axis = self.plans_manager.transpose_forward[0]
        if axis != 0:
            self.print_to_log_file(
                f"WARNING: a stack is made of planes along image axis {axis}, not of slices: nnU-Net takes "
                "the axis of the largest spacing. Convert to a grid whose slices are thicker than its pixels"
            )
        self.num_epochs = self.epochs
        self.num_iterations_per_epoch = self.iterations
        self.num_val_iterations_per_epoch = self.validation_iterations
        self.save_every = self.checkpoint_every
        self.initial_lr, self.weight_decay = self.learning_rate, self.decay
        # a plan that names our network is used as it is, with or without auxiliary heads
        network = self.configuration_manager.network_arch_init_kwargs
        self.enable_deep_supervision = network.get("auxiliary_heads", False)
        self.optional_pet = network.get("optional_pet", False)
        self._best_ema: Any = None
        self.pretrained_weights: str | None = None  # set by whoever loads them, if not nnU-Net's command
        self.loaded: LoadedTensors
        self.resumed = False  # from a checkpoint
        self.has_checkpoint = False  # of this run

    # ------------------------------------------------------------------ network and loss

    def initialize(self) -> None:
        super().initialize()
        if self._do_i_compile():
            self.print_to_log_file(compile_regions(self.bare_network))
        self.loaded = LoadedTensors(self.bare_network)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Whether the network gives the logits of its auxiliary heads too; never where it has none."""
        self.bare_network.decoder.deep_supervision = enabled and self.enable_deep_supervision

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        """Sizes of the targets relative to the stack (S, H, W): the slices stay, their planes shrink."""
        if not self.enable_deep_supervision:
            return None
        return [[1.0, 1 / stride, 1 / stride] for stride in OUTPUT_STRIDES]

    def _build_loss(self) -> nn.Module:
        return chosen_loss(self.loss_function, super()._build_loss())

    # ------------------------------------------------------------------ data

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple:  # noqa: N802
        """In-plane only: nnU-Net's rotation for 2D patches, S slices in and S slices out."""
        slices, *plane = self.configuration_manager.patch_size
        degrees = 15 if max(plane) / min(plane) > 1.5 else 180
        rotation = (-np.deg2rad(degrees), np.deg2rad(degrees))
        larger = get_patch_size(plane, rotation, rotation, rotation, (0.85, 1.25))
        self.inference_allowed_mirroring_axes = self.mirror_axes
        return rotation, True, np.array([slices, *larger]), self.mirror_axes

    @staticmethod
    def get_training_transforms(
        patch_size: Any,
        rotation_for_DA: Any,
        deep_supervision_scales: Any,
        mirror_axes: Any,
        do_dummy_2d_data_aug: bool,
        use_mask_for_norm: Any = None,
        is_cascaded: bool = False,
        foreground_labels: Any = None,
        regions: Any = None,
        ignore_label: int | None = None,
    ) -> Any:
        return training_transforms(
            patch_size,
            rotation_for_DA,
            deep_supervision_scales,
            mirror_axes,
            use_mask_for_norm,
            regions,
            ignore_label,
        )

    def transforms(self, *of_the_patch: Any) -> tuple[Any, Any]:
        training, validation = super().transforms(*of_the_patch)
        if self.pet_scale:
            zero = zero_suv(self.plans_manager, self.configuration_manager)
            training = ComposeTransforms([PETScale(zero, self.pet_scale), training])
        if self.optional_pet:
            training = OptionalPET(training, self.modality_dropout)
        return training, validation

    # ------------------------------------------------------------------ the run

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        if not self.resumed:
            self.start_from_weights()
        self.loaded.stop()
        super().on_train_start()

    def start_from_weights(self) -> None:
        """Looks at what `-pretrained_weights` has loaded, where it was given.

        Raises:
            IGTVError: the weights were trained on data of another kind, or are not what was saved.
        """
        if not self.loaded.names:
            return
        content = None
        file = self.pretrained_weights or file_on_command_line(sys.argv) or file_of_the_caller()
        if file is not None:
            try:
                content = load_checkpoint(file)
            except IGTVError as error:
                if isinstance(error.__cause__, BadZipFile):
                    raise
                # nnU-Net has read it, and takes more kinds of files
                self.print_to_log_file(f"WARNING: {error}")
        self._require_same_data(channels_in(content, file), file or OPTION)

    def _require_same_data(self, channels: Sequence[Channel] | None, source: str) -> None:
        own = channels_of(self.dataset_json)
        self.print_to_log_file(require_same_data(channels, own, source, self.other_units))

    def run_training(self) -> None:
        """nnU-Net's loop; who interrupts it reads how to continue."""
        try:
            super().run_training()
        except KeyboardInterrupt:
            how = (
                f"Interrupted in epoch {self.current_epoch}: continue with --c, which excludes {OPTION}"
                if self.has_checkpoint
                else "Interrupted before there was a checkpoint: start again, without --c"
            )
            self.print_to_log_file(how)
            raise KeyboardInterrupt(how) from None  # the last line, without the place where it happened

    def do_split(self) -> tuple[list[str], list[str]]:
        """The cases to train and to validate on.

        Raises:
            IGTVError: nnU-Net would have to make five folds of fewer cases, or has no such fold of whole
                patients, or a patient would be on both sides.
        """
        if self.fold == "all":
            return super().do_split()
        dataset, known = self.preprocessed_dataset_folder_base, groups_of(self.dataset_json)
        require_fold(dataset, self.preprocessed_dataset_folder, self.fold, known, self.local_rank == 0)
        training, validation = super().do_split()
        require_both(training, validation, self.fold, Path(dataset) / SPLITS)
        require_apart(training, validation, known, Path(dataset) / SPLITS)
        return training, validation

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """As nnU-Net; an epoch whose batches hold no tumour and get none has no Dice, and does not count in
        the running mean, by which the best checkpoint is chosen."""
        super().on_validation_epoch_end(val_outputs)
        logged = self.logger.local_logger.my_fantastic_logging
        mean, dice = logged["ema_fg_dice"], logged["mean_fg_dice"][-1]
        if np.isnan(dice):
            self.print_to_log_file("no tumour in this epoch's validation batches, nor in their segmentations")
        if np.isnan(mean[-1]):
            mean[-1] = mean[-2] if np.isnan(dice) and len(mean) > 1 else dice

    def on_epoch_end(self) -> None:
        super().on_epoch_end()
        self._forget_best_without_dice()

    def _forget_best_without_dice(self) -> None:
        if self._best_ema is not None and np.isnan(self._best_ema):
            self._best_ema = None  # no later Dice would be greater

    # ------------------------------------------------------------------ checkpoints

    def save_checkpoint(self, filename: str) -> None:
        if self.local_rank != 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        self._best_ema = plain(self._best_ema)
        logged = self.logger.local_logger
        logged.my_fantastic_logging = plain(logged.my_fantastic_logging)
        with checkpoint_written(filename) as partial:
            super().save_checkpoint(partial)
        self.has_checkpoint = True

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Continues from a checkpoint; with --c, from the best one where the latest is broken."""
        filename, content = readable(filename_or_checkpoint, fall_back=self.continuing)
        if filename != filename_or_checkpoint:
            self.print_to_log_file(f"{filename_or_checkpoint} is broken; continuing from {filename}")
        self.resumed = self.has_checkpoint = True
        if not self.was_initialized:
            self.initialize()
        self.use_two_rates(new_parameters(content["optimizer_state"]))
        super().load_checkpoint(filename)
        self._forget_best_without_dice()


def _ct_and_pet(dataset_json: dict, plans: dict) -> tuple[Channel, ...]:
    """The dataset's channels, if they are CT then PET as far as they are known."""
    file = f"{plans['dataset_name']}/dataset.json"
    channels = channels_of(dataset_json, file)
    if wrong := mismatch(channels, CT_PET_OF_ANY_UNIT):
        raise IGTVError(
            f"the network reads CT in channel 0 and PET in channel 1, but {wrong}",
            file=file,
            remedy="convert the data with `nnunet-igtv convert`; where only the channel names are wrong, "
            "correct them in this file, of the raw and of the preprocessed dataset",
        )
    return channels
