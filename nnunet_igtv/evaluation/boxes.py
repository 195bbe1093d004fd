"""The box of a mask in its array, so that nothing is computed on the empty rest of a scan."""

import numpy as np


def box_of(mask: np.ndarray, margin: tuple[int, ...]) -> tuple[slice, ...]:
    """The smallest box of array indices around the True voxels, wider by `margin` on each side of each axis
    and cut at the borders. An empty mask gives an empty box at the first voxel.
    """
    box = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        filled = np.flatnonzero(mask.any(others))
        if not len(filled):
            return (slice(0, 0),) * mask.ndim
        start, stop = filled[0] - margin[axis], filled[-1] + 1 + margin[axis]
        box.append(slice(max(int(start), 0), min(int(stop), mask.shape[axis])))
    return tuple(box)


def voxels(mm: float, spacing: tuple[float, ...]) -> tuple[int, ...]:
    """How many voxels along each axis cover a distance."""
    return tuple(int(np.ceil(mm / step)) for step in spacing)
