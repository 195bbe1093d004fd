"""RTSTRUCT in: named contours in patient coordinates -> mask on an image grid.

A voxel belongs to a structure if its centre lies inside an odd number of the contours of its slice (even-odd
rule: holes as separate contours and holes by keyhole come out alike). On CT and PET of three institutions
this equals the masks that their authors shipped, voxel for voxel, where rasterisers that draw the outline
add 3 to 36 % of volume. References to image instances are not followed: they are optional and often point
elsewhere.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from skimage.draw import polygon

from nnunet_igtv.dicom.attributes import attribute, text, values_of
from nnunet_igtv.dicom.files import read_header
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid

CLOSED = {"CLOSEDPLANAR", "CLOSEDPLANARXOR", "INTERPOLATEDPLANAR"}
ON_GRID = 0.1  # of the slice spacing: contours nearer than this to slices were drawn on them
IN_PLANE = 0.25  # of the slice spacing: how far one contour may rise and fall


@dataclass(frozen=True)
class Roi:
    """One structure: its closed contours, each (points, 3) in mm, and the frame of reference they live in."""

    number: int
    name: str
    contours: list[np.ndarray]
    frame_of_reference: str


@dataclass(frozen=True)
class StructureSet:
    """The structures of an RTSTRUCT file, and the series it says it was drawn on."""

    file: Path
    rois: list[Roi]
    series_uids: frozenset[str]
    frames_of_reference: frozenset[str]
    header: Dataset

    @property
    def names(self) -> list[str]:
        return [roi.name for roi in self.rois]

    def match(self, pattern: str) -> list[Roi]:
        """The structures that a pattern means; see `matches`."""
        exact = [roi for roi in self.rois if normalised(roi.name) == normalised(pattern)]
        return exact or [roi for roi in self.rois if matches(pattern, roi.name)]

    def select(self, pattern: str, union: bool = False) -> list[Roi]:
        """The structure that a pattern means, or with `union` all of them; structures without contours are
        passed over.

        Raises IGTVError, listing the names that exist, if none matches or several do.
        """
        found = self.match(pattern)
        if not found:
            raise IGTVError(
                f"no structure matches {pattern!r}; there are: {_listed(self.names)}",
                file=self.file,
                remedy="name one of them (its name, or a regular expression for the whole name)",
            )
        drawn = [roi for roi in found if roi.contours]
        if not drawn:
            raise IGTVError(
                f"structure {_listed([roi.name for roi in found])} has no closed contours", file=self.file
            )
        if len(drawn) > 1 and not union:
            raise IGTVError(
                f"{len(drawn)} structures match {pattern!r}: {_listed([roi.name for roi in drawn])}",
                file=self.file,
                remedy="give a narrower pattern, or unite them",
                settings=["structure", "union"],
            )
        return drawn


def normalised(name: str) -> str:
    """A structure name as compared: without case, blanks, '_', '-' and '.'."""
    return re.sub(r"[\s_.\-]+", "", name).casefold()


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern means a structure: the whole name normalised, or a regular expression for all of it.

    Never a part of the name: "ITV" does not mean "IGTV", nor "GTV" "PTV-GTV".
    """
    if normalised(pattern) == normalised(name):
        return True
    try:
        expression = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise IGTVError(
            f"{pattern!r} is not a regular expression ({error})",
            remedy="correct the pattern",
            settings=["structure"],
        ) from error
    return bool(expression.fullmatch(name.strip()) or expression.fullmatch(normalised(name)))


def read_structure_set(file: str | Path) -> StructureSet:
    """Read an RTSTRUCT file. Raises IGTVError if it is none, or if its contours are not numbers."""
    file = Path(file)
    if not file.is_file():
        raise IGTVError("no such file", file=file)
    header = read_header(file)
    if header is None or text(header, "Modality") != "RTSTRUCT":
        raise IGTVError("not an RTSTRUCT file", file=file)
    return structure_set(file, header)


def structure_set(file: Path, header: Dataset) -> StructureSet:
    """The structure set in an RTSTRUCT's header (which is all of the file)."""
    try:
        return _structure_set(file, header)
    except IGTVError:
        raise
    except Exception as error:  # pydicom decodes late, and raises whatever the damage leads to
        raise IGTVError(f"the structure set is damaged ({type(error).__name__})", file=file) from error


def _structure_set(file: Path, header: Dataset) -> StructureSet:
    contours: dict[int, list[np.ndarray]] = {}
    for item in header.get("ROIContourSequence") or []:
        for contour in item.get("ContourSequence") or []:
            kind = str(contour.get("ContourGeometricType", "CLOSED_PLANAR")).replace("_", "").upper()
            points = _points(contour, file)
            if kind in CLOSED and len(points) >= 3:
                contours.setdefault(int(item.ReferencedROINumber), []).append(points)
    frames, series = references(header)
    default = next(iter(frames)) if len(frames) == 1 else text(header, "FrameOfReferenceUID")
    rois = []
    for item in header.get("StructureSetROISequence") or []:
        number = int(item.ROINumber)
        frame = str(item.get("ReferencedFrameOfReferenceUID", "") or default)
        rois.append(Roi(number, str(item.get("ROIName", "")).strip(), contours.get(number, []), frame))
    return StructureSet(file, rois, series, frames | {roi.frame_of_reference for roi in rois} - {""}, header)


def references(header: Dataset) -> tuple[frozenset[str], frozenset[str]]:
    """The frames of reference and the series that a structure set says it was drawn in."""
    frames, series = set(), set()
    for item in attribute(header, "ReferencedFrameOfReferenceSequence") or []:
        frames.add(text(item, "FrameOfReferenceUID"))
        for study in attribute(item, "RTReferencedStudySequence") or []:
            for reference in attribute(study, "RTReferencedSeriesSequence") or []:
                series.add(text(reference, "SeriesInstanceUID"))
    return frozenset(frames - {""}), frozenset(series - {""})


def _points(contour: Dataset, file: Path) -> np.ndarray:
    try:
        points = _numbers(contour).reshape(-1, 3)
    except (TypeError, ValueError) as error:
        raise IGTVError("contour data that are not triples of numbers", file=file) from error
    if not np.isfinite(points).all():
        raise IGTVError("contour data that are not finite", file=file)
    return points


def _numbers(contour: Dataset) -> np.ndarray:
    """Contour Data; from the bytes of the file where pydicom has not decoded them yet (ten times as fast)."""
    element = contour.get_item("ContourData")
    if isinstance(element, RawDataElement) and element.value:
        return np.array(element.value.strip(b" \0").split(b"\\")).astype(np.float64)
    return np.array(values_of(contour, "ContourData"), np.float64)


# ------------------------------------------------------------------------------------------------ rasterising


@dataclass
class Rasterised:
    """A mask (slices, rows, columns) of 0 and 1, and what was left out on the way."""

    mask: np.ndarray
    notes: list[str] = field(default_factory=list)


def rasterise(rois: Sequence[Roi], grid: Grid) -> Rasterised:
    """The union of structures on a grid, by pixel centres.

    Contours go to the slice nearest to their plane. Contours that were not drawn on these slices stand for a
    slab as thick as the distance between their planes; of several planes near one slice, the nearest counts.

    Raises IGTVError if a contour does not lie parallel to the slices, or if nothing is left on the grid.
    """
    columns, rows, slices = grid.size
    result = Rasterised(np.zeros((slices, rows, columns), np.uint8))
    for roi in rois:
        for k, polygons in _by_slice(roi, grid, result.notes).items():
            plane = np.zeros((rows, columns), np.uint8)
            for points in polygons:
                plane[polygon(points[:, 1], points[:, 0], plane.shape)] ^= 1
            result.mask[k] |= plane
    if not result.mask.any():
        names = _listed([roi.name for roi in rois])
        raise IGTVError(
            f"structure {names} covers no voxel of the image; {'; '.join(result.notes) or 'too small'}"
        )
    return result


def _by_slice(roi: Roi, grid: Grid, notes: list[str]) -> dict[int, list[np.ndarray]]:
    """Slice -> its contours in index coordinates (column, row)."""
    columns, rows, slices = grid.size
    axes = np.array(grid.direction).reshape(3, 3)
    contours: list[tuple[float, np.ndarray]] = []
    seen: set[bytes] = set()
    outside = 0
    for points in roi.contours:
        if points.tobytes() in seen:  # twice the same contour would cancel out
            notes.append(f"left out a repeated contour of {roi.name}")
            continue
        seen.add(points.tobytes())
        index = (points - grid.origin) @ axes / grid.spacing
        if np.ptp(index[:, 2]) > 2 * IN_PLANE:
            raise IGTVError(
                f"a contour of {roi.name} does not lie in a slice of the image (it spans "
                f"{np.ptp(index[:, 2]) * grid.spacing[2]:.1f} mm across the slices)",
                remedy="convert on the image that the structure was drawn on",
            )
        outside += bool(
            (index[:, :2].min(0) < -0.5).any()
            or (index[:, :2].max(0) > np.array([columns, rows]) - 0.5).any()
        )
        contours.append((float(np.median(index[:, 2])), index[:, :2]))
    if outside:
        notes.append(f"{outside} contour(s) of {roi.name} reach beyond the image")
    if not contours:
        return {}

    heights = np.array([z for z, _ in contours])
    order = np.sort(heights)
    starts = np.flatnonzero(np.insert(np.diff(order) > ON_GRID, 0, True))
    planes = np.array([group.mean() for group in np.split(order, starts[1:])])
    member = np.abs(heights[:, None] - planes).argmin(1)
    on_grid = np.abs(planes - np.round(planes)).max() < ON_GRID
    step = 1.0 if on_grid or len(planes) == 1 else max(1.0, float(np.diff(planes).min()))
    result: dict[int, list[np.ndarray]] = {}
    for k in range(slices):
        near = np.flatnonzero((planes - k > -step / 2 - 1e-6) & (planes - k <= step / 2 - 1e-6))
        if len(near):
            nearest = near[np.argmin(np.abs(planes[near] - k))]
            result[k] = [contours[i][1] for i in np.flatnonzero(member == nearest)]
    off = int(((planes < -0.5) | (planes > slices - 0.5)).sum())
    if off:
        notes.append(
            f"{off} of {len(planes)} contour planes of {roi.name} lie beyond the first or last slice"
        )
    return result


def read_structure(rtstruct: str | Path, pattern: str, image: sitk.Image, union: bool = False) -> sitk.Image:
    """The mask (uint8, 0 and 1) of a structure on the grid of `image`.

    Args:
        rtstruct: the RTSTRUCT file.
        pattern: name of the structure, or a regular expression for the whole name.
        image: gives the grid; one read by `read_ct` or `read_pet` also gives its frame of reference, which
        must
            be that of the structure.
        union: unite all structures that match, instead of refusing them.

    Raises IGTVError if none or several structures match, if the frames of reference differ, or if the
    structure does not lie on the grid.
    """
    rois = read_structure_set(rtstruct).select(pattern, union)
    if image.HasMetaDataKey(FRAME_KEY):
        frame = image.GetMetaData(FRAME_KEY)
        if any(roi.frame_of_reference and roi.frame_of_reference != frame for roi in rois):
            raise IGTVError("structure and image have different frames of reference", file=rtstruct)
    grid = Grid.of(image)
    try:
        mask = sitk.GetImageFromArray(rasterise(rois, grid).mask)
    except IGTVError as error:
        raise IGTVError(error.what, file=rtstruct, remedy=error.remedy) from error
    mask.CopyInformation(image)
    return mask


FRAME_KEY = (
    "0020|0052"  # where read_ct and read_pet leave the frame of reference, as SimpleITK's own reader does
)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) if names else "none"
