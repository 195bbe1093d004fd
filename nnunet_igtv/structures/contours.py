"""What the items of a Contour Sequence mean: outlines that enclose something, lines, points.

Only closed contours are regions (DICOM PS3.3 C.8.8.6). Files have others: a type that is missing or empty, an
outline that its author did not close, single clicks. What is certainly an outline is taken as one, with a
note; lines are handed on, because they may stand where an outline is missing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import text, values_of
from nnunet_igtv.errors import IGTVError

# ROI Generation Description (3006,0038) of structures that this package writes: what a contour stands for
ON_EVERY_SLICE = "nnunet-igtv: contours on every slice of {thickness:.7g} mm"
CLOSED = {"CLOSEDPLANAR", "CLOSEDPLANARXOR", "INTERPOLATEDPLANAR"}
EXCLUSIVE, POINT = "CLOSEDPLANARXOR", "POINT"


@dataclass
class Drawn:
    """The contours of one structure, each (points, 3) in mm.

    Attributes:
        outlines: closed contours, of 3 points or more.
        lines: contours of other types that are no outlines, of 3 points or more.
        line_types: their geometric types.
        exclusive: the file says that contours of one plane are combined by exclusive-or.
        thickness_mm: of the slab that each contour stands for, where the file says it.
        notes: what was taken for something else than it says, or left out.
        fault: contours that cannot be read; None if all can.
    """

    outlines: list[np.ndarray] = field(default_factory=list)
    lines: list[np.ndarray] = field(default_factory=list)
    line_types: set[str] = field(default_factory=set)
    exclusive: bool = False
    thickness_mm: float | None = None
    notes: list[str] = field(default_factory=list)
    fault: IGTVError | None = None


def read_contours(items: Iterable[Dataset], file: Path, description: str = "") -> Drawn:
    """The contours in a Contour Sequence of `file`, of a structure with this ROI Generation Description."""
    drawn = Drawn()
    closed: dict[str, int] = {}  # geometric type -> contours that were taken as closed
    tiny: list[str] = []  # geometric types of contours of fewer than three points
    shifts: list[float] = []
    miscounted = 0
    for item in items:
        try:
            points = _points(item)
            shift = _offset(item)
        except (TypeError, ValueError) as error:
            drawn.fault = drawn.fault or IGTVError(str(error), file=file, remedy="export it again")
            continue
        if shift is not None:
            points = points + shift
            shifts.append(float(np.abs(shift).max()))
        miscounted += text(item, "NumberOfContourPoints") not in ("", str(len(points)))
        kind = text(item, "ContourGeometricType").upper()
        letters = re.sub("[^A-Z]", "", kind)
        drawn.exclusive |= letters == EXCLUSIVE
        if len(points) < 3:
            tiny.append(kind)
        elif letters in CLOSED:
            drawn.outlines.append(points)
        elif not letters or (letters != POINT and _ends_meet(points)):
            drawn.outlines.append(points)
            closed[kind] = closed.get(kind, 0) + 1
        else:
            drawn.lines.append(points)
            drawn.line_types.add(kind)
    if found := re.fullmatch(ON_EVERY_SLICE.split("{")[0] + r"(\d+(?:\.\d+)?) mm", description):
        drawn.thickness_mm = float(found[1]) or None
    for kind, count in closed.items():
        said = f"the geometric type {kind}, and ends that meet" if kind else "no geometric type (3006,0042)"
        drawn.notes.append(f"{count} contour(s) with {said}: taken as closed contours")
    if tiny:
        kinds = ", ".join(sorted(set(tiny) - {""})) or "none"
        drawn.notes.append(
            f"{len(tiny)} contour(s) of fewer than three points (geometric type {kinds}) enclose nothing: "
            "left out"
        )
    if shifts:
        drawn.notes.append(
            f"{len(shifts)} contour(s) were moved by their Contour Offset Vector (3006,0045), by up to "
            f"{max(shifts):.1f} mm"
        )
    if miscounted:
        drawn.notes.append(f"{miscounted} contour(s) have another number of points than their header says")
    return drawn


def _points(item: Dataset) -> np.ndarray:
    try:
        points = _numbers(item).reshape(-1, 3)
    except (TypeError, ValueError) as error:
        raise ValueError("contour data that are not triples of numbers") from error
    if not np.isfinite(points).all():
        raise ValueError("contour data that are not finite")
    return points


def _numbers(item: Dataset) -> np.ndarray:
    """Contour Data; from the bytes of the file where pydicom has not decoded them yet (ten times as fast)."""
    element = item.get_item("ContourData")
    if isinstance(element, RawDataElement) and element.value:
        return np.array(element.value.strip(b" \0").split(b"\\")).astype(np.float64)
    return np.array(values_of(item, "ContourData"), np.float64)


def _offset(item: Dataset) -> np.ndarray | None:
    """The retired Contour Offset Vector, mm; None if there is none or it is zero."""
    values = values_of(item, "ContourOffsetVector") if "ContourOffsetVector" in item else []
    if not values:
        return None
    shift = np.array(values, np.float64)
    if shift.shape != (3,) or not np.isfinite(shift).all():
        raise ValueError("a Contour Offset Vector (3006,0045) that is not three numbers")
    return shift if shift.any() else None


def _ends_meet(points: np.ndarray) -> bool:
    """Whether the last point is as near to the first as neighbours are to each other."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return bool(np.linalg.norm(points[-1] - points[0]) <= steps.max() * 1.001)
