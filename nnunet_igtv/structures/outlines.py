"""One closed contour in the plane: its pixels, its area, and how it lies to another."""

from enum import Enum
from functools import cached_property

import numpy as np

from nnunet_igtv.structures.fill import even_odd, filled, ranges

Window = tuple[slice, slice]  # rows and columns of an image

EDGE = 0.01  # pixels: an outline may run along the border of the image
LINE = 1e-6  # of its length: how far the points of a line may be beside it
SAMPLES = 64  # along the longer side of the smaller outline, to compare two on
SAME = 0.1  # pixels: outlines that are nearer to each other on average are one outline
TOUCHING = 0.02  # of the smaller outline: an overlap up to this is a common border
HOLE = 0.9  # of the smaller outline: a hole or island has at least this part inside the larger one
TWIN = 0.9  # of the larger outline: two of about the same size that cross are no hole and its border


class Lie(Enum):
    """How the smaller of two outlines lies to the larger."""

    APART = "no pixel in common"
    TOUCHING = "a border in common"
    PARTLY = "partly inside, and partly not"
    INSIDE = "inside, or nearly so: a hole, or an island in a hole"
    SAME = "the same outline twice"


class Outline:
    """One closed polygon in pixel coordinates (column, row), and its pixels in an image.

    A pixel is inside if its centre is, by the even-odd rule, or if its centre is on the outline.

    Attributes:
        points: (n, 2); may reach beyond the image.
        window: the part of the image around it.
        pixels: bool, in the window.
        is_cut: whether it reaches beyond the image.
    """

    def __init__(self, points: np.ndarray, rows: int, columns: int) -> None:
        self.points = points
        self.low, self.high = points.min(0), points.max(0)
        first = np.clip(np.floor(self.low), 0, (columns, rows)).astype(int)
        end = np.clip(np.ceil(self.high) + 1, first, (columns, rows)).astype(int)
        self.window: Window = slice(first[1], end[1]), slice(first[0], end[0])
        self.pixels = filled(points, first, (int(end[1] - first[1]), int(end[0] - first[0])))
        edge = 0.5 + EDGE
        self.is_cut = bool(
            (self.low < -edge).any() or (self.high > np.array([columns, rows]) - 1 + edge).any()
        )

    @cached_property
    def green(self) -> float:
        """The area by Green's formula, in pixels."""
        x, y = (self.points - self.low).T
        return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)

    @cached_property
    def length(self) -> float:
        """In pixels."""
        return float(np.linalg.norm(self.points - np.roll(self.points, 1, axis=0), axis=1).sum())

    @property
    def is_line(self) -> bool:
        """Whether all its points are on a straight line, up to rounding."""
        x, y = (self.points - self.points[0]).T
        farthest = np.argmax(x**2 + y**2)
        across = np.abs(x * y[farthest] - y * x[farthest]).max()
        return bool(across <= LINE * (x[farthest] ** 2 + y[farthest] ** 2))

    @property
    def rounding(self) -> float:
        """The most by which the number of pixels in a convex outline differs from its area (Nosarzewska,
        Colloquium Mathematicum 1, 1948): half its length, and one."""
        return self.length / 2 + 1

    def loops(self) -> list[np.ndarray]:
        """The outline cut where it comes back to one of its points: a keyhole into border and hole."""
        found: list[list[tuple[float, ...]]] = []
        path: list[tuple[float, ...]] = []
        place: dict[tuple[float, ...], int] = {}
        for point in map(tuple, np.round(self.points, 6).tolist()):
            if point in place:
                loop = path[place[point] :]
                found.append(loop)
                del path[-len(loop) :]
                for passed in loop:
                    del place[passed]
            place[point] = len(path)
            path.append(point)
        return [np.array(loop) for loop in [*found, path] if len(loop) >= 3]

    def lies(self, larger: "Outline") -> Lie:
        """How this outline lies to one of the same or a larger area.

        Decided on a lattice that fits the smaller one, because pixels may be too coarse for a thin wall.
        """
        if (self.low > larger.high).any() or (larger.low > self.high).any():
            return Lie.APART
        around = larger.pixels_in(self.window)
        if not self.is_cut and around.size and around.all() and larger.green > 2 * self.green:
            return Lie.INSIDE
        step = max((self.high - self.low).max() / SAMPLES, 1e-9)
        x, y = (np.arange(a + step / 2, b, step) for a, b in zip(self.low, self.high, strict=True))
        own, others = self.sampled(x, y), larger.sampled(x, y)
        if not own.any():
            return Lie.APART
        common = float((own & others).sum() / own.sum())
        if self.green + larger.green - 2 * common * self.green < SAME * self.length:
            return Lie.SAME
        if common <= TOUCHING:
            return Lie.TOUCHING if (around & self.pixels).any() else Lie.APART
        crossing = common < 0.995 and self.green > TWIN * larger.green
        return Lie.PARTLY if common < HOLE or crossing else Lie.INSIDE

    def pixels_in(self, window: Window) -> np.ndarray:
        """Its pixels in another part of the image."""
        result = np.zeros([s.stop - s.start for s in window], bool)
        first = [max(a.start, b.start) for a, b in zip(window, self.window, strict=True)]
        end = [min(a.stop, b.stop) for a, b in zip(window, self.window, strict=True)]
        if first[0] < end[0] and first[1] < end[1]:
            common = slice(first[0], end[0]), slice(first[1], end[1])
            result[within(window, common)] = self.pixels[within(self.window, common)]
        return result

    def sampled(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether the points of a lattice (columns x, rows y, ascending) are inside, by the even-odd rule."""
        start, end = self.points, np.roll(self.points, -1, axis=0)
        first, last = np.sort(np.searchsorted(y, [start[:, 1], end[:, 1]]), axis=0)
        edge, row = ranges(first, last)  # each edge with each row that it crosses
        (x0, y0), (x1, y1) = start[edge].T, end[edge].T
        crossing = x0 + (y[row] - y0) / (y1 - y0) * (x1 - x0)
        return even_odd(row, np.searchsorted(x, crossing), (len(y), len(x)))


def within(window: Window, part: Window) -> Window:
    """Where a part of the image lies in a window around it."""
    rows, columns = (slice(p.start - w.start, p.stop - w.start) for w, p in zip(window, part, strict=True))
    return rows, columns


def around(windows: list[Window]) -> Window:
    """The smallest window that holds some windows."""
    rows, columns = (
        slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*windows, strict=True)
    )
    return rows, columns
