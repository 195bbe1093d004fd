"""Cross-validation by patient: nnU-Net splits by case, so two cases of one patient would leak between
folds.
"""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

from nnunet_igtv.atomic import write_text
from nnunet_igtv.dataset_conversion.record import Row

FOLDS = 5


def write_splits(training: Sequence[Row], dataset: Path) -> str | None:
    """Write splits_final.json where nnU-Net's own split would be wrong: where the source came with a split,
    or where a patient has several cases. nnU-Net reads it from nnUNet_preprocessed/<dataset>; a file there
    that covers the same cases is left as it is.

    Returns:
        What is left to do for the user, in one sentence; None if nothing is.
    """
    splits = splits_by_patient({row.case: (row.patient, row.fold) for row in training})
    if not splits:
        return None
    preprocessed = os.environ.get("nnUNet_preprocessed")  # noqa: SIM112 (nnU-Net's own name)
    folder = Path(preprocessed) / dataset.name if preprocessed else dataset
    target = folder / "splits_final.json"
    cases = {row.case for row in training}
    if _covers(target, cases):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    write_text(target, json.dumps(splits, indent=1))
    if preprocessed:
        return None
    return f"copy {dataset.name}/splits_final.json to nnUNet_preprocessed before training"


def _covers(splits: Path, cases: set[str]) -> bool:
    """Whether a file holds folds over just these cases; not so one that is damaged."""
    try:
        folds = json.loads(splits.read_text(encoding="utf-8"))
        return bool(folds) and all({*fold["train"], *fold["val"]} == cases for fold in folds)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def splits_by_patient(cases: dict[str, tuple[str, str]]) -> list[dict[str, list[str]]]:
    """Case -> (patient, given fold) to nnU-Net's list of folds; empty if nnU-Net's own split does.

    A given split ("train", "val") is the only fold. Otherwise whole patients are dealt to five folds, or to
    as many as there are patients.
    """
    names = sorted(cases)
    if any(fold for _, fold in cases.values()):
        return [{part: [c for c in names if (cases[c][1] or "train") == part] for part in ("train", "val")}]
    patients = sorted({patient for patient, _ in cases.values()})
    if len(patients) in (len(cases), 0, 1):
        return []
    random.Random(12345).shuffle(patients)
    splits = []
    for k in range(min(FOLDS, len(patients))):
        held_out = set(patients[k::FOLDS])
        validation = [c for c in names if cases[c][0] in held_out]
        splits.append({"train": [c for c in names if c not in validation], "val": validation})
    return splits
