"""Tables that people write: CSV files with a line of column names, and lists of one name a line."""

import csv
from pathlib import Path

from nnunet_igtv.errors import IGTVError, blamed


def read_table(file: Path, what: str) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the rows of a CSV file in UTF-8 (commas or semicolons); what a row lacks is "".

    Args:
        what: what the table is, for the error: "the CSV manifest".

    Raises:
        IGTVError: it cannot be read, is no such table, or has two columns of one name.
    """
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            head = stream.readline()
            stream.seek(0)
            # spreadsheets write semicolons where the comma is the decimal point
            table = csv.DictReader(stream, delimiter=";" if head.count(";") > head.count(",") else ",")
            columns = [name or "" for name in table.fieldnames or []]
            rows = [{name: row.get(name) or "" for name in columns} for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise blamed(error, _damaged(error, file, what)) from error
    spelled = [name.strip().casefold() for name in columns if name.strip()]
    if twice := sorted({name for name in spelled if spelled.count(name) > 1}):
        raise IGTVError(
            f"{what} has several columns {', '.join(twice)}", file=file, remedy="leave one of each in it"
        )
    return columns, rows


def read_lines(file: Path, what: str) -> list[str]:
    """The lines of a text in UTF-8 that are not blank. Raises IGTVError as `read_table`."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise blamed(error, _damaged(error, file, what)) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _damaged(error: Exception, file: Path, what: str) -> IGTVError:
    return IGTVError(
        f"{what} cannot be read ({type(error).__name__})", file=file, remedy="save it as text in UTF-8"
    )
