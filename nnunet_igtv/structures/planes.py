"""The planes that a structure was drawn on, and which slices of an image each of them stands for.

A plane stands for a slab: up to half-way to the next plane that continues it, if that is as near as the
planes of this structure usually are, and else for half of that usual distance. So contours on every slice go
to their slice, contours between slices to the nearest one, contours on every second or third slice leave no
slices out, and a gap, or the space between two islands, stays empty and is reported. Where the file says how
thick the slabs are (our own do), that is the usual distance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid

FARTHEST_MM = 5000.0  # no patient and no couch reaches farther from an image
ACROSS = 0.5  # slices: how far one contour may rise and fall
ONE_PLANE_MM, ONE_PLANE = 0.1, 0.1  # mm and slices: contours nearer to each other are of one plane
ON_SLICES = 0.1  # slices: planes nearer than this to slices were drawn on them
FINE = 0.75  # slices: planes at less than this distance were drawn on thinner slices
DENSE = 0.95  # slices: of planes at a smaller distance, some go to no slice
COARSE = 1.5  # slices: planes at more than this distance leave out slices
BY_HAND = 3.1  # slices: every second or third slice is drawn on by people
REGULAR = 2  # as many equal distances are the spacing of another stack, however large
CONTINUES = 1.5  # times the usual distance: a plane that is farther away does not continue the last one
BRIDGES = 2.1  # times the usual distance: where interpolation is asked for, over one plane that is missing
LOOK_AHEAD = 16  # planes
TIE = 0.02  # slices: a slice on the border of two slabs belongs to the lower one, also if rounding moves it


@dataclass
class Plane:
    """The contours of one plane.

    Attributes:
        height: slice coordinate.
        position: patient coordinate along the axis that is nearest to the normal, mm.
        polygons: its contours, (points, 2) as column and row.
        low, high: the slab it stands for, in slices.
        above, below: the numbers of the next planes whose contours overlap its own; -1 if there is none.
        joins_above, joins_below: whether the slabs of these planes adjoin its own.
    """

    height: float
    position: float
    polygons: list[np.ndarray]
    low: float = 0.0
    high: float = 0.0
    above: int = -1
    below: int = -1
    joins_above: bool = False
    joins_below: bool = False

    @property
    def slices(self) -> range:
        """The slices that the plane stands for, inside the image or not."""
        first, last = np.floor(np.array([self.low, self.high]) + TIE).astype(int)
        return range(int(first) + 1, int(last) + 1)


def index_coordinates(contours: Sequence[np.ndarray], grid: Grid) -> list[np.ndarray]:
    """Contours in mm -> (points, 3) as column, row and slice. Raises IGTVError for coordinates far away."""
    axes = np.array(grid.direction).reshape(3, 3)
    found = [(points - grid.origin) @ axes / grid.spacing for points in contours]
    for index in found:
        beyond = float((np.maximum(-index, index - grid.size) * grid.spacing).max())
        if beyond > FARTHEST_MM:
            raise IGTVError(
                f"a contour reaches {beyond / 1000:.1f} m beyond the image",
                remedy="export the structure set again",
            )
    return found


def planes_of(contours: Sequence[np.ndarray], grid: Grid) -> list[Plane]:
    """The planes of a structure's contours, which are in mm, from the first slice to the last.

    Raises IGTVError for a contour that does not lie parallel to the slices, or far from the image.
    """
    indices = index_coordinates(contours, grid)
    for index in indices:
        if np.ptp(index[:, 2]) > ACROSS:
            raise IGTVError(
                f"a contour does not lie in a slice of the image (it spans "
                f"{np.ptp(index[:, 2]) * grid.spacing[2]:.1f} mm across the slices)",
                remedy="convert on the image that the structure was drawn on",
            )
    if not indices:
        return []
    heights = np.array([np.median(index[:, 2]) for index in indices])
    order = np.argsort(heights, kind="stable")
    thickness = min(ONE_PLANE, ONE_PLANE_MM / grid.spacing[2])
    starts, first = [], -np.inf
    for place, height in enumerate(heights[order].tolist()):
        if height - first > thickness:
            starts.append(place)
            first = height
    axis = main_axis(grid)
    planes = []
    for members in np.split(order, starts[1:]):
        members = np.sort(members)
        position = float(np.median(contours[members[0]][:, axis]))
        polygons = [indices[m][:, :2] for m in members]
        planes.append(Plane(float(heights[members].mean()), position, polygons))
    return planes


def main_axis(grid: Grid) -> int:
    """The patient axis (0, 1, 2 for x, y, z) that is nearest to the normal of the slices."""
    return int(np.abs(np.array(grid.direction).reshape(3, 3)[:, 2]).argmax())


def usual_distance(heights: np.ndarray, following: np.ndarray) -> float:
    """The distance, in slices, at which a structure's planes continue each other; 1 where nothing says so.

    More than one slice counts only where most distances are like it, and where every second or third slice
    is drawn on, the planes do not lie on the slices, or two distances are the same. Two planes that lie
    on slices show no habit: they may be two lesions.
    """
    distances = heights[following[following >= 0]] - heights[following >= 0]
    if not len(distances):
        return 1.0
    usual = float(np.sort(distances)[(len(distances) - 1) // 2])
    off = float(np.median(np.abs(heights - np.round(heights))))
    alike = (distances >= usual / CONTINUES) & (distances <= CONTINUES * usual)
    equal = int((np.abs(distances - usual) < ON_SLICES).sum())
    by_hand = usual < BY_HAND and len(distances) > 1
    is_habit = alike.mean() > 0.5 and (by_hand or off > ON_SLICES or equal >= REGULAR)
    return usual if usual <= COARSE or is_habit else 1.0


def set_slabs(planes: list[Plane], reach: float = CONTINUES, usual: float | None = None) -> float:
    """Set the slab of each plane. Returns the usual distance of the planes, in slices.

    Args:
        planes: of one structure.
        reach: up to how many times the usual distance a plane continues another.
        usual: that distance, where it is known.
    """
    heights = np.array([plane.height for plane in planes])
    above, below = _following(planes)
    usual = usual or usual_distance(heights, above)
    end = _half(usual)
    limit = max(reach * usual, 1.0) + TIE
    for i, plane in enumerate(planes):
        up = heights[above[i]] - plane.height if above[i] >= 0 else np.inf
        down = plane.height - heights[below[i]] if below[i] >= 0 else np.inf
        plane.high = plane.height + (up / 2 if up <= limit else end)
        plane.low = plane.height - (down / 2 if down <= limit else end)
        plane.above, plane.joins_above = int(above[i]), bool(up <= limit)
        plane.below, plane.joins_below = int(below[i]), bool(down <= limit)
    return usual


def gaps(planes: Sequence[Plane], usual: float, count: int) -> list[tuple[Plane, Plane, int]]:
    """Neighbouring planes that continue each other over more than the usual distance.

    Returns:
        the one, the other, and how many of the image's `count` slices are in the slab of a plane that would
        be between them.
    """
    found = []
    for i, (one, other) in enumerate(pairwise(planes)):
        end = _half(usual)
        first = int(np.floor(one.height + end + TIE)) + 1
        last = int(np.floor(other.height - end + TIE))
        missing = len(range(max(first, 0), min(last + 1, count)))
        if one.above == i + 1 and other.height - one.height > CONTINUES * usual + TIE and missing:
            found.append((one, other, missing))
    return found


def _half(usual: float) -> float:
    """Half the thickness, in slices, of a slab that no other adjoins."""
    return max(usual, 1.0) / 2 if usual > FINE else usual / 2


def _following(planes: Sequence[Plane]) -> tuple[np.ndarray, np.ndarray]:
    """For each plane, the next one above and the next one below whose contours overlap its own; else -1."""
    low = np.array([np.min([p.min(0) for p in plane.polygons], 0) for plane in planes])
    high = np.array([np.max([p.max(0) for p in plane.polygons], 0) for plane in planes])
    count = len(planes)
    above, below = np.full(count, -1), np.full(count, -1)
    for step in range(1, min(LOOK_AHEAD, count - 1) + 1):
        meet = ((low[:-step] <= high[step:]) & (low[step:] <= high[:-step])).all(1)
        ups = np.flatnonzero(meet & (above[:-step] < 0))
        downs = np.flatnonzero(meet & (below[step:] < 0)) + step
        above[ups], below[downs] = ups + step, downs - step
    return above, below
