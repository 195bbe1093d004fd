"""Which cases are of one patient: intervals and tests are over patients, not over cases that go together."""

from collections.abc import Sequence
from pathlib import Path

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.tables import read_table

COLUMNS = ("case", "patient")


def read_patients(file: Path, cases: Sequence[str]) -> dict[str, int]:
    """The patients of the cases, from a CSV file with columns "case" and "patient", such as a manifest.

    Returns:
        Case -> number from 1, in the order of the cases. The patients' names stay in the file.

    Raises:
        IGTVError: the file cannot be read or lacks a column or a case, or has a case twice.
    """
    remedy = "pass a CSV file with a row for each case"
    columns, rows = read_table(file, "the table of patients")
    if lacking := [column for column in COLUMNS if column not in columns]:
        raise IGTVError(f"the table of patients has no column {lacking[0]!r}", file=file, remedy=remedy)
    names: dict[str, str] = {}
    for row in rows:
        case, patient = (row[column] for column in COLUMNS)
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
    """The manifest that our conversion left with the dataset of a folder of labels; None without one."""
    dataset = truth.absolute().parent
    manifest = dataset.with_name(f"{dataset.name}_manifest.csv")
    return manifest if manifest.is_file() else None
