"""Files that appear whole or not at all: written under another name, then renamed into their place.

What is renamed into place is on the disk first, and the folder that names it afterwards: a power failure
leaves the old file or the new one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A name next to `path` to write to; on success it takes the place of `path`, else it is removed.

    The name is always the same: what a killed run left there is gone with the next.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.partial")
    unfinished.unlink(missing_ok=True)
    try:
        yield unfinished
        replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: str | Path, text: str, mode: int = 0o644) -> None:
    """A text file of `encoded(text)`; it never has wider permissions than `mode`."""
    with written_whole(path) as unfinished:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as stream:
            stream.write(encoded(text))


def encoded(text: str) -> bytes:
    r"""UTF-8; a byte of a file's name that is not UTF-8, such as 0xE9, as `\udce9`."""
    return text.encode("utf-8", "backslashreplace")


def replace(unfinished: Path, path: Path) -> None:
    """Rename a finished file into its place, durably."""
    with open(unfinished, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    with suppress(OSError):  # some file systems cannot sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
