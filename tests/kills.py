"""What a command leaves that is killed at any of its file events, and whether the next run completes it.

SIGKILL runs no code of the process: it leaves what is on the disk at that moment. So one run is enough to
know what a kill at each event would leave: a copy of the folder right before it. Of equal copies one is
tried.
"""

import os
import re
import shutil
import sys
from contextlib import contextmanager

CHANGES = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.chmod",
    "os.truncate",
    "shutil.rmtree",
}
LEFTOVER = re.compile(r"^\.|partial|^tmp|unfinished|journal")
_watching = []


def _hook(name, arguments):
    if not _watching:
        return
    if name == "open":
        path, _, flags = arguments
        if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return
    elif name in CHANGES:
        path = arguments[1] if name == "os.rename" else arguments[0]
    else:
        return
    if isinstance(path, str | bytes | os.PathLike):
        _event(os.fsdecode(path))


def _event(path=None):
    folder, called = _watching[-1]
    if path is None or path.startswith(folder):
        called()


_fsync = os.fsync
sys.addaudithook(_hook)  # for good: a hook cannot be removed


@contextmanager
def before_each_change(folder, called):
    """Calls `called()` right before something in a folder is opened to write, renamed, removed or synced."""
    _watching.append((str(folder), called))
    os.fsync = lambda file: (_event(), _fsync(file))[1]
    try:
        yield
    finally:
        os.fsync = _fsync
        _watching.pop()


def contents(folder):
    """Every file, whole."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in files(folder)}


def files(folder):
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def completes_after_every_kill(folder, run, state=contents, left=lambda number: None, every=1):
    """Asserts that `run() == 0` completes what it leaves in `folder` when killed, and leaves nothing over.

    Args:
        folder: all that the command writes to; it begins as it is now.
        run: the command; returns its status.
        state: of the folder, alike after every run.
        left: called with the folder as a kill left it, for more assertions.
        every: how many kills are passed over to try the next, where a run is slow; 1 tries all of them.

    Returns:
        How many file events there were, and how many of them left something else than the one before.
    """
    copies, last, count = folder.with_name(f"{folder.name}-killed"), (), 0
    copies.mkdir()

    def copy():
        nonlocal last, count
        count += 1
        now = {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
        if (folder.is_dir(), now) != last:
            last = folder.is_dir(), now
            if folder.is_dir():
                shutil.copytree(folder, copies / f"{count:04d}")
            else:
                (copies / f"{count:04d}").touch()

    with before_each_change(folder, copy):
        assert run() == 0
    whole = state(folder)
    kills = sorted(copies.iterdir())
    for kill in kills[:: int(os.environ.get("KILLS_EVERY", every))]:
        shutil.rmtree(folder)
        if kill.is_dir():
            kill.rename(folder)
            left(folder)
        where = f"killed before event {kill.name}"
        assert run() == 0, where
        assert state(folder) == whole, where
        assert not [path.name for path in folder.rglob("*") if LEFTOVER.search(path.name)], where
    return count, len(kills)
