"""Pixels of DICOM files, decoded and rescaled."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import integer, number, text
from nnunet_igtv.errors import IGTVError


def planes(
    files: Sequence[Path], frames: Sequence[int | None], headers: Sequence[Dataset]
) -> Iterator[np.ndarray]:
    """The rescaled plane of each slice; a multi-frame file is decoded once.

    Raises IGTVError, naming the file, for pixels that cannot be read or are not one grey plane per header.
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
        plane = stack[frame or 0]
        if not rescaled:
            slope = number(header, "RescaleSlope", path, 1.0)
            intercept = number(header, "RescaleIntercept", path, 0.0)
            plane = plane * np.float64(slope) + np.float64(intercept)
        shape = integer(header, "Rows", path), integer(header, "Columns", path)
        if plane.shape != shape:
            raise IGTVError(f"pixels of shape {plane.shape} where the header says {shape}", file=path)
        if not np.isfinite(plane).all():
            raise IGTVError("pixel values that are not finite", file=path, remedy="export the series again")
        yield plane


def _decode(path: Path) -> tuple[np.ndarray, bool]:
    """Pixels of a file, and whether the rescale is already applied.

    By pydicom and the plugins that are installed; compressed single frames that these cannot decode by the
    GDCM inside SimpleITK, which applies the rescale itself.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True)
            if "TransferSyntaxUID" not in dataset.file_meta:
                dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
            try:
                return dataset.pixel_array, False
            except Exception:
                compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
                if not compressed or dataset.get("NumberOfFrames", 1) != 1:
                    raise
                return sitk.GetArrayFromImage(sitk.ReadImage(str(path))), True
    except Exception as error:  # whatever the damage leads to
        reason = (str(error).splitlines() or [""])[0]
        raise IGTVError(
            f"pixel data cannot be read ({type(error).__name__}: {reason})",
            file=path,
            remedy="export the series again (uncompressed, if it is compressed)",
        ) from error
