"""The size that a compressed image states itself: JPEG, JPEG-LS and JPEG 2000.

Decoders fill the rows and columns of the DICOM header with whatever the stream holds. A stream of another
width, with as many pixels, would be read as a scrambled slice.
"""

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

# markers of a frame header: ISO/IEC 10918-1, table B.1 (without DHT, JPG and DAC), and 14495-1 (JPEG-LS)
FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000: SOC and SIZ (ISO/IEC 15444-1, A.5.1)


def sizes(dataset: Dataset) -> list[tuple[int, int] | None]:
    """(rows, columns) of each frame's stream; None for one that states none. Raises ValueError."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    return [_size(stream) for stream in generate_frames(dataset.PixelData, number_of_frames=frames)]


def _size(stream: bytes) -> tuple[int, int] | None:
    if stream.startswith(b"\xff\xd8"):
        return _jpeg(stream)
    at = stream.find(CODESTREAM, 0, 4096)  # some writers put it into the boxes of a JP2 file
    if at < 0 or len(stream) < at + 24:
        return None
    width, height, left, top = (int.from_bytes(stream[at + n : at + n + 4], "big") for n in (8, 12, 16, 20))
    return height - top, width - left


def _jpeg(stream: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker in FRAME_HEADERS:
            height, width = (int.from_bytes(stream[at + n : at + n + 2], "big") for n in (5, 7))
            return (height, width) if height else None  # 0: stated after the image
        at += 1 if marker == 0xFF else 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None
