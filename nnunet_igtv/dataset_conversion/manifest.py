"""The manifest: which study became which case, as a table for people. It identifies patients.

It repeats the record, and a conversion never reads it. An evaluation does: it takes from it which cases are
of one patient, unless it is given another table.
"""

import csv
import io
from collections.abc import Iterable

from nnunet_igtv.dataset_conversion.record import Row

COLUMNS = ("case", "status", "split", "source", "patient", "key", "input", "study", "fold")
DETAILS = ("suv_rule", "suv_factor", "structure", "warnings")
IDENTITY = ("ct_series", "pet_series", "structure_set")


def manifest_text(rows: Iterable[Row]) -> str:
    """The table as CSV, ordered by case."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow((*COLUMNS, *DETAILS, *IDENTITY, "message"))
    for row in sorted(rows, key=lambda r: r.number):
        details = [_cell(row.provenance.get(c, "")) for c in DETAILS]
        identity = [row.identity.get(c, "") for c in IDENTITY]
        writer.writerow([*(getattr(row, c) for c in COLUMNS), *details, *identity, row.message])
    return text.getvalue()


def _cell(value: object) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
