"""A series of CT in HU or of PET in SUVbw, with all that a person should know about it.

Every command that reads images reads them here, so that the same warnings reach everybody.
"""

from dataclasses import dataclass

import SimpleITK as sitk

from nnunet_igtv.dicom.plausibility import refuse_no_suv, remarks_on_ct, remarks_on_pet
from nnunet_igtv.dicom.series import Series, read_voxels
from nnunet_igtv.dicom.structures import FRAME_KEY
from nnunet_igtv.dicom.suv import SUVResult, suv_factors
from nnunet_igtv.errors import IGTVError


@dataclass(frozen=True)
class Volume:
    """An image with its full geometry (float32).

    Attributes:
        image: CT in HU, PET in SUVbw.
        warnings: what may be wrong with it, in words that identify nobody.
        notes: what was left out of it or replaced in it.
    """

    image: sitk.Image
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SUVVolume(Volume):
    """A PET in SUVbw; `suv` says how the factors were found."""

    suv: SUVResult


def ct_volume(series: Series) -> Volume:
    """A CT series in HU. Raises IGTVError if it is not one, or cannot be read."""
    voxels, notes = read_voxels(series)
    image = _with_frame(series.grid.image(voxels), series)
    return Volume(image, tuple(remarks_on_ct(voxels)), (*series.notes, *notes))


def pet_volume(series: Series, weight_kg: float | None = None) -> SUVVolume:
    """A PET series in SUVbw. Raises IGTVError if its headers do not determine it, or it cannot be read.

    Args:
        series: of PET, single- or multi-frame.
        weight_kg: body weight for headers that have none.
    """
    try:
        suv = suv_factors(series.headers, weight_kg)
    except IGTVError as error:
        raise error.but(file=series.folder) from error
    voxels, notes = read_voxels(series)
    voxels *= suv.factors[:, None, None].astype("float32")
    refuse_no_suv(voxels, series.folder)
    image = _with_frame(series.grid.image(voxels), series)
    warnings = (*suv.warnings, *remarks_on_pet(voxels))
    return SUVVolume(image, warnings, (*series.notes, *notes), suv=suv)


def _with_frame(image: sitk.Image, series: Series) -> sitk.Image:
    if series.frame_of_reference:
        image.SetMetaData(FRAME_KEY, series.frame_of_reference)
    return image
