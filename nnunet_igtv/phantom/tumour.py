"""The lesion: a random irregular solid that takes up FDG unevenly."""

from dataclasses import dataclass

import numpy as np

from nnunet_igtv.phantom.shapes import Centres, Vector, ellipsoid, filled, union

_WAVES = 7  # bumps and dents of the surface
_HARDNESS = 45.0  # HU


@dataclass(frozen=True)
class Tumour:
    """A star-shaped body with lobes. Lengths in mm.

    Attributes:
        centre: at end-exhale.
        radius: mean radius of the main body.
        stretch: relative lengths of its three axes.
        waves: per bump (direction x, y, z, frequency, phase, height relative to the radius).
        lobes: per lobe (offset x, y, z from the centre, radius).
        suv: mean uptake, SUV.
        core: uptake of the inner part relative to the rest (necrosis below 1).
    """

    centre: Vector
    radius: float
    stretch: Vector
    waves: np.ndarray
    lobes: np.ndarray
    suv: float
    core: float

    @classmethod
    def random(cls, rng: np.random.Generator, centre: Vector, radius: float) -> "Tumour":
        directions = rng.normal(size=(_WAVES, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        waves = np.column_stack(
            [
                directions,
                rng.uniform(1.5, 4.5, _WAVES),
                rng.uniform(0, 2 * np.pi, _WAVES),
                rng.uniform(0.02, 0.12, _WAVES),
            ]
        )
        offsets = rng.normal(size=(rng.integers(0, 3), 3))
        offsets *= radius * 0.85 / np.linalg.norm(offsets, axis=1, keepdims=True)
        lobes = np.column_stack([offsets, radius * rng.uniform(0.35, 0.6, len(offsets))])
        stretch = rng.uniform(0.8, 1.2, 3)
        necrotic = radius > 12 and rng.random() < 0.4
        return cls(
            centre,
            radius,
            (float(stretch[0]), float(stretch[1]), float(stretch[2])),
            waves,
            lobes,
            suv=float(np.exp(rng.uniform(np.log(3.5), np.log(13)))),
            core=float(rng.uniform(0.25, 0.6) if necrotic else rng.uniform(0.9, 1.15)),
        )

    @property
    def reach(self) -> float:
        """Largest distance of any part of the tumour from its centre, mm."""
        body = self.radius * (1 + self.waves[:, 5].sum()) * max(self.stretch)
        return float(max([body, *(np.linalg.norm(self.lobes[:, :3], axis=1) + self.lobes[:, 3])]))

    def distance(self, grid: Centres, shift: np.ndarray) -> np.ndarray:
        """Signed distance (nearly) to the surface of the tumour moved by `shift`, mm."""
        centre = np.array(self.centre) + shift
        offset = [(axis - c) / s for axis, c, s in zip(grid, centre, self.stretch, strict=True)]
        length = np.maximum(np.sqrt(sum(o * o for o in offset)), 1e-6)
        surface = np.ones_like(length)
        for *direction, frequency, phase, height in self.waves:
            along = sum(d * o for d, o in zip(direction, offset, strict=True)) / length
            surface = surface + height * np.cos(frequency * along + phase)
        parts = [length - self.radius * surface]
        for *lobe, radius in self.lobes:
            x, y, z = centre + lobe
            parts.append(ellipsoid(grid, (x, y, z), (radius, radius, radius)))
        return union(*parts)

    def paint(self, grid: Centres, shift: np.ndarray, hu: np.ndarray, suv: np.ndarray) -> None:
        """Draw the tumour, moved by `shift`, into volumes on `grid`, in place."""
        x, y, z = np.array(self.centre) + shift
        box = grid.box((x, y, z), self.reach + 2 * grid.voxel)
        distance = self.distance(grid.cut(box), shift)
        part = filled(distance, grid.voxel)
        depth = np.clip(-distance / self.radius, 0, 1)
        uptake = self.suv * (1 + (self.core - 1) * np.clip((depth - 0.25) / 0.3, 0, 1))
        hu[box] += part * (_HARDNESS - hu[box])
        suv[box] += part * (uptake - suv[box])
