"""How a tumour moves with the breath, from its contour on each phase: numbers, and what looks wrong in them.

Volume and centroid of each phase, its displacement from a reference phase along the axes of the patient, the
range of motion, and the IGTV against the largest GTV. It is also a check of the contours: a centroid that
leaves the path of its neighbours, or a volume that differs by a factor, is one contour gone wrong rather than
one breath.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nnunet_igtv.grids import Grid

AXES = ("R-L", "A-P", "S-I")  # x, y, z of DICOM: positive to the left, the back and the head
REFERENCE = "50 %"  # end-exhale, by the usual count from end-inhale
# mm that a centroid may be off the middle between its neighbours, of ten phases. Breathing by sin^6 with
# 25 mm from end to end, as much as lung tumours usually move, reaches 7.2 mm at end-inhale.
JUMP_MM = 10.0
VOLUME_FACTOR = 2.0


@dataclass(frozen=True)
class Position:
    """A tumour in one phase: volume in ml, centroid (x, y, z) in mm."""

    phase: str
    volume_ml: float
    centroid: np.ndarray


def position(phase: str, mask: np.ndarray, grid: Grid) -> Position:
    """From a mask (slices, rows, columns) with at least one voxel set."""
    index = np.argwhere(mask).mean(0)[::-1]
    return Position(
        phase, grid.millilitres(np.count_nonzero(mask)), grid.matrix[:3, :3] @ index + grid.origin
    )


def motion_report(positions: Sequence[Position], igtv_ml: float, is_cycle: bool = True) -> dict:
    """The report as data that JSON can carry; it names phases and nothing of the patient.

    Args:
        positions: of the phases, in the order of the breath; two or more.
        igtv_ml: volume of the IGTV.
        is_cycle: whether the last phase is followed by the first.
    """
    centroids = np.array([p.centroid for p in positions])
    volumes = np.array([p.volume_ml for p in positions])
    names = [p.phase for p in positions]
    reference = names.index(REFERENCE) if REFERENCE in names else 0
    moved = centroids - centroids[reference]
    span = np.ptp(centroids, axis=0)
    farthest = max(float(np.linalg.norm(a - b)) for a, b in combinations(centroids, 2))
    return {
        "axes": "R-L positive to the left, A-P positive to the back, S-I positive to the head; mm",
        "reference_phase": names[reference],
        "phases": [
            {
                "phase": name,
                "volume_ml": round(float(volume), 3),
                "centroid_mm": _by_axis(centroid),
                "displacement_mm": _by_axis(shift),
            }
            for name, volume, centroid, shift in zip(names, volumes, centroids, moved, strict=True)
        ],
        "peak_to_peak_mm": _by_axis(span) | {"3D": round(farthest, 2)},
        "igtv_ml": round(igtv_ml, 3),
        "igtv_over_largest_gtv": round(igtv_ml / float(volumes.max()), 3),
        "flags": [*_jumps(names, centroids, is_cycle), *_volumes(names, volumes)],
    }


def _by_axis(values: np.ndarray) -> dict[str, float]:
    return {axis: round(float(value), 2) for axis, value in zip(AXES, values, strict=True)}


def _jumps(names: Sequence[str], centroids: np.ndarray, is_cycle: bool) -> list[str]:
    """The centroid that is farthest off the middle between its neighbours, and then those that are too far
    without it: a single bad contour also puts its neighbours off."""
    flags = []
    kept = list(range(len(names)))
    while len(kept) > 3:
        inner = range(len(kept)) if is_cycle else range(1, len(kept) - 1)
        off = {
            i: float(
                np.linalg.norm(
                    centroids[kept[i]] - (centroids[kept[i - 1]] + centroids[kept[(i + 1) % len(kept)]]) / 2
                )
            )
            for i in inner
        }
        worst = max(off, key=lambda i: off[i])
        allowed = JUMP_MM * max(1.0, 10 / len(names)) ** 2  # off by the square of the step
        if off[worst] <= allowed:
            break
        name = names[kept[worst]]
        flags.append(
            f"the centroid jumps at phase {name}: {off[worst]:.1f} mm off the middle between its neighbours"
        )
        del kept[worst]
    return flags


def _volumes(names: Sequence[str], volumes: np.ndarray) -> list[str]:
    usual = float(np.median(volumes))
    odd = [
        f"phase {name} has {volume:.2f} ml where {usual:.2f} ml is usual"
        for name, volume in zip(names, volumes, strict=True)
        if max(volume / usual, usual / volume) > VOLUME_FACTOR
    ]
    low, high = int(volumes.argmin()), int(volumes.argmax())
    if not odd and volumes[high] > VOLUME_FACTOR * volumes[low]:
        odd = [f"phase {names[high]} has {volumes[high] / volumes[low]:.1f} times the volume of {names[low]}"]
    return [f"the volumes differ by more than a factor of {VOLUME_FACTOR:g}: {text}" for text in odd]
