"""Mask -> planar contours in patient coordinates, such that reading them back gives the mask again."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk


class Contour(NamedTuple):
    """One closed polygon of one slice."""

    slice_index: int
    points: np.ndarray  # (n, 3) mm, DICOM patient coordinates (LPS); the last point is not the first again


def trace(mask: sitk.Image, positions: Sequence[Sequence[float]]) -> list[Contour]:
    """The outlines of the nonzero voxels, slice by slice along the image's third axis.

    Args:
        mask: its third axis runs along `positions`.
        positions: of the first voxel of each slice, mm: Image Position (Patient) of its own image. A contour
            lies in the plane of that image (PS3.3 C.8.8.6); the distances between images may vary.

    A contour runs halfway between the centres of inner and outer voxels, so whoever takes the voxels
    whose centres lie inside (exclusive-or over the contours of a slice) gets exactly the mask back. Voxels
    that touch at a corner only get contours of their own; a hole is a contour inside another.
    """
    from skimage.measure import find_contours

    voxels = sitk.GetArrayViewFromImage(mask) != 0  # (S, H, W)
    to_patient = np.array(mask.GetDirection()).reshape(3, 3) * np.array(mask.GetSpacing())  # columns i, j, k
    contours = []
    for k in np.flatnonzero(voxels.any((1, 2))):
        padded: Any = np.pad(voxels[k], 1).astype(np.float32)  # closes contours at the image's edge
        for rows_columns in find_contours(padded, 0.5):
            index = rows_columns[:-1, ::-1] - 1  # the last point repeats the first
            contours.append(Contour(int(k), index @ to_patient[:, :2].T + np.array(positions[int(k)])))
    return contours
