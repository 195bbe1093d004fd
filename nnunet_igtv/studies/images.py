"""CT in HU and PET in SUVbw with their full geometry, and all that a person should know about them.

Every command that reads images reads them here, so that the same warnings reach everybody.

    ct_volume, pet_volume    from a series: image, warnings, notes
    read_ct, read_pet        from a folder: the image alone, warnings as Python's
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from nnunet_igtv.dicom import traits
from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.dicom.redaction import naming_nobody
from nnunet_igtv.dicom.series import Series, find_series, read_voxels
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.structures.structure_sets import FRAME_KEY
from nnunet_igtv.studies.candidates import NAMES, table
from nnunet_igtv.studies.choice import choose_ct, choose_pet, refuse_several_patients, selected
from nnunet_igtv.studies.known import ReadingOptions
from nnunet_igtv.studies.plausibility import (
    refuse_no_suv,
    remarks_on_ct,
    remarks_on_pet,
    remarks_on_rescale,
)
from nnunet_igtv.suv import SUVResult, suv_factors


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
    image = with_frame(series.grid.image(voxels), series)
    rescales = [(float(h.RescaleSlope), float(h.RescaleIntercept)) for h in series.headers]
    warnings = (*remarks_on_ct(voxels), *remarks_on_rescale(voxels, rescales))
    return Volume(image, warnings, (*series.notes, *notes))


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
    image = with_frame(series.grid.image(voxels), series)
    warnings = (*suv.warnings, *_remarks_on_slices(series), *remarks_on_pet(voxels))
    return SUVVolume(image, warnings, (*series.notes, *notes), suv=suv)


def _remarks_on_slices(series: Series) -> list[str]:
    """A remark on a PET of fewer slices than its headers say: those at an end leave no gap in the stack.

    Number of Slices (0054,0081) counts those of one volume, in gated and dynamic series too (PS3.3 C.8.9.1).
    """
    said = [text(header, "NumberOfSlices") for header in series.headers]
    expected = max((int(number) for number in said if number.isdecimal()), default=0)
    here = len(series.headers)
    if expected <= here:
        return []
    return [f"the header says {expected} slices (0054,0081) of the PET, {here} are here: export it again"]


def with_frame(image: sitk.Image, series: Series) -> sitk.Image:
    if series.frame_of_reference:
        image.SetMetaData(FRAME_KEY, series.frame_of_reference)
    return image


def read_ct(folder: str | Path, *, ct: str | None = None, study: str | None = None) -> sitk.Image:
    """The CT under a folder in HU (float32); of several series, the one that the rules of `choice` take.

    Args:
        folder: holds the files of one patient, at any depth.
        ct: which series, where several could serve: see `nnunet_igtv.studies.selectors`.
        study: of which study.

    Raises IGTVError if there is none, if there are several patients or frames of reference and nothing says
    which, if several series could serve, or if the slices do not form a regular stack.

    Examples:
        >>> from nnunet_igtv import read_ct
        >>> ct = read_ct("studies/IGTV-3-000/CT")
        >>> ct.GetSize(), ct.GetSpacing()  # voxels and mm, in (x, y, z) order
        ((48, 48, 12), (8.0, 8.0, 9.0))
    """
    with naming_nobody(folder):
        return _image(ct_volume(_only(Path(folder), "CT", ReadingOptions(ct=ct, study=study))))


def read_pet(
    folder: str | Path, weight_kg: float | None = None, *, pet: str | None = None, study: str | None = None
) -> sitk.Image:
    """The PET under a folder in SUVbw (float32); of several series, the one that the rules of `choice` take.

    Args:
        folder: holds the files of one patient, at any depth.
        weight_kg: body weight for headers that have none.
        pet: which series, where several could serve: see `nnunet_igtv.studies.selectors`.
        study: of which study.

    What is unusual or was corrected in the headers is a Python warning each. Raises IGTVError as `read_ct`
    does, and if the headers do not determine the SUV.

    Examples:
        >>> import SimpleITK as sitk
        >>> from nnunet_igtv import read_pet
        >>> suv = sitk.GetArrayFromImage(read_pet("studies/IGTV-3-000/PET"))  # (slices, rows, columns)
        >>> bool(2 < suv.max() < 20)
        True
    """
    options = ReadingOptions(pet=pet, study=study, weight_kg=weight_kg)
    with naming_nobody(folder):
        return _image(pet_volume(_only(Path(folder), "PT", options), weight_kg))


def _only(folder: Path, modality: str, options: ReadingOptions) -> Series:
    """The one series of a modality that could be meant by a folder."""
    try:
        series = [s for s in find_series(folder) if s.modality in NAMES]
        refuse_several_patients(series)
        found = selected(series, options, "study")
        asked = options.selectors("ct", "pet")
        frames = {s.frame_of_reference for s in found if traits.is_volume(s)} - {""}
        if len(frames) > 1 and not asked:
            raise IGTVError(
                f"the folder holds series in {len(frames)} frames of reference",
                remedy="name the study or the series, or give the folder of one",
                settings=["study", NAMES[modality].lower()],
                table=table(found),
            )
        found = [s for s in found if s.modality == modality]
        if not found:
            raise IGTVError(f"no {NAMES[modality]} series")
        chosen = choose_ct(found, options) if modality == "CT" else choose_pet(found, options)
    except IGTVError as error:
        raise error.but(file=error.file or folder) from error
    return chosen.series


def _image(volume: Volume) -> sitk.Image:
    """The image alone; its warnings as Python's, of the file that calls `read_ct` or `read_pet`."""
    for warning in volume.warnings:
        warnings.warn(warning, stacklevel=3)
    return volume.image
