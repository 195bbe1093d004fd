"""Which pixels of an image a polygon encloses."""

import numpy as np
from skimage.measure import points_in_poly

FLAT = 1e-3  # rows: an edge that rises by less may touch any pixel along it
NEAR = 1e-9, 1e-5  # rows and columns: pixel centres so near to an edge are examined one by one


def filled(points: np.ndarray, first: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The pixels inside a polygon by the even-odd rule, and those whose centre is on its outline.

    Line by line: a centre is inside if an odd number of edges crosses its line to the right of it. Those that
    lie on an edge, to rounding, are left to scikit-image, whose `polygon` gives the same pixels by comparing
    each pixel with each edge, a hundred times slower for the outline of a body.

    Args:
        points: (n, 2), column and row.
        first: column and row of the first pixel.
        shape: rows and columns of the result.
    """
    rows, columns = shape
    if not rows * columns:
        return np.zeros(shape, bool)
    start, end = points - first, np.roll(points, -1, axis=0) - first
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    top = np.clip(np.ceil(low - NEAR[0]), 0, rows).astype(int)
    below = np.clip(np.floor(high + NEAR[0]) + 1, top, rows).astype(int)
    edge, row = ranges(top, below)
    (x0, y0), (x1, y1) = start[edge].T, end[edge].T
    rise = y1 - y0
    flat = np.abs(rise) < FLAT
    share = np.clip((row - y0) / np.where(rise == 0, 1.0, rise), 0, 1)
    crossing = x0 + share * (x1 - x0)

    is_crossed = (low[edge] <= row) & (row < high[edge])
    right_of = np.clip(np.ceil(crossing[is_crossed]), 0, columns).astype(int)
    inside = even_odd(row[is_crossed], right_of, shape)

    left = np.where(flat, np.minimum(x0, x1), crossing) - NEAR[1]
    right = np.where(flat, np.maximum(x0, x1), crossing) + NEAR[1]
    left = np.clip(np.ceil(left), 0, columns).astype(int)
    right = np.clip(np.floor(right) + 1, left, columns).astype(int)
    near, column = ranges(left, right)
    pixels = np.unique(row[near] * columns + column)
    r, c = np.divmod(pixels, columns)
    inside[r, c] = points_in_poly(np.column_stack([c, r]) + first, points)
    return inside


def even_odd(row: np.ndarray, right_of: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Where an odd number of crossings is to the left.

    Args:
        row: of each crossing of an edge with a row's line.
        right_of: the first column to the right of it, at most the number of columns.
        shape: rows and columns of the result.
    """
    toggles = np.zeros((shape[0], shape[1] + 1), np.int32)
    np.add.at(toggles, (row, right_of), 1)
    return toggles[:, :-1].cumsum(1) % 2 == 1


def ranges(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The whole numbers of each range, after each other, and which range each is of."""
    counts = stop - start
    number = np.repeat(np.arange(len(counts)), counts)
    return number, np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts, counts) + start[number]
