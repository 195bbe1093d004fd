"""The record of a raw dataset: which study is which case, and how it was made. One SQLite file.

It is what a conversion trusts. The manifest, conversion.json and dataset.json are written from it, so a run
that was killed at any moment is completed by the next. Each change is one transaction. The file identifies
patients: it is next to the dataset, not in it, and readable by its owner only.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from nnunet_igtv.atomic import encoded, write_text
from nnunet_igtv.errors import IGTVError

SCHEMA = """
CREATE TABLE IF NOT EXISTS dataset (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cases (key TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, row TEXT NOT NULL);
"""


@dataclass
class Row:
    """One study.

    Attributes:
        key: what the study is called in every run.
        number: of its case; no other study ever has it.
        case: name of its case.
        status: "pending", "converted" or "failed".
        split: "train" or "test".
        source: name of the source that found it.
        patient: cases of one patient stay in one fold.
        input: the folder or file that the user gave.
        study: where the study was found.
        fold: "train" or "val" where the source comes with a split.
        message: why it failed.
        provenance: how the case was made; names nobody.
        identity: the UIDs that it was made from.
        sizes: of its files, in bytes.
        files: those that the user named for the study beside its CT.
        made_from: a digest of the sizes of what it was read from; "" where that is not known.
        options: of the source, that it was converted with; empty where that is not known.
        ct: a digest of its CT's voxels; "" where that is not known.
    """

    key: str
    number: int
    case: str
    split: str
    source: str
    patient: str
    input: str
    study: str
    fold: str = ""
    status: str = "pending"
    message: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    made_from: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    ct: str = ""


class Record:
    """The record in a file, which is made at the first change.

    Raises:
        IGTVError: the file is no such record, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        self.values: dict[str, Any] = {}
        self._connection: sqlite3.Connection | None = None
        if path.exists():
            self._open()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            is_new = not self.path.exists()
            try:
                with self._named_errors():
                    self._connection = self._read()
            except IGTVError:
                if is_new:
                    self.path.unlink(missing_ok=True)
                raise
        return self._connection

    def _read(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.executescript(SCHEMA)
            for name, value in connection.execute("SELECT name, value FROM dataset"):
                self.values[name] = json.loads(value)
            for key, row in connection.execute("SELECT key, row FROM cases ORDER BY number"):
                self.rows[key] = Row(**json.loads(row))
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def set(self, name: str, value: Any) -> None:
        """Keep a value of the whole dataset, one that JSON can carry."""
        with self._named_errors():
            self._open().execute("INSERT OR REPLACE INTO dataset VALUES (?, ?)", (name, json.dumps(value)))
        self.values[name] = value

    def put(self, *rows: Row) -> None:
        """Keep rows, all or none of them; two studies with one number are refused by the database."""
        connection = self._open()
        with self._named_errors(), connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO cases VALUES (?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET number = excluded.number, row = excluded.row",
                [(row.key, row.number, json.dumps(asdict(row))) for row in rows],
            )
        self.rows |= {row.key: row for row in rows}

    @property
    def next_number(self) -> int:
        return max((row.number for row in self.rows.values()), default=0) + 1

    def publish(self, path: Path, text: str, mode: int = 0o644) -> None:
        """Write a file that repeats the record, and remember what it holds."""
        written = self.values.get("written", {})
        # a kill leaves the old content in place or the new one: both are ours
        old = [_digest(path)] if path.is_file() and self.wrote(path) else []
        new = sha256(encoded(text)).hexdigest()
        self.set("written", written | {path.name: [*old, new]})
        write_text(path, text, mode)

    def wrote(self, path: Path) -> bool:
        """Whether a file is as `publish` left it; also where there is none."""
        if not path.exists():
            return True
        return path.is_file() and _digest(path) in self.values.get("written", {}).get(path.name, [])

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError, OSError) as error:
            raise IGTVError(
                f"the record of the dataset cannot be read or written ({error})",
                file=self.path,
                remedy="make room on the disk or restore the file; without it, move the dataset away and "
                "convert again",
            ) from error


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
