"""A folder of unfinished work inside an output folder: private, and gone on any way out.

One process at a time works in an output folder: a second one is refused, and touches nothing.

What a kill leaves is gone with the next run. Finished files leave it for the output folder together
or not at all.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from nnunet_igtv.atomic import locked, made, place, placed, refuse_taken, withdraw
from nnunet_igtv.errors import IGTVError

FOLDER, JOURNAL = ".unfinished", ".unfinished.journal"


def clear(output: Path) -> None:
    """Remove what a killed run left in an output folder: its work, and files that it was placing there.

    Raises IGTVError where the process that works there is running.
    """
    if not output.is_dir():
        return
    with locked(output):
        if not (output / FOLDER).is_dir():
            withdraw(output / JOURNAL)
            return
        with held(output / FOLDER):
            withdraw(output / JOURNAL)
            shutil.rmtree(output / FOLDER)


@contextmanager
def workspace(output: Path) -> Iterator[Path]:
    """A folder that only its owner can read, for one run; `clear` the output folder before.

    Each has a new name: a program that outlived a killed run, and still writes, does not reach it.
    """
    folder = output / FOLDER
    with made(output):
        folder.mkdir(mode=0o700)
        try:
            with held(folder), ExitStack() as ending, placed(output / JOURNAL):
                try:
                    yield Path(tempfile.mkdtemp(dir=folder))
                finally:
                    with suppress(OSError):  # the images go, whatever happens
                        # without the folder, the journal would be that of a killed run
                        ending.enter_context(locked(output))
                    shutil.rmtree(folder, ignore_errors=True)
        finally:
            with suppress(OSError):  # mounted, or in a folder of somebody else's: then it stays
                if not any(output.iterdir()):
                    output.rmdir()


def finish(
    files: Sequence[Path],
    output: Path,
    overwrite: bool = False,
    outputs: Sequence[Path] = (),
    leftovers: Sequence[Path] = (),
) -> None:
    """Move finished files of a workspace to the output folder, where those of an earlier run go first.

    Args:
        files: the finished files.
        output: the folder.
        overwrite: whether outputs of an earlier run may go.
        outputs: all that a run may write there, whether this one did or not.
        leftovers: of runs that failed; they go in any case.

    Raises IGTVError where one of the outputs is there by now, unless `overwrite` is given.
    """
    targets = {file: output / file.name for file in files}
    with locked(output):
        refuse_taken(*targets.values(), *outputs, overwrite=overwrite)
        place(targets, output / JOURNAL, [*outputs, *leftovers])


@contextmanager
def held(folder: Path) -> Iterator[int]:
    """A folder in which one process works. Raises IGTVError where another process does.

    Gives the descriptor that holds it: a command that is started with it holds the folder to its own end.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every file system has locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise IGTVError(
                    "another process works in this output folder",
                    file=folder.parent,
                    remedy="wait for its end, or choose another folder",
                    settings=["output"],
                ) from error
        yield descriptor
    finally:
        os.close(descriptor)
