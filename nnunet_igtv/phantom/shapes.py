"""Solid shapes as fields of signed distance, negative inside, mm; the anatomy is composed of them."""

from typing import NamedTuple

import numpy as np

Vector = tuple[float, float, float]


class Centres(NamedTuple):
    """Coordinates of voxel centres, mm: x to the patient's left, y to the back, z to the head.

    They broadcast to (S, H, W): x (1, 1, W), y (1, H, 1), z (S, 1, 1).
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    @property
    def voxel(self) -> float:
        """Edge of a voxel within the slice, mm."""
        return float(self.x[0, 0, 1] - self.x[0, 0, 0])

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.z.size, self.y.size, self.x.size

    def box(self, centre: Vector, reach: float) -> tuple[slice, slice, slice]:
        """Index range of the voxels within `reach` mm of `centre` along each axis."""
        ranges = []
        for axis, middle in zip((self.z, self.y, self.x), reversed(centre), strict=True):
            values = axis.ravel()
            ranges.append(slice(*np.searchsorted(values, (middle - reach, middle + reach))))
        return ranges[0], ranges[1], ranges[2]

    def cut(self, box: tuple[slice, slice, slice]) -> "Centres":
        """The part of the grid in an index range."""
        return Centres(self.x[:, :, box[2]], self.y[:, box[1]], self.z[box[0]])


def filled(distance: np.ndarray, voxel: float) -> np.ndarray:
    """Fraction of each voxel that is inside, 0 to 1: the partial volume effect at the surface."""
    return np.clip(0.5 - distance / voxel, 0, 1).astype(np.float32)


def ellipsoid(
    grid: Centres, centre: Vector, radii: Vector, tilt: float = 0.0, power: float = 2.0
) -> np.ndarray:
    """An ellipsoid, or a rounded box (power > 2), turned by `tilt` radians about z; radii may be infinite."""
    x, y, z = grid.x - centre[0], grid.y - centre[1], grid.z - centre[2]
    if tilt:
        x, y = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
    level = (abs(x / radii[0]) ** power + abs(y / radii[1]) ** power + abs(z / radii[2]) ** power) ** (
        1 / power
    )
    return (level - 1) * min(radii)


def capsule(grid: Centres, start: Vector, end: Vector, radius: float) -> np.ndarray:
    """A straight tube with round ends."""
    a, b = np.array(start), np.array(end)
    way = b - a
    offset = [grid.x - a[0], grid.y - a[1], grid.z - a[2]]
    along = np.clip(sum(o * w for o, w in zip(offset, way, strict=True)) / max(way @ way, 1e-6), 0, 1)
    return np.sqrt(sum((o - along * w) ** 2 for o, w in zip(offset, way, strict=True))) - radius


def union(*distances: np.ndarray) -> np.ndarray:
    """The union of the shapes."""
    result = distances[0]
    for distance in distances[1:]:
        result = np.minimum(result, distance)
    return result
