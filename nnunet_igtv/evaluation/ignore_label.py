"""nnU-Net's ignore label: voxels of the truth that were not annotated, which count neither way.

nnU-Net calls it "ignore" among the labels of dataset.json. That file is in the folder of a raw dataset, which
is the parent of labelsTr and labelsTs, and in every folder that `nnUNetv2_predict` wrote.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from nnunet_igtv.errors import IGTVError


def ignore_label(truths: Iterable[Path], predictions: Iterable[Path]) -> int | None:
    """The value of ignored voxels, by the dataset.json of truths and predictions; None without one.

    Raises:
        IGTVError: a dataset.json is damaged, or two of them name different values, or the same value as
            ignored and as a structure.
    """
    found: dict[int, Path] = {}
    structures: dict[int, Path] = {}
    for folder in (*(place for truth in truths for place in (truth, truth.absolute().parent)), *predictions):
        file = folder / "dataset.json"
        if not file.is_file():
            continue
        value, others = _labels(file)
        if value is not None:
            found.setdefault(value, file)
        structures |= dict.fromkeys(others, file)
    if len(found) > 1:
        raise IGTVError(
            "the ignore label has different values: "
            + ", ".join(f"{value} in {file}" for value, file in found.items()),
            remedy="score predictions and truth of one dataset",
        )
    for value, file in found.items():
        if value in structures:
            raise IGTVError(
                f"label {value} is ignored by {file}, and a structure by {structures[value]}",
                remedy="score predictions and truth of one dataset",
            )
    return next(iter(found), None)


def _labels(file: Path) -> tuple[int | None, set[int]]:
    """The ignored value of a dataset.json, and those of its structures and regions."""
    try:
        labels = json.loads(file.read_text(encoding="utf-8"))["labels"]
        value = labels.get("ignore")
        others = [own for name, own in labels.items() if name != "ignore"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IGTVError(
            "the description of the dataset is damaged", file=file, remedy="restore it, or move it elsewhere"
        ) from error
    if value is not None and (not isinstance(value, int) or value < 1):
        raise IGTVError(f"the ignore label is {value!r} instead of a whole number above 0", file=file)
    values = {v for own in others for v in (own if isinstance(own, list) else [own]) if isinstance(v, int)}
    return value, values
