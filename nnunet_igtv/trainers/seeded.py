"""nnU-Net's trainer, reproducible: initial weights, the order of the batches, and their augmentation.

nnU-Net takes no seed. What it draws by chance, it draws while it builds the network (`initialize`) and in the
workers that `get_dataloaders` starts, which are methods that a trainer may replace.
"""

import os
from typing import Any

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from nnunet_igtv.trainers.loading import StackLoader, batches, seed_from_environment


class SeededTrainer(nnUNetTrainer):
    """nnU-Net's trainer with the seed that `nnUNet_igtv_seed` holds; without it, every run differs."""

    dataset_class: Any
    loader = StackLoader

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.seed = seed_from_environment()
        # On a CPU nnU-Net takes as many threads as there are cores, whatever the user wants. Two trainings at
        # the same time would be far slower than one after the other: oneDNN's threads wait by spinning.
        wanted = os.environ.get("OMP_NUM_THREADS", "")
        if device.type == "cpu" and wanted.isdecimal() and int(wanted):
            torch.set_num_threads(int(wanted))

    def initialize(self) -> None:
        if self.seed is not None:
            torch.manual_seed(self.seed)
        super().initialize()

    def get_dataloaders(self) -> tuple[Any, Any]:
        """nnU-Net's, with loaders that end with the run and, where a seed is set, in a fixed order."""
        if self.dataset_class is None:
            self.dataset_class = infer_dataset_class(self.preprocessed_dataset_folder)
        plan, labels = self.configuration_manager, self.label_manager
        rotation, dummy_2d, larger_patch, axes = (
            self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        transforms = self.transforms(rotation, self._get_deep_supervision_scales(), axes, dummy_2d)
        if self.seed is not None:
            # this process: stochastic depth, and the batches where there are no workers
            torch.manual_seed(self._seed_of(2))
            np.random.seed(self._seed_of(2))
        workers = get_allowed_n_proc_DA()
        iterators = []
        for which, dataset in enumerate(self.get_tr_and_val_datasets()):
            loader = self.loader(
                dataset,
                self.batch_size,
                (larger_patch, plan.patch_size)[which],
                plan.patch_size,
                labels,
                oversample_foreground_percent=self.oversample_foreground_percent,
                transforms=transforms[which],
                probabilistic_oversampling=self.probabilistic_oversampling,
            )
            iterators.append(
                batches(
                    loader,
                    workers=workers if which == 0 else min(workers, max(1, workers // 2)),
                    cached=(max(6, workers // 2), max(3, workers // 4))[which],
                    seed=None if self.seed is None else self._seed_of(which),
                    pin_memory=self.device.type == "cuda",
                )
            )
            next(iterators[-1])  # starts the workers before the network does anything
        return iterators[0], iterators[1]

    def transforms(self, rotation: Any, scales: Any, axes: Any, dummy_2d: bool) -> tuple[Any, Any]:
        """What a training patch and a validation patch go through.

        Args:
            rotation: range of the angles, in radians.
            scales: sizes of the targets of deep supervision relative to the patch; None without.
            axes: of the patch, along which it may be mirrored.
            dummy_2d: whether to rotate and scale in the plane only.
        """
        labels, plan = self.label_manager, self.configuration_manager
        options = {
            "foreground_labels": labels.foreground_labels,
            "regions": labels.foreground_regions if labels.has_regions else None,
            "ignore_label": labels.ignore_label,
        }
        training = self.get_training_transforms(
            plan.patch_size,
            rotation,
            scales,
            axes,
            dummy_2d,
            use_mask_for_norm=plan.use_mask_for_norm,
            **options,
        )
        return training, self.get_validation_transforms(scales, **options)

    def _seed_of(self, which: int) -> int:
        """A seed for each loader (0 and 1) and this process (2), each rank, and each epoch to start at."""
        sequence = np.random.SeedSequence([self.seed, which, self.local_rank, self.current_epoch])
        return int(sequence.generate_state(1)[0] >> 1)
