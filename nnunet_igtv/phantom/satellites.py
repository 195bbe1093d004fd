"""Foci of inflammation near the tumour: they take up FDG and move with it, and are no tumour.

In an outer slice a faint spot is the tumour's fading end or such a focus. Neighbouring slices tell: the spot
grows into the tumour, or it ends. Inflammation and granulomas take up FDG as tumours do (SUVmax 4.6 +- 2.8
and 6.8 +- 4.0 in 113 benign lesions, PMC6626856). These are smaller and colder than the tumour: where foci
outshine it, nothing in the images says which is which.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nnunet_igtv.phantom.shapes import Centres, Vector, ellipsoid, filled
from nnunet_igtv.phantom.tumour import Tumour

_SIZE = 0.4, 0.8  # semi-axes, of the tumour's radius
_UPTAKE = 0.3, 0.8  # of the tumour's
_GAP = 0.0, 15.0  # mm between its largest semi-axis and the tumour's mean surface
_HARDNESS = 40.0  # HU


@dataclass(frozen=True)
class Satellite:
    """An ellipsoid. Lengths in mm, angle in radians about the body axis, uptake in SUV."""

    centre: Vector  # at end-exhale
    axes: Vector
    tilt: float
    suv: float

    def paint(self, grid: Centres, shift: np.ndarray, hu: np.ndarray, suv: np.ndarray) -> None:
        """Draw it, moved by `shift`, into volumes on `grid`, in place."""
        x, y, z = np.array(self.centre) + shift
        box = grid.box((x, y, z), max(self.axes) + 2 * grid.voxel)
        part = filled(ellipsoid(grid.cut(box), (x, y, z), self.axes, self.tilt), grid.voxel)
        hu[box] += part * (_HARDNESS - hu[box])
        suv[box] += part * (self.suv - suv[box])


def around(
    tumour: Tumour, number: int, rng: np.random.Generator, allowed: Callable[[Vector], bool]
) -> tuple[Satellite, ...]:
    """Random satellites with their centres where it is allowed."""
    found: list[Satellite] = []
    while len(found) < number:
        a, b, c = (float(axis) for axis in tumour.radius * rng.uniform(*_SIZE, 3))
        direction = rng.normal(size=3)
        away = (tumour.radius + max(a, b, c) + rng.uniform(*_GAP)) / np.linalg.norm(direction)
        x, y, z = (float(m + away * d) for m, d in zip(tumour.centre, direction, strict=True))
        tilt, uptake = float(rng.uniform(0, np.pi)), float(tumour.suv * rng.uniform(*_UPTAKE))
        if allowed((x, y, z)):
            found.append(Satellite((x, y, z), (a, b, c), tilt, uptake))
    return tuple(found)
