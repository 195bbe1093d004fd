"""The CT series that a mask belongs to, and the mask on its grid, without resampling anything."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.dicom.series import Series, find_series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid, check_mask, shared_voxels


def reference_series(ct: str | Path | Series, mask: sitk.Image) -> tuple[Series, sitk.Image]:
    """The CT series (given, or under a folder) whose voxels are the mask's, and the mask on its grid.

    Raises:
        IGTVError: no mask, no CT series, none on the mask's grid, or several on it.
    """
    check_mask(mask)
    folder = ct.folder if isinstance(ct, Series) else Path(ct)
    found = [ct] if isinstance(ct, Series) else find_series(folder, "CT")
    if not found:
        raise IGTVError(
            "no CT series", file=folder, remedy="pass the folder of the CT that the case came from"
        )
    fitting: list[tuple[Series, sitk.Image]] = []
    refusals: list[IGTVError] = []
    for series in found:
        try:
            fitting.append((series, onto_grid(mask, series.grid)))
        except IGTVError as error:
            refusals.append(error)
    if not fitting:
        raise refusals[0].but(file=refusals[0].file or folder)
    if len(fitting) > 1:
        raise IGTVError(
            f"{len(fitting)} CT series lie on the grid of the mask",
            file=folder,
            remedy="pass the folder of one series: " + ", ".join(sorted({str(s.folder) for s, _ in fitting})),
        )
    return fitting[0]


def onto_grid(mask: sitk.Image, grid: Grid) -> sitk.Image:
    """`mask` with the axes of `grid`; its nonzero voxels become 1.

    The voxels of both must coincide; the mask may be cropped or padded and its axes may run in other orders
    and directions, as after a detour through software that reorients images.

    Raises:
        IGTVError: the voxels do not coincide, or nonzero voxels lie outside `grid`.
    """
    move = shared_voxels(Grid.of(mask), grid)
    if move is None:
        raise IGTVError(
            f"the mask's voxels ({Grid.of(mask)}) are not those of the CT ({grid})",
            remedy="pass the CT series that the case was converted from",
        )
    target = np.zeros(grid.size, np.uint8)  # (W, H, S), the order of indices
    index = np.argwhere(sitk.GetArrayViewFromImage(mask))[:, ::-1]
    index = np.rint(index @ move[:3, :3].T + move[:3, 3]).astype(int)
    if len(index) and ((index < 0) | (index >= grid.size)).any():
        raise IGTVError(
            "the mask reaches outside of the CT", remedy="pass the CT series that the case was converted from"
        )
    target[tuple(index.T)] = 1
    return grid.image(target.T)
