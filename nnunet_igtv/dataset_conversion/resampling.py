"""One grid for CT and PET: linear interpolation, nearest neighbour for labels, and proof that they
overlap.
"""

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import same_grid, transformed


def onto(
    image: sitk.Image,
    grid: sitk.Image,
    label: bool = False,
    outside: float = 0.0,
    moved: np.ndarray | None = None,
) -> sitk.Image:
    """`image` on the grid of `grid`, in its own pixel type; voxels beyond it become `outside`.

    Linear, because splines overshoot (negative SUV beside hot spots); nearest neighbour for labels.

    Args:
        moved: (4, 4) matrix that takes a point of the image (mm) to where it belongs in the space of `grid`;
            None where both share a space.
    """
    if moved is None and same_grid(image, grid):
        result = sitk.Image(image)
        result.CopyInformation(grid)
        return result
    method = sitk.sitkNearestNeighbor if label else sitk.sitkLinear
    return sitk.Resample(image, grid, _back(moved), method, outside, image.GetPixelID())


def _back(moved: np.ndarray | None) -> sitk.Transform:
    """What SimpleITK resamples by: from a point of the grid to the point of the image that belongs there."""
    if moved is None:
        return sitk.Transform()
    matrix = np.linalg.inv(moved)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    return transform


def covered(
    voxels: np.ndarray, grid: sitk.Image, image: sitk.Image, moved: np.ndarray | None = None
) -> float:
    """Share of some voxels of `grid` whose centre lies within `image`.

    Args:
        voxels: (points, 3) indices in (x, y, z) order.
        moved: as for `onto`.
    """
    physical = voxels * np.array(grid.GetSpacing()) @ _axes(grid).T + grid.GetOrigin()
    if moved is not None:
        physical = transformed(physical, np.linalg.inv(moved))
    index = (physical - image.GetOrigin()) @ _axes(image) / image.GetSpacing()
    inside = (index >= -0.5) & (index <= np.array(image.GetSize()) - 0.5)
    return float(inside.all(1).mean())


def check_overlap(
    ct: sitk.Image, pet: sitk.Image, mask: sitk.Image, moved: np.ndarray | None = None
) -> float:
    """Share of the CT's volume that the PET covers.

    Args:
        mask: the structure, on the grid of the CT; on either where both share a space.
        moved: (4, 4) matrix that takes a point of the PET to the CT; None where both share a space.

    Raises IGTVError if there is none, or if the structure is not wholly within both.
    """
    lattice = np.stack(np.meshgrid(*[np.linspace(0, n - 1, 17) for n in ct.GetSize()]), -1).reshape(-1, 3)
    share = covered(lattice, ct, pet, moved)
    if share == 0:
        raise IGTVError(
            "PET and CT do not overlap",
            remedy="check that they belong to one examination, and what registers them",
        )
    if not sitk.GetArrayViewFromImage(mask).any():
        return share
    structure = np.argwhere(sitk.GetArrayViewFromImage(mask))[:, ::-1]
    for image, name, there in ((ct, "CT", None), (pet, "PET", moved)):
        within = covered(structure, mask, image, there)
        if within < 1:
            raise IGTVError(
                f"{1 - within:.0%} of the structure lies outside of the {name}",
                remedy="leave this study out, or take a series that covers the structure",
            )
    return share


def _axes(image: sitk.Image) -> np.ndarray:
    return np.array(image.GetDirection()).reshape(3, 3)
