"""The CSV of the source `nifti`: its rows, or why they cannot be used as a whole."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.tables import read_table


@dataclass(frozen=True)
class Triple:
    """A row: files of one case, its patient ("" if not said) and fold ("", "train" or "val").

    `line` is its number in the file, `same_pet` the lines that name its PET, where these are several.
    """

    line: int
    ct: Path
    pet: Path | None
    label: Path
    patient: str
    fold: str
    same_pet: tuple[int, ...] = ()

    @property
    def warnings(self) -> list[str]:
        return [f"{_lines(self.same_pet)} of the CSV name one PET"] if self.same_pet else []


def read_triples(table: Path, no_pet: str | None) -> list[Triple]:
    """The rows of a CSV, files relative to its folder.

    Args:
        no_pet: "missing" if rows without a PET are accepted, "all" if no PET is taken; None: each needs one.

    Raises:
        IGTVError: it cannot be read, lacks columns, has a row that cannot be meant, or names a CT or a label
            twice.
    """
    if not table.is_file():
        raise IGTVError("no such file", file=table)
    columns, rows = read_table(table, "the CSV manifest")
    needed = {"ct", "label"} if no_pet else {"ct", "pet", "label"}
    missing = needed - {name.strip().lower() for name in columns if rows}
    if missing:
        raise IGTVError(
            f"the CSV manifest lacks the columns {', '.join(sorted(missing))}",
            file=table,
            remedy="add them" + (", or accept studies without a PET" if missing == {"pet"} else ""),
            settings=["no_pet"] if missing == {"pet"} else [],
        )
    found = [_triple(table, line, row, no_pet) for line, row in enumerate(rows, start=2)]
    triples = [triple for triple in found if triple]
    for lines in _named_by_several(triples, lambda triple: triple.ct):
        raise IGTVError(
            f"the CSV manifest names a CT twice ({_lines(lines)})", file=table, remedy="leave one of them out"
        )
    for lines in _named_by_several(triples, lambda triple: triple.label):
        raise IGTVError(
            f"{_lines(lines)} name one label", file=table, remedy="name the label of each CT in its own line"
        )
    shared = {line: lines for lines in _named_by_several(triples, lambda t: t.pet) for line in lines}
    return [Triple(t.line, t.ct, t.pet, t.label, t.patient, t.fold, shared.get(t.line, ())) for t in triples]


def _triple(table: Path, line: int, given: Mapping[str, str], no_pet: str | None) -> Triple | None:
    """A row; None for an empty one."""
    row = {name.strip().lower(): value.strip() for name, value in given.items()}
    if not any(row.values()):
        return None
    ct, pet, label, patient, fold = (row.get(n, "") for n in ("ct", "pet", "label", "patient", "fold"))
    fold = fold.lower()
    if fold not in ("", "train", "val"):
        raise IGTVError(
            f"line {line}: fold is {fold!r}", file=table, remedy="leave it empty, or train or val"
        )
    if ct and label and not pet and not no_pet:
        raise IGTVError(
            f"line {line}: no PET",
            file=table,
            remedy="name its PET, leave the line out, or accept studies without a PET",
            settings=["no_pet"],
        )
    if not ct or not label or "\0" in ct + pet + label:
        raise IGTVError(f"line {line}: an empty path, or one that no file can have", file=table)
    folder = table.parent
    pet_file = folder / pet if pet and no_pet != "all" else None
    return Triple(line, folder / ct, pet_file, folder / label, patient, fold)


def _named_by_several(
    triples: Sequence[Triple], file: Callable[[Triple], Path | None]
) -> list[tuple[int, ...]]:
    """The lines that name one file, where these are several."""
    lines: dict[str, tuple[int, ...]] = {}
    for triple in triples:
        if (named := file(triple)) is not None:
            key = os.path.realpath(named)
            lines[key] = (*lines.get(key, ()), triple.line)
    return [several for several in lines.values() if len(several) > 1]


def _lines(numbers: Sequence[int]) -> str:
    return f"lines {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
