"""Putting a mask onto the grid of the CT it was predicted on, without resampling anything."""

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.dataset_conversion.geometry import Geometry
from nnunet_igtv.errors import IGTVError

_TOLERANCE = 0.02  # voxels; NIfTI keeps origins and directions in single precision


def onto_grid(mask: sitk.Image, grid: Geometry) -> sitk.Image:
    """`mask` with the axes of `grid`; its nonzero voxels become 1.

    The voxels of both must coincide; the mask may be cropped or padded and its axes may run in other orders
    and directions, as after a detour through software that reorients images.

    Raises:
        IGTVError: the voxels do not coincide, or nonzero voxels lie outside `grid`.
    """
    of_mask = _index_to_patient(mask.GetSpacing(), mask.GetOrigin(), mask.GetDirection())
    of_grid = _index_to_patient(grid.spacing, grid.origin, grid.direction)
    move = np.linalg.inv(of_grid) @ of_mask  # mask index -> grid index
    whole = np.round(move)
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [
        *(np.array(mask.GetSize()) - 1),
        1,
    ]
    same_lattice = abs(np.linalg.det(whole[:3, :3])) == 1 and np.abs(whole[:3, :3]).sum() == 3
    if not same_lattice or np.abs((move - whole) @ corners.T).max() > _TOLERANCE:
        raise IGTVError(
            f"the mask's voxels (size {mask.GetSize()}, spacing {_mm(mask.GetSpacing())}, "
            f"origin {_mm(mask.GetOrigin())}) are not those of the CT "
            f"(size {grid.size}, spacing {_mm(grid.spacing)}, origin {_mm(grid.origin)})",
            remedy="pass the CT series that the case was converted from",
        )
    target = np.zeros(grid.size, np.uint8)  # (W, H, S), the order of indices
    index = np.argwhere(sitk.GetArrayViewFromImage(mask))[:, ::-1]
    index = np.rint(index @ whole[:3, :3].T + whole[:3, 3]).astype(int)
    if len(index) and ((index < 0) | (index >= grid.size)).any():
        raise IGTVError(
            "the mask reaches outside of the CT", remedy="pass the CT series that the case was converted from"
        )
    target[tuple(index.T)] = 1
    return grid.image(target.T)


def _index_to_patient(
    spacing: tuple[float, ...], origin: tuple[float, ...], direction: tuple[float, ...]
) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(direction).reshape(3, 3) * np.array(spacing)
    matrix[:3, 3] = origin
    return matrix


def _mm(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in values) + ")"
