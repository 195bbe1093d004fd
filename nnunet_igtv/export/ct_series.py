"""The CT series that a mask belongs to, and the mask on its grid, without resampling anything."""

from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk

from nnunet_igtv.dicom.series import Series, find_series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import check_mask, onto_grid
from nnunet_igtv.studies.candidates import described
from nnunet_igtv.studies.choice import choose_ct, refuse_several_patients
from nnunet_igtv.studies.known import Known, ReadingOptions


def reference_series(
    ct: str | Path | Series,
    mask: sitk.Image,
    options: ReadingOptions,
    drawn_on: Callable[[], frozenset[str]] = frozenset,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[Series, sitk.Image]:
    """The CT series (given, or under a folder) whose voxels are the mask's, and the mask on its grid.

    Args:
        ct: the series, or a folder of them.
        mask: the mask.
        options: what a person said, for several series on the mask's grid.
        drawn_on: gives the UIDs of the series that a structure set to extend was drawn on.
        tell: called with the CT that was chosen of several on the mask's grid, and why; and with what to
            know about that.

    Raises:
        IGTVError: no mask, no CT series, none on the mask's grid, or several on it that the rules of `choice`
            do not separate.
    """
    check_mask(mask)
    folder = ct.folder if isinstance(ct, Series) else Path(ct)
    found = [ct] if isinstance(ct, Series) else find_series(folder, "CT")
    if not found:
        raise IGTVError(
            "no CT series", file=folder, remedy="pass the folder of the CT that the case came from"
        )
    candidates: list[Series] = []
    refusals: list[IGTVError] = []
    for series in found:
        try:
            onto_grid(mask, series.grid, "CT")
            candidates.append(series)
        except IGTVError as error:
            refusals.append(error)
    if not candidates:
        remedy = refusals[0].remedy or "pass the CT series that the case was converted from"
        raise refusals[0].but(file=refusals[0].file or folder, remedy=remedy)
    try:
        refuse_several_patients(candidates)
        known = Known(series=drawn_on()) if len(candidates) > 1 else Known()
        chosen = choose_ct(candidates, options, known)
    except IGTVError as error:
        raise error.but(file=error.file or folder) from error
    if len(candidates) > 1:
        tell(f"CT: {described(chosen.series)}; {chosen.why}")
    for warning in chosen.warnings:
        tell(f"note: {warning}")
    return chosen.series, onto_grid(mask, chosen.series.grid, "CT")
