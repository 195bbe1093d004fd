"""Pixel padding: what images hold where nothing was reconstructed (DICOM PS3.3 C.7.5.1.1.2).

Pixel Padding Value (0028,0120), with its Range Limit (0028,0121), may be written signed or unsigned whatever
the pixels are, so that -2000 stands as 63536: both are the same 16 bits. A padding value that tissue can have
counts only where it is connected to the border of the slice.
"""

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from scipy import ndimage

from nnunet_igtv.dicom.attributes import attribute, values_of

# the values that something in the field of view can have, in HU and in units of activity
TISSUE = {"CT": (-1023.0, 32768.0), "PT": (np.finfo(float).tiny, np.inf)}


@dataclass(frozen=True)
class Padding:
    """The rescaled values, lowest and highest, that mean "not reconstructed"."""

    lowest: float
    highest: float

    def pixels(self, values: np.ndarray, modality: str) -> np.ndarray:
        """Which pixels of a slice are padding: a boolean array of its shape."""
        found = (values >= self.lowest) & (values <= self.highest)
        tissue = TISSUE[modality]
        if self.highest < tissue[0] or self.lowest > tissue[1] or not found.any():
            return found
        return at_the_border(found)


def padding_of(header: Dataset, slope: float, intercept: float) -> Padding | None:
    """The padding of an image; None if its header has none."""
    first = _stored(header, "PixelPaddingValue")
    if first is None:
        return None
    last = _stored(header, "PixelPaddingRangeLimit")
    ends = sorted(v * slope + intercept for v in (first, first if last is None else last))
    return Padding(ends[0] - slope / 4, ends[1] + slope / 4)


def _stored(header: Dataset, name: str) -> int | None:
    """A padding attribute as the pixels would hold it, signed or unsigned as they are."""
    values = values_of(header, name)
    if not values:
        return None
    value = values[0]
    try:
        number = int.from_bytes(value, "little") if isinstance(value, bytes) else int(value)
        bits = int(attribute(header, "BitsAllocated") or 16)
    except (TypeError, ValueError):
        return None
    number %= 2**bits
    signed = attribute(header, "PixelRepresentation") == 1
    return number - 2**bits if signed and number >= 2 ** (bits - 1) else number


def at_the_border(mask: np.ndarray) -> np.ndarray:
    """The parts of a mask that are connected to the border of the slice."""
    labels, _ = ndimage.label(mask)
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.isin(labels, border[border > 0])
