"""CT in HU and PET in SUVbw as SimpleITK images with their full geometry, from folders or from series."""

from pathlib import Path

import SimpleITK as sitk

from nnunet_igtv.dicom.series import Series, find_series, read_voxels
from nnunet_igtv.dicom.structures import FRAME_KEY
from nnunet_igtv.dicom.studies import only
from nnunet_igtv.dicom.suv import suv_factors


def read_ct(folder: str | Path) -> sitk.Image:
    """The CT under a folder in HU (float32). Of several series, the regular one with the most slices.

    Raises IGTVError if there is none, or if its slices do not form a regular stack.

    Examples:
        >>> from nnunet_igtv import read_ct
        >>> ct = read_ct("studies/IGTV-3-000/CT")
        >>> ct.GetSize(), ct.GetSpacing()  # voxels and mm, in (x, y, z) order
        ((48, 48, 12), (8.0, 8.0, 9.0))
    """
    return ct_image(only(find_series(folder, "CT"), "CT", Path(folder)))


def read_pet(folder: str | Path, weight_kg: float | None = None) -> sitk.Image:
    """The PET under a folder in SUVbw (float32). Of several series, the attenuation-corrected with the most
    slices.

    Raises IGTVError if there is none, if its slices do not form a regular stack, or if its headers do not
    determine the SUV. `weight_kg` replaces the body weight of the headers.

    Examples:
        >>> import SimpleITK as sitk
        >>> from nnunet_igtv import read_pet
        >>> suv = sitk.GetArrayFromImage(read_pet("studies/IGTV-3-000/PET"))  # (slices, rows, columns)
        >>> bool(2 < suv.max() < 20)
        True
    """
    return pet_image(only(find_series(folder, "PT"), "PET", Path(folder)), weight_kg)


def ct_image(series: Series) -> sitk.Image:
    """A CT series in HU, float32."""
    return _with_frame(series.grid.image(read_voxels(series)), series)


def pet_image(series: Series, weight_kg: float | None = None) -> sitk.Image:
    """A PET series in SUVbw, float32."""
    factors = suv_factors(series.headers, weight_kg).factors
    voxels = read_voxels(series)
    voxels *= factors[:, None, None].astype("float32")
    return _with_frame(series.grid.image(voxels), series)


def _with_frame(image: sitk.Image, series: Series) -> sitk.Image:
    if series.frame_of_reference:
        image.SetMetaData(FRAME_KEY, series.frame_of_reference)
    return image
