"""RTSTRUCT files: named contours in patient coordinates, and the series that they were drawn on.

References to image instances are not followed: they are optional and often point elsewhere.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import attribute, text, values_of
from nnunet_igtv.dicom.files import read_header
from nnunet_igtv.errors import IGTVError

CLOSED = {"CLOSEDPLANAR", "CLOSEDPLANARXOR", "INTERPOLATEDPLANAR"}
FRAME_KEY = (
    "0020|0052"  # where read_ct and read_pet leave the frame of reference, as SimpleITK's own reader does
)


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
                f"no structure matches {pattern!r}; there are: {listed(self.names)}",
                file=self.file,
                remedy="name one of them (its name, or a regular expression for the whole name)",
            )
        drawn = [roi for roi in found if roi.contours]
        if not drawn:
            raise IGTVError(
                f"structure {listed([roi.name for roi in found])} has no closed contours", file=self.file
            )
        if len(drawn) > 1 and not union:
            raise IGTVError(
                f"{len(drawn)} structures match {pattern!r}: {listed([roi.name for roi in drawn])}",
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


def listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) if names else "none"
