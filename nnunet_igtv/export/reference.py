"""Finding the CT series that a mask was drawn on."""

from pathlib import Path

import SimpleITK as sitk

from nnunet_igtv.dataset_conversion.series import Series, find_series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export.grid import onto_grid


def reference_series(ct: str | Path | Series, mask: sitk.Image) -> tuple[Series, sitk.Image]:
    """The CT series (given, or under a folder) whose voxels are the mask's, and the mask on its grid.

    Raises:
        IGTVError: no CT series, none on the mask's grid, or several on it.
    """
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
            fitting.append((series, onto_grid(mask, series.geometry)))
        except IGTVError as error:
            refusals.append(error)
    if not fitting:
        first = refusals[0]
        raise IGTVError(first.what, file=first.file or folder, remedy=first.remedy)
    if len(fitting) > 1:
        raise IGTVError(
            f"{len(fitting)} CT series lie on the grid of the mask",
            file=folder,
            remedy="pass the folder of one series: " + ", ".join(sorted({str(s.folder) for s, _ in fitting})),
        )
    return fitting[0]
