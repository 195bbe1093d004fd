"""Files that appear whole or not at all: written under another name, then renamed into their place.

What is renamed into place is on the disk first, and the folder that names it afterwards: a power failure
leaves the old file or the new one.
"""

import fcntl
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from nnunet_igtv.errors import IGTVError


@contextmanager
def written_whole(path: str | Path, mode: int = 0o666) -> Iterator[Path]:
    """An empty file next to `path` to write to; on success it takes the place of `path`, else it is removed.

    Its name is always the same: what a killed run left there is gone with the next. Of two processes (or
    threads) that write one file at the same time, the second waits for the first.

    Args:
        mode: its permissions, which the umask makes narrower.
    """
    path = Path(path)
    unfinished = _unfinished(path)
    with _named(path):
        descriptor = _own(unfinished, mode)
        try:
            yield unfinished
            replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)


def _own(unfinished: Path, mode: int) -> int:
    """A new file of this name that nobody else writes; it is closed when it has been renamed or removed."""
    while True:
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT, mode)
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            is_named = os.path.samestat(os.fstat(descriptor), unfinished.stat())
        except FileNotFoundError:
            is_named = False
        if is_named and os.fstat(descriptor).st_size == 0:
            with suppress(OSError):  # not every file system has permissions
                os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & mode)
            return descriptor
        if is_named:  # a killed run's
            unfinished.unlink()
        os.close(descriptor)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """An error of the system names the file, also where the disk became full: then it names none itself."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def written_once(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """As `written_whole`, for a name that is free, or whose file the user wants replaced: see `is_free`.

    A run that is killed when the file has its name already leaves a journal, so that the next run finds the
    name free. Of two runs that write it at the same time, the second waits, and finds the name taken.

    Raises IGTVError where the name is taken by now.
    """
    with written_together([Path(path)], overwrite) as (unfinished,):
        yield unfinished


@contextmanager
def written_together(paths: Sequence[Path], overwrite: bool = False) -> Iterator[list[Path]]:
    """As `written_once`, for several files of one folder, which appear together. The folder is made.

    With `overwrite`, what is there of them goes before the first new one appears: see `place`.
    """
    folder, journal = paths[0].parent, _journal(paths[0])
    unfinished = [_unfinished(path) for path in paths]
    with _named(paths[0]), made(folder), locked(folder):
        withdraw(journal)
        refuse_taken(*paths, overwrite=overwrite)
        with placed(journal):
            try:
                for each in unfinished:
                    each.unlink(missing_ok=True)
                yield unfinished
                place(dict(zip(unfinished, paths, strict=True)), journal)
            finally:
                for each in unfinished:
                    each.unlink(missing_ok=True)


def refuse_existing(*outputs: Path, overwrite: bool = False) -> None:
    """Every command refuses an output that exists, before it computes, unless `overwrite` is given.

    Args:
        outputs: files that are written together, in that order, or a single one.

    Raises IGTVError for a file or folder of this name; what a killed run had placed there is none.
    """
    is_free(outputs[0])
    refuse_taken(*outputs, overwrite=overwrite)


def refuse_taken(*outputs: Path, overwrite: bool) -> None:
    """As `refuse_existing`, for a process that has the lock on the folder."""
    for output in outputs:
        if output.exists() and not overwrite:
            raise IGTVError(
                "the output exists already",
                file=output,
                remedy="choose another name, or overwrite it",
                settings=["output", "overwrite"],
            )


def is_free(path: Path) -> bool:
    """Whether no file has this name; one that a killed run had placed under it is removed first, with those
    that it had placed together with it."""
    if _journal(path).exists():
        with locked(path.parent):  # by the end of a run that is placing files, its journal is gone
            withdraw(_journal(path))
    return not path.exists()


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """The folder and its parents are there in here; on an exception those that were not before are gone."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for each in missing:
            with suppress(OSError):  # not empty: another process uses it
                each.rmdir()
        raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process (and thread) at a time is in here with the same folder; others wait. It must exist.

    The lock leaves no file, and ends with the process. A folder that cannot be listed has none.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        yield
        return
    try:
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def placed(journal: Path) -> Iterator[None]:
    """What `place` does in here is undone if it ends in an exception, and by `withdraw` after a kill."""
    try:
        yield
    except BaseException:
        withdraw(journal)
        raise
    journal.unlink(missing_ok=True)  # the very last change: from now on the files are there to stay


def place(files: Mapping[Path, Path], journal: Path, earlier: Iterable[Path] = ()) -> None:
    """Give finished files their names, never one of them beside a file of an earlier run.

    A single file takes the place of its predecessor. Of several, and where other files of the `earlier` run
    are there, all old ones go before the first new one appears. The journal says, before, which files are on
    their way: the old ones, then the new ones whose names are free.
    """
    there = {path for path in (*earlier, *files.values()) if path.exists()}
    if there and len(there.union(files.values())) > 1:
        for unfinished in files:
            _sync(unfinished)
        _write_journal(journal, {path.name: path for path in there})
        for path in sorted(there):
            path.unlink()
    _write_journal(journal, {path.name: new for new, path in files.items() if not path.exists()})
    for unfinished, path in files.items():
        replace(unfinished, path)


def _write_journal(journal: Path, files: Mapping[str, Path]) -> None:
    write_text(journal, json.dumps({name: _traits(path) for name, path in files.items()}), 0o600)


def withdraw(journal: Path) -> None:
    """Remove the files that a journal names, which are in its folder, and the journal; no other file."""
    if not journal.is_file():
        return
    try:
        placed: dict[str, list[int]] = dict(json.loads(journal.read_bytes()))
    except (ValueError, TypeError):  # no journal of ours
        placed = {}
    for name, traits in placed.items():
        path = journal.with_name(Path(name).name)
        if path.is_file() and _traits(path) == traits:
            path.unlink()
    journal.unlink()


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _journal(path: Path) -> Path:
    return path.with_name(f".{path.name}.journal")


def _traits(path: Path) -> list[int]:
    """What tells a file from one that somebody else put in its place; renaming keeps it."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def write_text(path: str | Path, text: str, mode: int = 0o644) -> None:
    """A text file of `encoded(text)`; it never has wider permissions than `mode`."""
    with written_whole(path, mode) as unfinished:
        unfinished.write_bytes(encoded(text))


def encoded(text: str) -> bytes:
    r"""UTF-8; a byte of a file's name that is not UTF-8, such as 0xE9, as `\udce9`."""
    return text.encode("utf-8", "backslashreplace")


def replace(unfinished: Path, path: Path) -> None:
    """Rename a finished file into its place, durably."""
    _sync(unfinished)
    os.replace(unfinished, path)
    with suppress(OSError):  # some file systems cannot sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _sync(file: Path) -> None:
    with open(file, "rb+") as stream:
        os.fsync(stream.fileno())
