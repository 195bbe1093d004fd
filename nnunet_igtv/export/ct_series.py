"""The CT series that a mask belongs to, and the mask on its grid, without resampling anything."""

from pathlib import Path

import SimpleITK as sitk

from nnunet_igtv.dicom.series import Series, find_series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import check_mask, onto_grid


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
            fitting.append((series, onto_grid(mask, series.grid, "CT")))
        except IGTVError as error:
            refusals.append(error)
    if not fitting:
        remedy = refusals[0].remedy or "pass the CT series that the case was converted from"
        raise refusals[0].but(file=refusals[0].file or folder, remedy=remedy)
    if len(fitting) > 1:
        raise IGTVError(
            f"{len(fitting)} CT series lie on the grid of the mask",
            file=folder,
            remedy="pass the folder of one series: " + ", ".join(sorted({str(s.folder) for s, _ in fitting})),
        )
    return fitting[0]
