"""splits_final.json beside the preprocessed data, for any trainer of nnU-Net: folds of whole patients."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from nnunet_igtv.atomic import write_text
from nnunet_igtv.folds import SPLITS, Groups, leaking, read_splits, splits_by_patient


def write_splits(known: Groups, dataset: Path) -> str | None:
    """Write splits_final.json where nnU-Net's own split would be wrong: where the source came with a split,
    or where a patient has several cases. nnU-Net reads it from nnUNet_preprocessed/<dataset>; a file there
    that covers the same cases is left as it is.

    Returns:
        What is left to do for the user, in one sentence; None if nothing is.
    """
    if not known:
        return None
    preprocessed = os.environ.get("nnUNet_preprocessed")  # noqa: SIM112 (nnU-Net's own name)
    folder = Path(preprocessed) / dataset.name if preprocessed else dataset
    target = folder / SPLITS
    there = _folds_over(target, known)
    if any(leaking(split, known) for split in there):
        return (
            f"{dataset.name}/{SPLITS} has patients in training and validation: take it away and convert again"
        )
    if there:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    write_text(target, json.dumps(splits_by_patient(known, known), indent=1))
    if preprocessed:
        return None
    return f"copy {dataset.name}/{SPLITS} to nnUNet_preprocessed before training"


def _folds_over(splits: Path, cases: Iterable[str]) -> list[dict[str, list[str]]]:
    """The folds in a file, if they are over just these cases; none of a file that is damaged or absent."""
    try:
        folds = read_splits(splits) or []
    except OSError:
        return []
    return folds if all({*fold["train"], *fold["val"]} == set(cases) for fold in folds) else []
