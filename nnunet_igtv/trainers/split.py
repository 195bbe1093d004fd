"""The cases that a fold trains on and validates on: nnU-Net's, with no patient on both sides."""

import json
from pathlib import Path

from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_igtv.atomic import write_text
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.folds import FOLDS, SPLITS, Groups, leaking, read_splits, splits_by_patient


def require_fold(dataset: str, preprocessed: str, fold: int, known: Groups, writes: bool) -> None:
    """Folds of whole patients, where they are known and there is no file of folds yet.

    Args:
        dataset: folder of the preprocessed dataset, with `splits_final.json`.
        preprocessed: the folder in it with the cases of the configuration.
        fold: its number.
        known: the patients of the cases.
        writes: whether this process writes the file.

    Raises:
        IGTVError: nnU-Net would have to make five folds of fewer cases, or a random fold in the place of one
            that is not in the file; or the file is damaged.
    """
    file = Path(dataset) / SPLITS
    if file.is_file():
        # else nnU-Net, in the first process, may be writing it
        count = _count(file) if known or writes else 0
    else:
        cases = infer_dataset_class(preprocessed).get_identifiers(preprocessed)
        if known:
            splits = splits_by_patient(map(str, cases), known)
            count = len(splits)
            if writes:
                write_text(file, json.dumps(splits, indent=1))
        elif len(cases) < FOLDS:
            raise IGTVError(
                f"fold {fold} is one of five folds, which need five cases or more; this dataset has "
                f"{len(cases)}",
                file=dataset,
                remedy=f'train fold "all", on all cases; or convert more cases; or write your own {SPLITS} '
                "into this folder",
            )
    if known and fold >= count:
        raise IGTVError(
            f"there is no fold {fold}: the patients of this dataset are in {count} "
            f"{'fold' if count == 1 else 'folds'}, and nnU-Net would take cases at random",
            file=file,
            remedy=f"train folds 0 to {count - 1}" if count > 1 else 'train fold 0, or fold "all"',
        )


def _count(file: Path) -> int:
    """How many folds a file has."""
    if folds := read_splits(file):
        return len(folds)
    raise IGTVError(
        "this is no list of folds, each with the cases to train on and to validate on",
        file=file,
        remedy="take it away: the next training makes folds; or restore it",
    )


def require_both(training: list[str], validation: list[str], fold: int, file: Path) -> None:
    """Raises IGTVError where a fold has no cases to train on, or none to validate on."""
    for cases, purpose in ((training, "train"), (validation, "validate")):
        if not cases:
            raise IGTVError(
                f"fold {fold} has no cases to {purpose} on",
                file=file,
                remedy='correct this file, or train fold "all", on all cases',
            )


def require_apart(training: list[str], validation: list[str], known: Groups, file: Path) -> None:
    """Raises IGTVError where a patient is on both sides."""
    if cases := leaking({"train": training, "val": validation}, known):
        raise IGTVError(
            f"patients of {len(cases)} of {len(validation)} validation cases are trained on too",
            case=cases[0],
            file=file,
            remedy="take this file away: the next training makes folds of whole patients. Trainings by these "
            "folds must be repeated",
        )
