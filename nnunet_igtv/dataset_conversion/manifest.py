"""The manifest: which study became which case. It identifies patients: beside the dataset, readable by its
owner.
"""

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_igtv.atomic import write_text
from nnunet_igtv.errors import IGTVError

COLUMNS = ("case", "status", "split", "source", "patient", "key", "input", "study", "fold")
DETAILS = ("suv_rule", "suv_factor", "structure", "warnings")
IDENTITY = ("ct_series", "pet_series", "structure_set")


@dataclass
class Row:
    """One study. `key` is what it is called in every run, `study` where it lies, `input` what the user gave;
    `identity` holds the UIDs that the case was made from."""

    case: str
    status: str
    split: str
    source: str
    patient: str
    key: str
    input: str
    study: str
    fold: str = ""
    message: str = ""
    provenance: dict[str, object] = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)


class Manifest:
    """The rows of a manifest file, by key; empty if there is no file yet.

    Raises:
        IGTVError: the file is no manifest of this version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        if path.is_file():
            with open(path, newline="", encoding="utf-8") as stream:
                table = csv.DictReader(stream)
                missing = {*COLUMNS, *DETAILS, *IDENTITY, "message"} - set(table.fieldnames or ())
                if missing:
                    raise IGTVError(
                        f"this manifest lacks the columns {', '.join(sorted(missing))}",
                        file=path.name,
                        remedy="it was edited or made by another version: move it and its dataset away",
                    )
                for cells in table:
                    case, status, split, source, patient, key, given, study, fold = (
                        cells[c] for c in COLUMNS
                    )
                    row = Row(case, status, split, source, patient, key, given, study, fold, cells["message"])
                    row.provenance = {c: cells[c] for c in DETAILS if cells[c]}
                    row.identity = {c: cells[c] for c in IDENTITY if cells[c]}
                    self.rows[row.key] = row

    def save(self) -> None:
        """Write the file whole or not at all, mode 600."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow((*COLUMNS, *DETAILS, *IDENTITY, "message"))
        for row in sorted(self.rows.values(), key=lambda r: r.case):
            details = [_cell(row.provenance.get(c, "")) for c in DETAILS]
            identity = [row.identity.get(c, "") for c in IDENTITY]
            writer.writerow([*(getattr(row, c) for c in COLUMNS), *details, *identity, row.message])
        write_text(self.path, text.getvalue(), mode=0o600)


def _cell(value: object) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
