"""A study that a conversion has met before: whether it is the same, and whether its case is still whole."""

import json
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from nnunet_igtv.dataset_conversion.record import Row
from nnunet_igtv.dataset_conversion.source import Item
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import read_image


def edited(row: Row, files: Sequence[Path]) -> list[Path]:
    """The files of a converted case that somebody changed and left whole, such as a corrected label.

    Empty where the case is as it was written, and where a file is missing or damaged: such a case is made
    again.
    """
    if not all(file.is_file() for file in files) or len(row.sizes) != len(files):
        return []
    changed = [file for file, size in zip(files, row.sizes, strict=True) if file.stat().st_size != size]
    try:
        for file in changed:
            read_image(file, file.name)
    except IGTVError:
        return []
    return changed


def sizes_of(files: Sequence[Path]) -> str:
    """A digest of the sizes of files, whatever their names and order; "" for none."""
    sizes = sorted(os.stat(file).st_size for file in files if os.path.exists(file))
    return sha256(json.dumps(sizes).encode()).hexdigest() if sizes else ""


def differing(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """The names of options that two runs gave different values; one that a version of this package did not
    have says nothing."""
    return [name for name, value in now.items() if before.get(name, value) != value]


def remark_on_options(rows: Sequence[Row], now: Mapping[str, object]) -> list[str]:
    """A remark on cases that are kept, and were converted with other options than those of now."""
    others = [row for row in rows if differing(row.options, now)]
    if not others:
        return []
    names = sorted({name for row in others for name in differing(row.options, now)})
    more = f" (and {len(others) - 1} more)" if others[1:] else ""
    return [
        f"{others[0].case}: converted with other options before ({', '.join(names)}), and kept{more}; to "
        "make it anew, delete its files in the dataset and convert again"
    ]


class Converted:
    """The cases of a dataset, and which of them a study is.

    Args:
        rows: of the cases that are there.
        items: all studies of this run.
    """

    def __init__(self, rows: Sequence[Row], items: Sequence[Item]) -> None:
        self.by_key = {row.key: row for row in rows}
        keys = {item.key for item in items}
        self.by_uid = {
            uid: row for row in rows if row.identity and row.key not in keys for uid in row.key.split("|")
        }
        self.patients = {(row.split, row.patient): row.case for row in rows}

    def refusal(self, item: Item) -> IGTVError | None:
        """Why a study can be neither kept nor converted; None where it can."""
        row = self.by_key.get(item.key)
        if row is None:
            grown = next((self.by_uid[uid] for uid in item.key.split("|") if uid in self.by_uid), None)
            if grown is None:
                return None
            return IGTVError(
                f"this study was converted into the {grown.split} split before, and holds other objects now, "
                "such as a structure set of another study",
                case=grown.case,
                remedy="take them out of the input, or convert all of it into a new dataset",
            )
        if not row.identity and row.study != os.path.realpath(item.path):
            return IGTVError(
                "a study of this name was converted from another folder",
                case=row.case,
                remedy="give its folder another name if it is another study, else take it out of the input",
            )
        if row.files and row.files != list(item.files):
            return IGTVError(
                "another PET or label is named for this study than when it was converted",
                case=row.case,
                remedy="delete the case's files in the dataset, and the next run makes them anew",
            )
        return None

    def has_other_input(self, item: Item) -> bool:
        """Whether a case that is kept was made from other files, such as contours before a correction."""
        row = self.by_key.get(item.key)
        return row is not None and row.made_from not in ("", sizes_of(item.made_from))

    def case_in_the_other_split(self, item: Item, split: str) -> str | None:
        """A training case of a test case's patient, or a test case of a training case's."""
        return self.patients.get(("test" if split == "train" else "train", item.patient))
