"""Pixels of DICOM files, decoded and rescaled: HU of CT, the units of the file for PET.

What DICOM requires is never given a default: a CT or PET without Rescale Slope and Intercept has no known
unit. Pixel padding, and HU below those of a vacuum, lie outside the circle of reconstruction: they read as
air (CT) or as no activity (PET), and are counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from nnunet_igtv.dicom import streams
from nnunet_igtv.dicom.attributes import integer, is_absent, number, text
from nnunet_igtv.dicom.padding import Padding, at_the_border, padding_of
from nnunet_igtv.dicom.quiet import quiet
from nnunet_igtv.errors import IGTVError, blamed

CALIBRATED = ("CT", "PT")  # their values have a unit, by Rescale Slope and Intercept (type 1)
AIR_HU = -1024.0
HIGHEST_HU = 32768.0  # 16 bits; metal reads up to 31 000 on scanners with an extended scale
BEYOND_HU = 2 * HIGHEST_HU  # of padding with 16 bits; what is farther off comes of a wrong rescale
LARGEST = float(np.finfo(np.float32).max)  # volumes are in single precision
OUTSIDE = {"CT": AIR_HU, "PT": 0.0}
HOUNSFIELD = ("", "HU", "US")  # Rescale Types of a CT in HU; US, unspecified, is what many archives write


@dataclass(frozen=True)
class Plane:
    """One slice: `values` (rows, columns), and how many of them were `outside` of the reconstruction."""

    values: np.ndarray
    outside: int = 0


def planes(
    files: Sequence[Path], frames: Sequence[int | None], headers: Sequence[Dataset]
) -> Iterator[Plane]:
    """The rescaled plane of each slice; a multi-frame file is decoded once.

    Raises IGTVError, naming the file, for pixels that cannot be read, are not one grey plane per header, or
    have no known unit.
    """
    decoded: tuple[Path, np.ndarray, bool] | None = None
    for path, frame, header in zip(files, frames, headers, strict=True):
        if decoded is None or decoded[0] != path:
            decoded = (path, *_decode(path))
        _, pixels, rescaled = decoded
        if text(header, "SamplesPerPixel") not in ("", "1"):
            raise IGTVError("a colour image", file=path, remedy="take it out of the series")
        stack = pixels if pixels.ndim > 2 else pixels[None]
        if not (0 <= (frame or 0) < len(stack)) or (frame is None and len(stack) > 1):
            raise IGTVError("the number of frames in the pixel data is not that of the header", file=path)
        stored = stack[frame or 0]
        shape = integer(header, "Rows", path), integer(header, "Columns", path)
        if stored.shape != shape:
            raise IGTVError(f"pixels of shape {stored.shape} where the header says {shape}", file=path)
        plane = _rescaled(stored, header, path, rescaled)
        extremes = np.abs([plane.values.min(), plane.values.max()])  # not a number, if one of them is not
        if not (extremes <= LARGEST).all():
            raise IGTVError("pixel values that are not finite", file=path, remedy="export the series again")
        yield plane


def _rescaled(stored: np.ndarray, header: Dataset, path: Path, rescaled: bool) -> Plane:
    """Stored values as values with their unit; `rescaled` ones have it already."""
    modality = text(header, "Modality")
    slope, intercept = _rescale(header, modality, path)
    if modality == "PT" and slope == 0:
        if stored.any():
            raise IGTVError("Rescale Slope (0028,1053) is 0, and the slice is not empty", file=path)
        return Plane(np.zeros(stored.shape))
    values = stored if rescaled else stored * np.float64(slope) + np.float64(intercept)
    if modality not in OUTSIDE:
        return Plane(values)
    air = OUTSIDE[modality]
    padding = padding_of(header, slope, intercept)
    outside = _outside(values, padding, modality)
    if outside is None:
        return Plane(values)
    changed = outside & (values != air)
    return Plane(np.where(outside, air, values), int(changed.sum()))


def _outside(values: np.ndarray, padding: Padding | None, modality: str) -> np.ndarray | None:
    """Which pixels are outside of the reconstruction; None if none is, as far as can be seen.

    Of a CT also what no scanner measures: less than a vacuum anywhere, and over `HIGHEST_HU` at the border of
    the slice (-2000 that was stored as unsigned, without a Pixel Padding Value), to +-`BEYOND_HU`.
    """
    masks = [] if padding is None else [padding.pixels(values, modality)]
    if modality == "CT":
        masks.append((values < AIR_HU) & (values >= -BEYOND_HU))
        if values.max() > HIGHEST_HU:
            masks.append(at_the_border((values > HIGHEST_HU) & (values <= BEYOND_HU)))
    masks = [mask for mask in masks if mask.any()]
    return np.logical_or.reduce(masks) if masks else None


def _rescale(header: Dataset, modality: str, path: Path) -> tuple[float, float]:
    """Slope and intercept. Raises IGTVError for a CT or PET that lacks them, or whose unit is not HU."""
    if modality in CALIBRATED:
        for name, tag in (("Rescale Slope", "0028,1053"), ("Rescale Intercept", "0028,1052")):
            if is_absent(header, name.replace(" ", "")):
                raise IGTVError(
                    f"{name} ({tag}) is missing: the unit of the {_shown(modality)} is not known",
                    file=path,
                    remedy="export the series from the scanner or the archive again",
                )
    slope, intercept = (
        number(header, "RescaleSlope", path, 1.0),
        number(header, "RescaleIntercept", path, 0.0),
    )
    if modality == "CT":
        kind = text(header, "RescaleType").upper()
        if kind not in HOUNSFIELD:
            raise IGTVError(
                f"the CT is not in HU: its Rescale Type (0028,1054) is {kind}",
                file=path,
                remedy="give the CT in HU",
            )
        if slope <= 0:
            raise IGTVError("Rescale Slope (0028,1053) of a CT is not positive", file=path)
    return slope, intercept


def _shown(modality: str) -> str:
    return "PET" if modality == "PT" else modality


def _check_size(dataset: Dataset) -> None:
    stated = int(dataset.Rows), int(dataset.Columns)
    for size in streams.sizes(dataset):
        if size not in (None, stated):
            raise ValueError(f"a compressed image of {size}, where the header says {stated}")


def _used_bits(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Pixels without what is in the bits beyond Bits Stored, such as overlays of old scanners.

    pydicom clears these bits of uncompressed images only; decoders of JPEG 2000 hand them on.
    """
    unused = 8 * stored.dtype.itemsize - int(dataset.BitsStored)
    if unused <= 0 or stored.dtype.kind not in "iu":
        return stored
    return np.right_shift(np.left_shift(stored, unused), unused)


def _decode(path: Path) -> tuple[np.ndarray, bool]:
    """Pixels of a file, and whether the rescale is already applied.

    By pydicom and the plugins that are installed; compressed single frames that these cannot decode by the
    GDCM inside SimpleITK, which applies the rescale itself.
    """
    try:
        with quiet():
            dataset = pydicom.dcmread(path, force=True)
            if "TransferSyntaxUID" not in dataset.file_meta:
                dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
            compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
            if compressed:
                _check_size(dataset)
            try:
                stored = dataset.pixel_array
                return (_used_bits(stored, dataset) if compressed else stored), False
            except Exception:
                if not compressed or dataset.get("NumberOfFrames", 1) != 1:
                    raise
                return sitk.GetArrayFromImage(sitk.ReadImage(str(path))), True
    except Exception as error:  # whatever the damage leads to
        reason = (str(error).splitlines() or [""])[0]
        damaged = IGTVError(
            f"pixel data cannot be read ({type(error).__name__}: {reason})",
            file=path,
            remedy="export the series again (uncompressed, if it is compressed)",
        )
        raise blamed(error, damaged) from error
