"""Whether an image file holds all that its header says, and nothing else; and the voxels of NIfTI files.

ITK fills what a NIfTI file lacks with zeros, turns NaN and infinity into 0 and verifies no check sum. So the
voxels of NIfTI files are read here (NIfTI-1, https://nifti.nimh.nih.gov), and MetaImage and NRRD
files are checked here before ITK reads them.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nnunet_igtv.errors import IGTVError

CHUNK = 2**20
HEADER = 348  # bytes of a NIfTI-1 header
DENSEST = 1032  # bytes that deflate can make of one
LONGEST_NAME = 255  # bytes
# data types of NIfTI (the field `datatype`) that hold one real number
NUMBERS = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
COPY = "copy or download the file again"


def nifti_voxels(path: Path, shown: str) -> np.ndarray:
    """The voxels (slices, rows, columns) of a 3D NIfTI file, scaled as its header says.

    Raises IGTVError (the file named as `shown`) if they are of no known type, too few or too many, or not
    finite, or if the check sum of a compressed file is wrong.
    """
    size = path.stat().st_size
    with open(path, "rb") as stream:
        is_compressed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        chunks = _inflated(stream) if is_compressed else iter(lambda: stream.read(CHUNK), b"")
        try:
            head = b""
            for chunk in chunks:
                head += chunk
                if len(head) >= HEADER:
                    break
            dtype, shape, start, slope, intercept = _nifti_header(head, shown)
            length = start + int(np.prod(shape, dtype=object)) * dtype.itemsize
            if length > size * (DENSEST if is_compressed else 1):
                raise _incomplete(shown)
            content = np.empty(length, np.uint8)
            filled = min(len(head), length)
            content[:filled] = np.frombuffer(head, np.uint8)[:filled]
            excess = len(head) - filled
            for chunk in chunks:
                part = min(len(chunk), length - filled)
                content[filled : filled + part] = np.frombuffer(chunk, np.uint8)[:part]
                filled += part
                excess += len(chunk) - part
        except (zlib.error, EOFError) as error:
            raise _incomplete(shown) from error
    if filled < length:
        raise _incomplete(shown)
    if excess:
        raise IGTVError(f"the image has {excess} bytes more than its header says", file=shown, remedy=COPY)
    numbers = np.frombuffer(content.data, dtype, offset=start).reshape(shape[::-1])
    refuse_not_finite(numbers, shown)
    if (slope, intercept) == (1.0, 0.0):
        return numbers.astype(dtype.newbyteorder("="), copy=False)
    kind = np.float64 if dtype.itemsize == 8 else np.float32
    return (numbers * np.float64(slope) + np.float64(intercept)).astype(kind)


def refuse_not_finite(voxels: np.ndarray, shown: str) -> None:
    """Raises IGTVError, with their number, if there are voxels that are not finite."""
    if voxels.dtype.kind == "f":
        count = voxels.size - int(np.isfinite(voxels).sum())
        if count:
            raise IGTVError(
                f"{count} voxel(s) are not finite (NaN or infinity)",
                file=shown,
                remedy="find out what they stand for, and write numbers there",
            )


def check_data_file(path: Path, shown: str) -> None:
    """Whether a MetaImage or NRRD header says in plain words which file holds the voxels.

    A pattern (`slice%03d.raw`) goes to printf in ITK as it stands, whatever it holds: a hostile or damaged
    header then overwrites memory. So this comes before ITK sees the file.

    Raises IGTVError for a pattern, for what is no name, and for a header without an end.
    """
    with open(path, "rb") as stream:
        head = stream.read(2**16)
    if head[:4] == b"NRRD":
        end = re.search(rb"\r?\n\r?\n", head)
        names = re.findall(rb"^data ?file:(.*)", head[: end.start()] if end else head, re.I | re.M)
    else:
        names = re.findall(rb"^\s*ElementDataFile\s*[=:](.*)", head, re.M)  # MetaIO takes both signs
        if not names:
            raise _incomplete(shown)
    for name in map(bytes.strip, names):
        if name.upper() == b"LOCAL":  # the voxels begin here
            return
        if len(name) > LONGEST_NAME or not name.isascii() or not name.decode("ascii").isprintable():
            raise _incomplete(shown)
        if b"%" in name:
            raise IGTVError(
                "the voxels are in several files, named by a pattern",
                file=shown,
                remedy="save the image as one file (.nii.gz)",
            )


def check_metaimage(path: Path, shown: str, length: int) -> None:
    """Raises IGTVError if a MetaImage file does not hold `length` bytes of voxels, whole and alone.

    Not for files whose voxels are elsewhere, or written as text: ITK checks those.
    """
    with open(path, "rb") as stream:
        head = stream.read(2**16)
        end = re.search(rb"ElementDataFile\s*=\s*LOCAL\s*?\n", head)
        if end is None or re.search(rb"BinaryData\s*=\s*False", head[: end.end()]):
            return
        stream.seek(end.end())
        is_compressed = re.search(rb"CompressedData\s*=\s*True", head[: end.end()]) is not None
        _check_length(stream, path.stat().st_size - end.end(), length, is_compressed, shown)


def check_nrrd(path: Path, shown: str, length: int) -> None:
    """Raises IGTVError if an NRRD file does not hold `length` bytes of voxels, whole and alone.

    Not for files whose voxels are elsewhere, or encoded in other ways than raw and gzip: ITK checks those.
    """
    with open(path, "rb") as stream:
        head = stream.read(2**16)
        end = re.search(rb"\r?\n\r?\n", head)
        encoding = re.search(rb"\nencoding:\s*(\w+)", head[: end.start()]) if end else None
        if end is None or encoding is None or re.search(rb"\n(data ?file|\w+ skip):", head[: end.start()]):
            return
        stream.seek(end.end())
        if encoding[1] in (b"raw", b"gzip", b"gz"):
            _check_length(stream, path.stat().st_size - end.end(), length, encoding[1] != b"raw", shown)


def _check_length(stream: BinaryIO, size: int, length: int, is_compressed: bool, shown: str) -> None:
    """Raises IGTVError if what is left of a stream (`size` bytes) does not hold `length` bytes of voxels."""
    held = size
    if is_compressed:
        if length > size * DENSEST:
            raise _incomplete(shown)
        try:
            held = sum(map(len, _inflated(stream)))
        except (zlib.error, EOFError) as error:
            raise _incomplete(shown) from error
    if held < length:
        raise _incomplete(shown)
    if held > length:
        raise IGTVError(
            f"the image has {held - length} bytes more than its header says", file=shown, remedy=COPY
        )


def _inflated(stream: BinaryIO) -> Iterator[bytes]:
    """What a gzip or zlib stream holds, in parts, its check sums verified.

    Several gzip members in a row count as one; zeros may follow (tapes and some archives pad with them).
    Raises zlib.error and EOFError.
    """
    data = stream.read(CHUNK)
    while data:
        decoder = zlib.decompressobj(32 + zlib.MAX_WBITS)
        while not decoder.eof:
            if not data:
                raise EOFError
            yield decoder.decompress(data, 16 * CHUNK)
            data = decoder.unconsumed_tail or (b"" if decoder.eof else stream.read(CHUNK))
        data = (decoder.unused_data or stream.read(CHUNK)).lstrip(b"\0")
        while not data and (more := stream.read(CHUNK)):
            data = more.lstrip(b"\0")


def _nifti_header(head: bytes, shown: str) -> tuple[np.dtype, tuple[int, ...], int, float, float]:
    """Type of the stored numbers, (columns, rows, slices), where they begin, slope and intercept."""
    is_little = head[:4] == struct.pack("<i", HEADER)
    order = "<" if is_little else ">"
    if len(head) < HEADER or (not is_little and head[:4] != struct.pack(">i", HEADER)):
        raise IGTVError("the image cannot be read: no NIfTI-1 header", file=shown, remedy=COPY)
    if head[344:348] != b"n+1\0":
        raise IGTVError("the image cannot be read: not header and voxels in one file", file=shown)
    _, *shape = struct.unpack_from(f"{order}4h", head, 40)
    code, start, slope, intercept = struct.unpack_from(f"{order}h36xfff", head, 70)
    if code not in NUMBERS or min(shape) < 1 or not 0 <= start < 2**63:
        raise IGTVError(f"the image cannot be read: NIfTI data type {code}, size {shape}", file=shown)
    if slope == 0 or not np.isfinite(slope):  # "no scaling": the standard's 0, and what other readers accept
        slope, intercept = 1.0, 0.0
    if not np.isfinite(intercept):
        raise IGTVError("the voxels are shifted by what is no number (scl_inter)", file=shown)
    dtype = np.dtype(order + NUMBERS[code])
    return dtype, tuple(shape), max(int(start), HEADER), slope, intercept


def _incomplete(shown: str) -> IGTVError:
    return IGTVError("the image cannot be read: the file is cut off or damaged", file=shown, remedy=COPY)
