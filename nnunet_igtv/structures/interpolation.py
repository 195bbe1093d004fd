"""What lies between two planes of contours, where it is asked for: interpolation of the shape.

The signed distances to the outlines of both planes are averaged (Raya and Udupa, IEEE Transactions on Medical
Imaging 9, 1990, doi:10.1109/42.52980). Parts of one plane that touch nothing in the other have no
counterpart there; they reach half of the way.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt, label

from nnunet_igtv.structures.outlines import around, within
from nnunet_igtv.structures.regions import Region


def between(lower: Region, upper: Region, share: float, spacing: tuple[float, float]) -> Region:
    """The pixels at a height between two planes.

    Args:
        share: how far from the lower (0) to the upper (1).
        spacing: of rows and columns, mm.
    """
    window = around([lower.window, upper.window])
    low, high = (np.zeros([s.stop - s.start for s in window], bool) for _ in range(2))
    low[within(window, lower.window)] = lower.pixels
    high[within(window, upper.window)] = upper.pixels
    alone_below, alone_above = _without_counterpart(low, high), _without_counterpart(high, low)
    low, high = low & ~alone_below, high & ~alone_above
    pixels = (alone_below if share < 0.5 else alone_above).copy()
    if low.any() and high.any():
        distance = (1 - share) * _signed_distance(low, spacing) + share * _signed_distance(high, spacing)
        pixels |= distance > 0
    return Region(window, pixels, float(pixels.sum()), 0.0)


def _without_counterpart(mask: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The connected parts of a mask that have no pixel in common with another."""
    parts, _ = label(mask, np.ones((3, 3)))
    return mask & ~np.isin(parts, parts[mask & other])


def _signed_distance(mask: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Distance in mm to the border of a mask, positive inside; nothing is inside beyond the array."""
    padded = np.pad(mask, 1)
    signed = distance_transform_edt(padded, spacing) - distance_transform_edt(~padded, spacing)
    return signed[1:-1, 1:-1]
