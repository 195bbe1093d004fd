"""Training in one process or in many: what `nnUNetv2_train` does, on GPUs or CPUs, of one machine or several.

It calls nnU-Net's own functions in nnU-Net's order; torchrun starts one process per device.
"""

import contextlib
import difflib
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_igtv.environment import VARIABLE, extended_trainer_path
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers.igtv_trainer import IGTVTrainer
from nnunet_igtv.trainers.process_group import ProcessGroup
from nnunet_igtv.trainers.variants import TRAINERS
from nnunet_igtv.weights.pretrained_flag import load_all_but_head


@dataclass(frozen=True)
class Training:
    """What to train.

    Attributes:
        dataset: name or number of the dataset.
        configuration: of the plans, such as "2d".
        fold: a number, or "all".
        trainer: name of the trainer, one of this package's.
        plans: name of the plans.
        pretrained_weights: checkpoint to start from, all but the head.
        resume: continue from the latest checkpoint, if there is one.
        only_validate: validate a finished training.
        validate_best: validate the best checkpoint, not the final one.
        checkpoints: whether to write any.
        probabilities: keep those of the validation.
    """

    dataset: str
    configuration: str
    fold: int | str
    trainer: str
    plans: str = "nnUNetPlans"
    pretrained_weights: str | None = None
    resume: bool = False
    only_validate: bool = False
    validate_best: bool = False
    checkpoints: bool = True
    probabilities: bool = False


class EchoError(Exception):
    """This process failed because another one did, which reports the cause."""


def train(training: Training, device: str) -> None:
    """Train, in this process and those that torchrun started with it.

    Args:
        training: what to train.
        device: "cuda", "cpu" or "mps"; each process takes one of its own.

    Raises:
        IGTVError: no such dataset, plans, trainer, weights or checkpoint; what the trainer refuses; or
            another process was lost.
        EchoError: another process failed first.
    """
    group = ProcessGroup(device)
    try:
        with group:
            _train(training, group)
    except Exception as error:
        if not group.first_to_fail():
            raise EchoError from error
        if group.lost_another(error):
            raise IGTVError(
                "another process of this run ended or no longer answers",
                remedy="its own message, if it left one, is above; continue with --c",
            ) from error
        raise


def _train(training: Training, group: ProcessGroup) -> None:
    os.environ[VARIABLE] = extended_trainer_path()
    _require_what_is_named(training)
    device = group.device
    if device.type == "cuda":  # threads as nnU-Net sets them
        torch.set_num_threads(1)
        torch.set_num_interop_threads(1)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False
    elif group.size == 1:
        torch.set_num_threads(os.cpu_count() or 1)
    trainer = get_trainer_from_args(
        training.dataset,
        training.configuration,
        training.fold,
        training.trainer,
        training.plans,
        training.resume,
        device=device,
    )
    trainer.disable_checkpointing = not training.checkpoints
    results = Path(trainer.output_folder)
    if training.only_validate:
        _require_checkpoint(results / "checkpoint_final.pth")
    elif training.pretrained_weights:
        trainer.pretrained_weights = training.pretrained_weights
        trainer.initialize()
        load_all_but_head(trainer.bare_network, training.pretrained_weights)
    maybe_load_checkpoint(trainer, training.resume, training.only_validate)
    if not training.only_validate:
        trainer.run_training()
    if training.validate_best:
        _require_checkpoint(results / "checkpoint_best.pth")
        trainer.load_checkpoint(str(results / "checkpoint_best.pth"))
    trainer.perform_actual_validation(training.probabilities)


def _require_what_is_named(training: Training) -> None:
    """Raises IGTVError where the folders, the dataset, the plans or the trainer are not there."""
    folders = {name: os.environ.get(name) for name in ("nnUNet_preprocessed", "nnUNet_results")}
    unset = [name for name, folder in folders.items() if not folder]
    if unset:
        raise IGTVError(f"not set: {', '.join(unset)}", remedy="export nnU-Net's variables")
    require_trainer(training.trainer)
    preprocessed = Path(str(folders["nnUNet_preprocessed"]))
    try:
        dataset = preprocessed / maybe_convert_to_dataset_name(training.dataset)
    except (RuntimeError, ValueError) as error:  # its message has many lines
        raise IGTVError(
            f"no dataset {training.dataset!r}; there are: {_names(preprocessed.glob('Dataset*'))}",
            file=preprocessed,
            remedy="name one of them by its number or whole name, or run nnUNetv2_plan_and_preprocess",
        ) from error
    plans = dataset / f"{training.plans}.json"
    if not plans.is_file():
        raise IGTVError(
            f"no such plans; there are: {_names(dataset.glob('*Plans*.json'))}",
            file=plans,
            remedy="name one of them, or run nnUNetv2_plan_and_preprocess",
        )


def require_trainer(name: str) -> None:
    """Raises IGTVError, with the names that may be meant, where there is no such trainer of this package in
    the folders that `nnUNet_extTrainer` names."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # where it searches, which nnU-Net will print again
            trainer = recursive_find_trainer_class_by_name(name)
    except RuntimeError as error:
        meant = difflib.get_close_matches(name, TRAINERS, n=4, cutoff=0.7) or ["IGTVTransferTrainer"]
        raise IGTVError(
            f"no trainer {name!r}",
            remedy=f"did you mean {' or '.join(meant)}? docs/training.md lists all; those of your own are "
            f"looked for in the folders that {VARIABLE} names",
        ) from error
    if not issubclass(trainer, IGTVTrainer):
        raise IGTVError(
            f"{name} is not one of this package's trainers", remedy="train it with nnUNetv2_train"
        )


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(sorted(path.stem for path in paths)) or "none"


def _require_checkpoint(path: Path) -> None:
    if not path.is_file():
        raise IGTVError(
            "no such checkpoint; the training is not finished", file=path, remedy="continue it with --c"
        )
