"""DICOM image series from headers: which files belong together, in which order, on which grid.

File names, instance numbers and slice locations are never trusted: slices are ordered by the projection of
Image Position (Patient) on the normal of the slice (DICOM PS3.3 C.7.6.2.1.1). SimpleITK's series reader only
warns about a missing slice or a localizer in the series and returns a wrong geometry; here both are found
before any pixel is read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from nnunet_igtv.dicom.attributes import integer, text, vector, words_of
from nnunet_igtv.dicom.files import list_files, read_header
from nnunet_igtv.dicom.frames import flat_headers
from nnunet_igtv.dicom.geometry import axes_of, grid_of
from nnunet_igtv.dicom.phases import Moment, divided
from nnunet_igtv.dicom.pixels import OUTSIDE, planes
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid

NOT_AN_IMAGE = {"SEG", "RTDOSE", "RTIMAGE", "SR", "PR", "KO", "REG", "RTSTRUCT", "RTPLAN", "RTRECORD", "DOC"}
AXES_TOLERANCE = 1e-3  # of direction cosines and pixel spacings, which exports round
PARALLEL = np.cos(np.radians(10))  # of the normals of two images; scouts and reformats are farther off
NO_NUMBER = 2**31  # stands for a missing Series Number: larger than any
AVERAGE, MAXIMUM, MINIMUM = "average", "maximum", "minimum"  # over the phases of a breath
_COMBINED = {
    "": lambda stack: stack[0],
    AVERAGE: lambda stack: np.rint(stack.mean(0)),  # in whole HU, as scanners store it
    MAXIMUM: lambda stack: stack.max(0),
}

Slice = tuple[Path, int | None, Dataset]  # file, frame in it, header


@dataclass
class Series:
    """The images of one DICOM series that form one stack, in slice order along the normal.

    `headers` (no pixels) and `files` run in step, one per slice; the frames of a multi-frame object are
    flattened to one header each, with `frames` their index in the file (None for single-frame files).
    `notes` says what was left out and why. `fault` is what makes the stack unusable, None if nothing does.
    `moment` is set where a DICOM series holds volumes of several moments of the breath, and this is one of
    them; `told_by` says which attribute tells them apart. `parts` are the series of one grid that this one is
    computed from, voxel by voxel, as `how` says (`AVERAGE`, `MAXIMUM`): no file holds it, and headers and
    files are those of the first.
    """

    headers: list[Dataset]
    files: list[Path]
    frames: list[int | None]
    notes: list[str] = field(default_factory=list)
    fault: IGTVError | None = None
    moment: Moment | None = None
    told_by: str = ""
    parts: tuple["Series", ...] = ()
    how: str = ""

    @property
    def uid(self) -> str:
        return text(self.headers[0], "SeriesInstanceUID")

    @property
    def study_uid(self) -> str:
        return text(self.headers[0], "StudyInstanceUID")

    @property
    def modality(self) -> str:
        return text(self.headers[0], "Modality")

    @property
    def description(self) -> str:
        if self.parts:
            return f"{self.how} of {len(self.parts)} phases, computed"
        return text(self.headers[0], "SeriesDescription")

    @property
    def number(self) -> int:
        """Series Number; a series without one sorts last."""
        try:
            return int(self.headers[0].SeriesNumber)
        except (AttributeError, TypeError, ValueError):
            return NO_NUMBER

    @property
    def frame_of_reference(self) -> str:
        return text(self.headers[0], "FrameOfReferenceUID")

    @property
    def folder(self) -> Path:
        return self.files[0].parent

    def described(self) -> str:
        """Size and spacing, in words."""
        size = " x ".join(map(str, self.grid.size))
        spacing = " x ".join(f"{value:.2f}" for value in self.grid.spacing)
        return f"{size} voxels of {spacing} mm"

    @cached_property
    def grid(self) -> Grid:
        """The grid of the stack. Raises IGTVError if the slices do not form a regular one."""
        if self.fault:
            raise self.fault
        return grid_of(self.headers, self.files)


def find_series(folder: str | Path, modality: str | None = None) -> list[Series]:
    """All image series under a folder (searched to any depth), or those of one modality ("CT", "PT", …).

    Series whose slices do not form a regular stack are returned too, with `fault` set: `grid` and
    `read_voxels` raise it. Sorted by modality, number and UID. Raises IGTVError for a folder that does not
    exist and for a file that claims to be DICOM and cannot be read.
    """
    return [s for s in group_series(read_headers(folder)) if modality is None or s.modality == modality]


def read_headers(folder: str | Path) -> list[tuple[Path, Dataset]]:
    """The headers of all DICOM files under a folder; raises as `find_series` does."""
    found = ((path, read_header(path)) for path in list_files(folder))
    return [(path, header) for path, header in found if header is not None]


def group_series(headers: Iterable[tuple[Path, Dataset]]) -> list[Series]:
    """Headers of any files -> image series, sorted by modality, number, UID and moment of the breath.

    A DICOM series with volumes of several moments becomes one `Series` for each, if its headers tell them
    apart.
    """
    groups: dict[tuple[str, str], list[tuple[Path, Dataset]]] = {}
    for path, header in headers:
        if _is_image(header):
            groups.setdefault(
                (text(header, "StudyInstanceUID"), text(header, "SeriesInstanceUID")), []
            ).append((path, header))
    series = [part for group in groups.values() for part in _parts(_stack(group))]
    return sorted(series, key=lambda s: (s.modality, s.number, s.uid, s.moment.key if s.moment else ()))


def read_voxels(series: Series) -> tuple[np.ndarray, list[str]]:
    """Rescaled pixel values (slices, rows, columns), float32: HU for CT, the units of the file for PET.

    And notes on what was replaced in them. Raises IGTVError for pixels that cannot be read, are not finite or
    have no known unit, and for an irregular stack.
    """
    columns, rows, slices = series.grid.size
    voxels = np.empty((slices, rows, columns), np.float32)
    sources, outside = series.parts or (series,), 0
    readers = [planes(s.files, s.frames, s.headers) for s in sources]
    for k, together in enumerate(zip(*readers, strict=True)):  # one slice of each is in memory
        voxels[k] = _COMBINED[series.how](np.stack([plane.values for plane in together]))
        outside += sum(plane.outside for plane in together)
    share = outside / voxels.size / len(sources)
    text = f"{outside} voxels ({share:.1%}) outside of the reconstruction (pixel padding)"
    return voxels, [f"{text} read as {OUTSIDE[series.modality]:g}"] if outside else []


# ------------------------------------------------------------------------------------------------- stacks


def _is_image(header: Dataset) -> bool:
    return "Rows" in header and "Columns" in header and text(header, "Modality") not in NOT_AN_IMAGE


def _stack(group: Sequence[tuple[Path, Dataset]]) -> Series:
    """One SeriesInstanceUID -> one stack: without localizers and duplicates, sorted, checked."""
    notes: list[str] = []
    try:
        return _checked(_slices(group, notes), notes)
    except IGTVError as error:
        paths, headers = zip(*group, strict=True)
        return Series(list(headers), list(paths), [None] * len(group), notes, error)


def _checked(slices: list[Slice], notes: list[str]) -> Series:
    """Slices -> one stack; what makes them none is its `fault`."""
    fault = None
    try:
        slices = _largest_group(slices, notes)
        slices = _sorted_without_duplicates(slices, notes)
        grid_of([s[2] for s in slices], [s[0] for s in slices])
    except IGTVError as error:
        fault = error
    return Series([s[2] for s in slices], [s[0] for s in slices], [s[1] for s in slices], notes, fault)


def _parts(whole: Series) -> list[Series]:
    """The volumes of several moments of the breath in one series; itself where it has none."""
    if not whole.fault:
        return [whole]
    try:
        *_, normal = axes_of(whole.headers[0], whole.files[0])
        heights = [
            float(vector(header, "ImagePositionPatient", 3, file) @ normal)
            for header, file in zip(whole.headers, whole.files, strict=True)
        ]
    except IGTVError:
        return [whole]
    found = divided(whole.headers, heights)
    if found is None:
        return [whole]
    teller, moments = found
    parts = []
    for moment in dict.fromkeys(moments):
        slices = [
            item
            for item, own in zip(
                zip(whole.files, whole.frames, whole.headers, strict=True), moments, strict=True
            )
            if own == moment
        ]
        part = _checked(slices, list(whole.notes))
        part.moment, part.told_by = moment, teller.name
        parts.append(part)
    return parts


def _slices(group: Sequence[tuple[Path, Dataset]], notes: list[str]) -> list[Slice]:
    """The slices of a stack, frames as slices, without localizers and secondary captures."""
    slices: list[Slice] = []
    for path, header in group:
        if other := no_slice(header):
            notes.append(f"left out {other}")
        else:
            try:
                slices += [(path, frame, flat) for frame, flat in flat_headers(header)]
            except Exception as error:  # pydicom decodes late
                raise IGTVError(
                    "the functional groups of a multi-frame file are damaged", file=path
                ) from error
    if not slices:
        raise IGTVError("the series holds localizers or secondary captures only", file=group[0][0])
    return slices


def no_slice(header: Dataset) -> str:
    """What an image is that is no slice of a volume; "" for one that may be."""
    if text(header, "SOPClassUID").startswith(SecondaryCaptureImageStorage):  # single- or multi-frame
        return "a secondary capture"
    return "a localizer image" if "LOCALIZER" in words_of(header, "ImageType") else ""


def _largest_group(slices: list[Slice], notes: list[str]) -> list[Slice]:
    """The images that share orientation, matrix, pixel spacing and frame of reference.

    A stray few of another orientation (scouts, reformatted views) are left out. Refused are two comparable
    groups, and images beside the others, which may be a part of their stack.
    """
    groups: list[tuple[np.ndarray, tuple, list[Slice]]] = []
    for item in slices:
        path, _, header = item
        axes = [*vector(header, "ImageOrientationPatient", 6, path), *vector(header, "PixelSpacing", 2, path)]
        rest = *(integer(header, n, path) for n in ("Rows", "Columns")), text(header, "FrameOfReferenceUID")
        for known, same, members in groups:
            if same == rest and np.abs(known - axes).max() < AXES_TOLERANCE:
                members.append(item)
                break
        else:
            groups.append((np.array(axes), rest, [item]))
    largest = max((members for *_, members in groups), key=len)
    others = len(slices) - len(largest)
    if others * 2 > len(largest):
        raise IGTVError(
            f"one series holds {len(groups)} stacks of different orientation, matrix, pixel spacing or frame "
            f"of reference ({', '.join(str(len(members)) for *_, members in groups)} images)",
            file=largest[0][0].parent,
            remedy="split the series",
        )
    if others:
        left_out = [item for *_, members in groups if members is not largest for item in members]
        _refuse_parallel(largest[0], left_out)
        notes.append(f"left out {others} image(s) of another orientation")
    return largest


def _refuse_parallel(member: Slice, others: list[Slice]) -> None:
    """Raises IGTVError where images that would be left out are parallel to those of the stack."""
    normal = axes_of(member[2], member[0])[2]
    parallel = [item for item in others if abs(axes_of(item[2], item[0])[2] @ normal) > PARALLEL]
    if parallel:
        raise IGTVError(
            f"{len(parallel)} image(s) of the series are parallel to the others and differ in matrix, pixel "
            "spacing or frame of reference, or by a small angle",
            file=parallel[0][0],
            remedy="split the series, or take out the images that are no part of the stack",
        )


def _sorted_without_duplicates(slices: list[Slice], notes: list[str]) -> list[Slice]:
    *_, normal = axes_of(slices[0][2], slices[0][0])
    height = {id(s): float(vector(s[2], "ImagePositionPatient", 3, s[0]) @ normal) for s in slices}
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


def _same_pixels(a: Slice, b: Slice) -> bool:
    first, second = (next(planes([path], [frame], [header])) for path, frame, header in (a, b))
    return np.array_equal(first.values, second.values)
