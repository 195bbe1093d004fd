"""Finding DICOM files, and reading their headers."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

from nnunet_igtv.dicom.quiet import quiet
from nnunet_igtv.errors import OF_THE_PROCESS, IGTVError, blamed

UNDEFINED_LENGTH = 0xFFFFFFFF
# what macOS puts beside files on other file systems and in archives: named after them, with other content
OF_MACOS = ("._", "__MACOSX")
ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".dcm.gz")


def list_files(folder: str | Path) -> list[Path]:
    """Every regular file under a folder (or the file itself), sorted. Links to folders are followed, and
    each folder is taken once; what macOS adds to files ("._CT.nii.gz") is left out.

    Raises IGTVError where a folder is missing or cannot be listed.
    """
    files, closed = find_files(folder)
    if closed:
        raise closed[0]
    return files


def find_files(folder: str | Path) -> tuple[list[Path], list[IGTVError]]:
    """As `list_files`; what cannot be listed is returned as errors, and the rest is found."""
    folder = Path(folder)
    if folder.is_file():
        return [folder], []
    if not folder.is_dir():
        raise IGTVError("no such file or folder", file=folder, remedy="check the path")
    files: list[Path] = []
    refused: list[OSError] = []
    for root, names in _folders(folder, refused.append):
        for path in (Path(root, name) for name in names):
            try:
                if stat.S_ISREG(path.stat().st_mode):
                    files.append(path)
            except OSError as error:  # also a link to nowhere, such as to a file that was not downloaded
                if not path.name.startswith("."):  # programs keep locks in hidden links
                    refused.append(error)
    if failure := next((each for each in refused if each.errno in OF_THE_PROCESS), None):
        raise failure
    closed = {str(error.filename): error for error in refused}
    return sorted(files), [
        IGTVError(
            f"cannot be read ({error.strerror})",
            file=name,
            remedy="give yourself the permission, or take it out of the folder",
        )
        for name, error in sorted(closed.items())
    ]


def _folders(folder: Path, refused: Callable[[OSError], None]) -> Iterator[tuple[str, list[str]]]:
    """Each folder below one and the names of its files; what is reached by a link comes last, and once."""
    seen: set[str] = set()
    tops = [str(folder)]
    while tops:
        links = []
        for root, folders, names in os.walk(tops.pop(0), onerror=refused):
            real = os.path.realpath(root)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = [name for name in folders if not name.startswith(OF_MACOS)]
            links += [path for name in folders if os.path.islink(path := os.path.join(root, name))]
            yield root, [name for name in names if not name.startswith(OF_MACOS)]
        tops += sorted(links)


def packed(files: list[Path], folder: Path) -> list[IGTVError]:
    """An error for each archive among the files found under `folder`: studies in it are not read."""
    return [
        IGTVError("a packed archive is not read", file=file, remedy="unpack it, or take it out of the folder")
        for file in files
        if file != folder and file.name.lower().endswith(ARCHIVES)
    ]


def read_header(path: Path) -> Dataset | None:
    """The header of a DICOM file, without pixels; None for a file that is none.

    Files without the 128-byte preamble are taken for DICOM if they begin with a group 0002 or 0008 element.
    Raises IGTVError for a file that claims to be DICOM and cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(132)
        if not head and path.suffix.lower() in (".dcm", ".dicom", ".ima"):
            raise ValueError("the file is empty")
        if head[128:132] != b"DICM" and head[:2] not in (b"\x02\x00", b"\x08\x00"):
            return None
        with quiet():
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            if any(map(_is_cut, map(header.get_item, header.keys()))):
                raise EOFError("the file ends within an element")
            if "SOPClassUID" in header:
                return header
            if (
                head[128:132] != b"DICM"
                or header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage
            ):
                return None
            raise ValueError("no SOP Class UID")
    except Exception as error:  # pydicom raises whatever the damage leads to
        damaged = IGTVError(
            f"unreadable DICOM file ({type(error).__name__})",
            file=path,
            remedy="export the study again, or take this file out of the folder",
        )
        raise blamed(error, damaged) from error


def _is_cut(element: DataElement | RawDataElement | None) -> bool:
    """Whether the file ended before the element did, which pydicom does not mention."""
    return (
        isinstance(element, RawDataElement)
        and element.length != UNDEFINED_LENGTH
        and len(element.value or b"") < element.length
    )
