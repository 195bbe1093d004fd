"""RTSTRUCT files: named contours in patient coordinates, and the series that they were drawn on.

References to image instances are not followed: they are optional and often point elsewhere.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import attribute, text
from nnunet_igtv.dicom.files import read_header
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.structures.contours import Drawn, read_contours

# where read_ct and read_pet leave the frame of reference, as SimpleITK's own reader does
FRAME_KEY = "0020|0052"
LISTED = 30  # names in one message
_SEPARATORS = r"[\s_.\-]+"


@dataclass(frozen=True)
class Roi:
    """One structure: what was drawn for it, and the frame of reference that its coordinates are in.

    `number` is its ROI Number, "" where the file gives none.
    """

    number: str
    name: str
    drawn: Drawn
    frame_of_reference: str

    @property
    def contours(self) -> list[np.ndarray]:
        """Its closed contours, each (points, 3) in mm."""
        return self.drawn.outlines

    @property
    def is_drawn(self) -> bool:
        """Whether there is more of it than its name or points: then it counts, also if it cannot be used."""
        return bool(self.contours or self.drawn.lines or self.drawn.fault)


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
        """The structure that a pattern means, or with `union` all of them; structures that are not
        drawn are passed over.

        Raises IGTVError, listing the names that exist, if none matches or several do; and where one that is
        meant has no closed contours.
        """
        found = self.match(pattern)
        if not found:
            raise IGTVError(
                f"no structure matches {pattern!r}; there are: {listed(self.names)}",
                file=self.file,
                remedy="name one of them (its name, or a regular expression for the whole name)",
            )
        drawn = [roi for roi in found if roi.is_drawn]
        if not drawn:
            raise self.without_outlines(found)
        if len(drawn) > 1 and not union:
            raise IGTVError(
                f"{len(drawn)} structures match {pattern!r}: {listed([roi.name for roi in drawn])}",
                file=self.file,
                remedy="give a narrower pattern, or unite them",
                settings=["structure", "union"],
            )
        for roi in drawn:
            if not roi.contours:
                raise self.without_outlines([roi])
        return drawn

    def without_outlines(self, rois: Sequence[Roi]) -> IGTVError:
        """Why structures of this set cannot be used that have no closed contours."""
        for roi in rois:
            if roi.drawn.fault:
                return roi.drawn.fault
        others = sorted({kind for roi in rois for kind in roi.drawn.line_types})
        notes = [note for roi in rois for note in roi.drawn.notes]
        notes += [f"contours of the geometric type {kind} are no outlines" for kind in others]
        return IGTVError(
            f"structure {listed([roi.name for roi in rois])} has no closed contours"
            + (f" ({'; '.join(notes)})" if notes else ""),
            file=self.file,
        )


def normalised(name: str) -> str:
    """A structure name as compared: without case, blanks, '_', '-' and '.'. Between two digits any of these
    are one '.': "GTV 1.1" is "GTV_1_1", and not "GTV 11"."""
    between_digits = re.sub(rf"(?<=[0-9]){_SEPARATORS}(?=[0-9])", "\0", name)
    return re.sub(_SEPARATORS, "", between_digits).replace("\0", ".").casefold()


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern means a structure: the whole name normalised, or a regular expression for all of it.

    Never a part of the name: "ITV" does not mean "IGTV", nor "GTV" "PTV-GTV".
    """
    if normalised(pattern) == normalised(name):
        return True
    meant = expression(pattern)
    return bool(meant.fullmatch(name.strip()) or meant.fullmatch(normalised(name)))


def expression(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression, for which case does not count. Raises IGTVError if it is none."""
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise IGTVError(
            f"{pattern!r} is not a regular expression ({error})",
            remedy="correct the pattern",
            settings=["structure"],
        ) from error


def read_structure_set(file: str | Path) -> StructureSet:
    """Read an RTSTRUCT file. Raises IGTVError if it is none, or damaged as a whole.

    Contours that cannot be read are the `fault` of their structure: the others may be used.
    """
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
    items: dict[str, list[Dataset]] = {}
    for item in header.get("ROIContourSequence") or []:
        items.setdefault(number_of(item, "ReferencedROINumber"), []).extend(item.get("ContourSequence") or [])
    frames, series = references(header)
    default = next(iter(frames)) if len(frames) == 1 else text(header, "FrameOfReferenceUID")
    rois: list[Roi] = []
    for item in header.get("StructureSetROISequence") or []:
        number, name = number_of(item, "ROINumber"), text(item, "ROIName")
        frame = text(item, "ReferencedFrameOfReferenceUID") or default
        description = text(item, "ROIGenerationDescription")
        rois.append(Roi(number, name, read_contours(items.get(number, []), file, description), frame))
    _refuse_shared_numbers(rois, file)
    return StructureSet(file, rois, series, frames | {roi.frame_of_reference for roi in rois} - {""}, header)


def number_of(item: Dataset, name: str) -> str:
    """A structure's number as digits ("01" is "1"); "" where it is empty or missing."""
    number = text(item, name)
    return str(int(number)) if number.isdecimal() else number


def _refuse_shared_numbers(rois: list[Roi], file: Path) -> None:
    """Of structures without a number, or with one number, nobody can say whose the contours are."""
    counts = Counter(roi.number for roi in rois)
    for roi in rois:
        if not roi.number:
            what = f"structure {roi.name!r} has no ROI Number (3006,0022)"
            roi.drawn.fault = IGTVError(what, file=file, remedy="give each structure a number of its own")
        elif counts[roi.number] > 1:
            what = f"{counts[roi.number]} structures have the number {roi.number}"
            roi.drawn.fault = IGTVError(what, file=file, remedy="give each a number of its own")


def references(header: Dataset) -> tuple[frozenset[str], frozenset[str]]:
    """The frames of reference and the series that a structure set says it was drawn in."""
    frames, series = set(), set()
    for item in attribute(header, "ReferencedFrameOfReferenceSequence") or []:
        frames.add(text(item, "FrameOfReferenceUID"))
        for study in attribute(item, "RTReferencedStudySequence") or []:
            for reference in attribute(study, "RTReferencedSeriesSequence") or []:
                series.add(text(reference, "SeriesInstanceUID"))
    return frozenset(frames - {""}), frozenset(series - {""})


def listed(names: Sequence[str]) -> str:
    """Names as a message shows them: some thirty, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:LISTED]) or "none"
    return shown + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
