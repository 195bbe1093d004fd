"""A folder of unfinished work inside an output folder: private, and gone on any way out.

What a kill leaves is gone with the next run. Finished files leave it for the output folder together
or not at all.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nnunet_igtv.atomic import place, placed, withdraw

FOLDER, JOURNAL = ".unfinished", ".unfinished.journal"


def clear(output: Path) -> None:
    """Remove what a killed run left in an output folder: its work, and files that it was placing there."""
    withdraw(output / JOURNAL)
    if (output / FOLDER).is_dir():
        shutil.rmtree(output / FOLDER)


@contextmanager
def workspace(output: Path) -> Iterator[Path]:
    """A folder that only its owner can read, for one run; `clear` the output folder before.

    Each has a new name: a program that outlived a killed run, and still writes, does not reach it.
    """
    folder = output / FOLDER
    folder.mkdir(mode=0o700, parents=True)
    try:
        with placed(output / JOURNAL):
            try:
                yield Path(tempfile.mkdtemp(dir=folder))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        if not any(output.iterdir()):
            output.rmdir()


def finish(files: Sequence[Path], output: Path) -> None:
    """Move finished files of a workspace to names in the output folder that are free."""
    place({file: output / file.name for file in files}, output / JOURNAL)
