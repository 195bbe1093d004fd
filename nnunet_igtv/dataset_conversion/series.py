"""DICOM image series from headers: which files belong together, in which order, on which grid.

File names, instance numbers and slice locations are never trusted: slices are ordered by the projection of
Image Position (Patient) on the normal of the slice (DICOM PS3.3 C.7.6.2.1.1). SimpleITK's series reader only
warns about a missing slice or a localizer in the series and returns a wrong geometry; here both are found
before any pixel is read.
"""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from nnunet_igtv.dataset_conversion.frames import flat_headers
from nnunet_igtv.errors import IGTVError

STEP_TOLERANCE_MM, STEP_TOLERANCE = 0.1, 0.03  # GE PET: steps of 3.19 to 3.29 mm at bed borders are normal
SHEAR_TOLERANCE_PIXELS = 0.5
NOT_AN_IMAGE = {"SEG", "RTDOSE", "RTIMAGE", "SR", "PR", "KO", "REG", "RTSTRUCT", "RTPLAN", "RTRECORD", "DOC"}


@dataclass(frozen=True)
class Geometry:
    """A regular grid in patient coordinates, as SimpleITK means it: (x, y, z) order, mm, LPS.

    `direction` is row-major 3x3; its columns are the directions of growing column, row and slice index.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    def image(self, voxels: np.ndarray) -> sitk.Image:
        """`voxels` (slices, rows, columns) as a SimpleITK image on this grid."""
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image


@dataclass
class Series:
    """The images of one DICOM series that form one stack, in slice order along the normal.

    `headers` (no pixels) and `files` run in step, one per slice; the frames of a multi-frame object are
    flattened to one header each, with `frames` their index in the file (None for single-frame files).
    `notes` says what was left out and why. `fault` is what makes the stack unusable, None if nothing does.
    """

    headers: list[Dataset]
    files: list[Path]
    frames: list[int | None]
    notes: list[str] = field(default_factory=list)
    fault: IGTVError | None = None

    @property
    def uid(self) -> str:
        return str(self.headers[0].get("SeriesInstanceUID", ""))

    @property
    def study_uid(self) -> str:
        return str(self.headers[0].get("StudyInstanceUID", ""))

    @property
    def modality(self) -> str:
        return str(self.headers[0].get("Modality", ""))

    @property
    def description(self) -> str:
        return str(self.headers[0].get("SeriesDescription", ""))

    @property
    def number(self) -> int:
        """Series Number; a series without one sorts last."""
        try:
            return int(self.headers[0].SeriesNumber)
        except (AttributeError, TypeError, ValueError):
            return 2**31

    @property
    def frame_of_reference(self) -> str:
        return str(self.headers[0].get("FrameOfReferenceUID", ""))

    @property
    def folder(self) -> Path:
        return self.files[0].parent

    @cached_property
    def geometry(self) -> Geometry:
        """The grid of the stack. Raises IGTVError if the slices do not form a regular one."""
        if self.fault:
            raise self.fault
        return _geometry(self.headers, self.files)


def find_series(folder: str | Path, modality: str | None = None) -> list[Series]:
    """All image series under a folder (searched to any depth), or those of one modality ("CT", "PT", …).

    Series whose slices do not form a regular stack are returned too, with `fault` set: `geometry` and
    `read_voxels` raise it. Sorted by modality, number and UID. Raises IGTVError for a folder that does not
    exist and for a file that claims to be DICOM and cannot be read.
    """
    headers: list[tuple[Path, Dataset]] = []
    for path in list_files(folder):
        header = read_header(path)
        if header is not None:
            headers.append((path, header))
    return [s for s in group_series(headers) if modality is None or s.modality == modality]


def list_files(folder: str | Path) -> list[Path]:
    """Every regular file under a folder (or the file itself), sorted; links to folders are not followed."""
    folder = Path(folder)
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise IGTVError("no such file or folder", file=folder, remedy="check the path")
    found = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if path.is_file())


def read_header(path: Path) -> Dataset | None:
    """The header of a DICOM file, without pixels; None for a file that is none.

    Files without the 128-byte preamble are taken for DICOM if they begin with a group 0002 or 0008 element.
    Raises IGTVError for a file that claims to be DICOM and cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(132)
        if not head and path.suffix.lower() in (".dcm", ".dicom", ".ima"):
            raise ValueError("the file is empty")
        if head[128:132] != b"DICM" and head[:2] not in (b"\x02\x00", b"\x08\x00"):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom comments on every deviation; ours are checked by name
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            if "SOPClassUID" not in header:
                if head[128:132] != b"DICM" or "MediaStorageSOPClassUID" not in header.file_meta:
                    return None
                if str(header.file_meta.MediaStorageSOPClassUID) == "1.2.840.10008.1.3.10":
                    return None  # a DICOMDIR
                raise ValueError("no SOP Class UID")
        return header
    except Exception as error:  # pydicom raises whatever the damage leads to
        raise IGTVError(
            f"unreadable DICOM file ({type(error).__name__})",
            file=path,
            remedy="export the study again, or take this file out of the folder",
        ) from error


def group_series(headers: Iterable[tuple[Path, Dataset]]) -> list[Series]:
    """Headers of any files -> image series, sorted by modality, number and UID."""
    groups: dict[str, list[tuple[Path, Dataset]]] = {}
    for path, header in headers:
        if _is_image(header):
            groups.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((path, header))
    series = [_stack(group) for group in groups.values()]
    return sorted(series, key=lambda s: (s.modality, s.number, s.uid))


def read_voxels(series: Series) -> np.ndarray:
    """Rescaled pixel values (slices, rows, columns), float32: HU for CT, the units of the file for PET.

    Raises IGTVError for pixels that cannot be read or are not finite, and for an irregular stack.
    """
    columns, rows, slices = series.geometry.size
    voxels = np.empty((slices, rows, columns), np.float32)
    for k, (path, plane) in enumerate(_planes(series)):
        if plane.shape != (rows, columns):
            raise IGTVError(
                f"pixels of shape {plane.shape} where the header says {(rows, columns)}", file=path
            )
        voxels[k] = plane
        if not np.isfinite(voxels[k]).all():
            raise IGTVError("pixel values that are not finite", file=path, remedy="export the series again")
    return voxels


def read_image(series: Series) -> sitk.Image:
    """The series as a SimpleITK image (float32) with its full geometry; see `read_voxels`."""
    return series.geometry.image(read_voxels(series))


# ------------------------------------------------------------------------------------------------- pixels


def _planes(series: Series) -> Iterator[tuple[Path, np.ndarray]]:
    """(file, rescaled plane) per slice; a multi-frame file is decoded once."""
    decoded: tuple[Path, np.ndarray, bool] | None = None
    for path, frame, header in zip(series.files, series.frames, series.headers, strict=True):
        if decoded is None or decoded[0] != path:
            decoded = (path, *_decode(path))
        _, pixels, rescaled = decoded
        planes = pixels if pixels.ndim > 2 else pixels[None]
        if not (0 <= (frame or 0) < len(planes)) or (frame is None and len(planes) > 1):
            raise IGTVError("the number of frames in the pixel data is not that of the header", file=path)
        plane = planes[frame or 0]
        if not rescaled:
            slope, intercept = (
                _number(header, "RescaleSlope", path, 1.0),
                _number(header, "RescaleIntercept", path, 0.0),
            )
            plane = plane * np.float64(slope) + np.float64(intercept)
        yield path, plane


def _decode(path: Path) -> tuple[np.ndarray, bool]:
    """Pixels of a file, and whether the rescale is already applied.

    Uncompressed and RLE by pydicom alone; the JPEG family by pydicom's plugins where installed, else by the
    GDCM inside SimpleITK, which applies the rescale itself.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True)
            syntax = dataset.file_meta.get("TransferSyntaxUID")
            if syntax is None:
                dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
            elif (
                syntax.is_compressed
                and not _decodable(syntax)
                and "SharedFunctionalGroupsSequence" not in dataset
            ):
                return sitk.GetArrayFromImage(sitk.ReadImage(str(path))), True
            return dataset.pixel_array, False
    except Exception as error:  # whatever the damage leads to
        raise IGTVError(
            f"pixel data cannot be read ({type(error).__name__}: {error})",
            file=path,
            remedy="export the series again (uncompressed, if it is compressed)",
        ) from error


def _decodable(syntax: pydicom.uid.UID) -> bool:
    from pydicom.pixels import get_decoder

    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


# ------------------------------------------------------------------------------------------------- stacks


def _is_image(header: Dataset) -> bool:
    return "Rows" in header and "Columns" in header and str(header.get("Modality", "")) not in NOT_AN_IMAGE


def _stack(group: Sequence[tuple[Path, Dataset]]) -> Series:
    """One SeriesInstanceUID -> one stack: leave out localizers and duplicates, sort along the normal,
    check.
    """
    notes: list[str] = []
    slices: list[tuple[Path, int | None, Dataset]] = []
    for path, header in group:
        if "LOCALIZER" in [str(v).upper() for v in values_of(header, "ImageType")]:
            notes.append("left out a localizer image")
        else:
            slices += [(path, frame, flat) for frame, flat in flat_headers(header)]
    if not slices:
        slices = [(path, frame, flat) for path, header in group for frame, flat in flat_headers(header)]
        fault = IGTVError("the series holds localizer images only", file=slices[0][0])
        return Series([s[2] for s in slices], [s[0] for s in slices], [s[1] for s in slices], fault=fault)
    try:
        slices = _largest_group(slices, notes)
        slices = _sorted_without_duplicates(slices, notes)
        headers, files = [s[2] for s in slices], [s[0] for s in slices]
        series = Series(headers, files, [s[1] for s in slices], notes)
        _geometry(headers, files)
        return series
    except IGTVError as fault:
        return Series([s[2] for s in slices], [s[0] for s in slices], [s[1] for s in slices], notes, fault)


def _largest_group(
    slices: list[tuple[Path, int | None, Dataset]], notes: list[str]
) -> list[tuple[Path, int | None, Dataset]]:
    """The images that share orientation, matrix, pixel spacing and frame of reference.

    A stray few of another kind (scouts, reformatted views) are left out; two comparable groups are refused.
    """
    groups: dict[tuple, list[tuple[Path, int | None, Dataset]]] = {}
    for item in slices:
        path, _, header = item
        key = (
            tuple(np.round(_vector(header, "ImageOrientationPatient", 6, path), 3) + 0.0),
            tuple(np.round(_vector(header, "PixelSpacing", 2, path), 4)),
            _integer(header, "Rows", path),
            _integer(header, "Columns", path),
            str(header.get("FrameOfReferenceUID", "")),
        )
        groups.setdefault(key, []).append(item)
    largest = max(groups.values(), key=len)
    others = len(slices) - len(largest)
    if others * 2 > len(largest):
        raise IGTVError(
            f"one series holds {len(groups)} stacks of different orientation, matrix, pixel spacing or frame "
            f"of reference ({', '.join(str(len(g)) for g in groups.values())} images)",
            file=largest[0][0].parent,
            remedy="split the series",
        )
    if others:
        notes.append(f"left out {others} image(s) of another orientation, matrix or frame of reference")
    return largest


def _sorted_without_duplicates(
    slices: list[tuple[Path, int | None, Dataset]], notes: list[str]
) -> list[tuple[Path, int | None, Dataset]]:
    row, column = np.split(_vector(slices[0][2], "ImageOrientationPatient", 6, slices[0][0]), 2)
    normal = np.cross(row, column)
    height = {id(s): float(_vector(s[2], "ImagePositionPatient", 3, s[0]) @ normal) for s in slices}
    slices = sorted(slices, key=lambda s: (height[id(s)], str(s[0]), s[1] or 0))
    kept = slices[:1]
    for item in slices[1:]:
        if height[id(item)] - height[id(kept[-1])] > 0.01:
            kept.append(item)
        elif not _same_pixels(kept[-1], item):
            raise IGTVError(
                "two images with different pixels at one slice position (a dynamic or gated series, or two "
                "reconstructions under one series UID)",
                file=item[0],
                remedy="keep one image per slice position",
            )
    if len(kept) < len(slices):
        notes.append(f"left out {len(slices) - len(kept)} duplicate image(s)")
    return kept


def _same_pixels(a: tuple[Path, int | None, Dataset], b: tuple[Path, int | None, Dataset]) -> bool:
    first, second = (next(_planes(Series([header], [path], [frame])))[1] for path, frame, header in (a, b))
    return np.array_equal(first, second)


def _geometry(headers: Sequence[Dataset], files: Sequence[Path]) -> Geometry:
    """The grid of sorted slices. Raises IGTVError for shear, missing slices and irregular steps."""
    first = headers[0]
    row, column = np.split(_vector(first, "ImageOrientationPatient", 6, files[0]), 2)
    if abs(row @ row - 1) > 0.01 or abs(column @ column - 1) > 0.01 or abs(row @ column) > 0.001:
        raise IGTVError("the image axes are not two perpendicular unit vectors (0020,0037)", file=files[0])
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    normal = np.cross(row, column)

    between_rows, between_columns = _vector(first, "PixelSpacing", 2, files[0])
    if min(between_rows, between_columns) <= 0:
        raise IGTVError("Pixel Spacing (0028,0030) is not positive", file=files[0])
    positions = np.array(
        [_vector(h, "ImagePositionPatient", 3, f) for h, f in zip(headers, files, strict=True)]
    )
    heights = positions @ normal
    between_slices = _slice_spacing(heights, first, files)

    drift = positions - positions[0] - np.outer(heights - heights[0], normal)
    shift = np.abs(drift @ np.stack([row, column], 1)) / (between_columns, between_rows)
    if shift.max() > SHEAR_TOLERANCE_PIXELS:
        tilt = np.degrees(np.arctan2(np.linalg.norm(drift[-1]), heights[-1] - heights[0]))
        raise IGTVError(
            f"the slices are not stacked along their normal (gantry tilt or shear, {tilt:.1f} degrees)",
            file=files[0].parent,
            remedy="resample the series to an upright grid first",
        )
    return Geometry(
        size=(_integer(first, "Columns", files[0]), _integer(first, "Rows", files[0]), len(headers)),
        spacing=(float(between_columns), float(between_rows), between_slices),
        origin=(float(positions[0][0]), float(positions[0][1]), float(positions[0][2])),
        direction=tuple(float(v) for v in np.stack([row, column, normal], 1).ravel()),
    )


def _slice_spacing(heights: np.ndarray, first: Dataset, files: Sequence[Path]) -> float:
    if len(heights) == 1:
        for name in ("SpacingBetweenSlices", "SliceThickness"):
            value = _number(first, name, files[0], 0.0)
            if value > 0:
                return value
        raise IGTVError("a single slice without a thickness", file=files[0])
    steps = np.diff(heights)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    tolerance = max(STEP_TOLERANCE_MM, STEP_TOLERANCE * usual)
    wrong = np.flatnonzero(np.abs(steps - usual) > tolerance)
    if len(wrong):
        k = int(wrong[0])
        missing = round(steps[k] / usual) - 1
        what = f"{missing} slice(s) missing" if missing > 0 else "an irregular step"
        raise IGTVError(
            f"{what} between slices {k + 1} and {k + 2} of {len(heights)} (step {steps[k]:.3f} mm where "
            f"{usual:.3f} mm is usual; {len(wrong)} such place(s))",
            file=files[k].parent,
            remedy="export the complete series again",
        )
    spacing = float((heights[-1] - heights[0]) / (len(heights) - 1))
    regular = heights[0] + spacing * np.arange(len(heights))
    if np.abs(heights - regular).max() > spacing / 2:
        raise IGTVError(
            "the slice positions drift from a regular grid by over half a slice", file=files[0].parent
        )
    return spacing


# ----------------------------------------------------------------------------------------------- attributes


def values_of(header: Dataset, name: str) -> list:
    """The values of an attribute; none for one that is absent, empty or undecodable."""
    try:
        value = header.get(name)
    except Exception:  # pydicom decodes here, and raises whatever the damage leads to
        return []
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _vector(header: Dataset, name: str, length: int, path: Path) -> np.ndarray:
    try:
        vector = np.array([float(v) for v in values_of(header, name)])
    except (TypeError, ValueError):
        vector = np.empty(0)
    if len(vector) != length or not np.isfinite(vector).all():
        raise IGTVError(
            f"{name} is missing or is not {length} finite number(s)",
            file=path,
            remedy="export the series again",
        )
    return vector


def _integer(header: Dataset, name: str, path: Path) -> int:
    value = _number(header, name, path, 0.0)
    if value < 1 or value != int(value):
        raise IGTVError(f"{name} is not a positive whole number", file=path)
    return int(value)


def _number(header: Dataset, name: str, path: Path, default: float) -> float:
    if name not in header or header[name].is_empty:
        return default
    return float(_vector(header, name, 1, path)[0])
