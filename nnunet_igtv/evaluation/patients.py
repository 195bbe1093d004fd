"""Which cases are of one patient: intervals and tests are over patients, not over cases that go together."""

import csv
from collections.abc import Sequence
from pathlib import Path

from nnunet_igtv.errors import IGTVError

COLUMNS = ("case", "patient")


def read_patients(file: Path, cases: Sequence[str]) -> dict[str, int]:
    """The patients of the cases, from a CSV file with columns "case" and "patient", such as a manifest.

    Returns:
        Case -> number from 1, in the order of the cases. The patients' names stay in the file.

    Raises:
        IGTVError: the file cannot be read or lacks a column or a case, or has a case twice.
    """
    remedy = "pass a CSV file with a row for each case"
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream)
            rows, columns = list(table), table.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise IGTVError(f"the patients cannot be read ({type(error).__name__})", file=file) from error
    if lacking := [column for column in COLUMNS if column not in columns]:
        raise IGTVError(f"the table of patients has no column {lacking[0]!r}", file=file, remedy=remedy)
    names: dict[str, str] = {}
    for row in rows:
        case, patient = (row[column] or "" for column in COLUMNS)
        if case and names.setdefault(case, patient) != patient:
            raise IGTVError("the table of patients names two patients", case=case, file=file)
    for case in cases:
        if not names.get(case):
            raise IGTVError(
                "the table of patients does not name this case", case=case, file=file, remedy=remedy
            )
    numbers: dict[str, int] = {}
    return {case: numbers.setdefault(names[case], len(numbers) + 1) for case in cases}


def manifest_of(truth: Path) -> Path | None:
    """The manifest that our conversion left with the dataset of a folder of labels, where it can be read."""
    dataset = truth.absolute().parent
    manifest = dataset.with_name(f"{dataset.name}_manifest.csv")
    try:
        manifest.open("rb").close()
    except OSError:
        return None
    return manifest
