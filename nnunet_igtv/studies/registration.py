"""DICOM registration objects (REG): which frames of reference they join, and by which matrix.

A Spatial Registration (PS3.3 A.39, C.20.2) has a frame of reference of its own, the registered one, and one
item per source: its matrix takes a point of the source to the registered frame. So any two frames that one
object names are joined by it, in either direction, and two objects that share a frame make a chain.

A Deformable Spatial Registration is read for the frames it names only, so that it can be refused by name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import DeformableSpatialRegistrationStorage, SpatialRegistrationStorage

from nnunet_igtv.dicom.attributes import attribute, text, vector
from nnunet_igtv.dicom.copies import TRANSFORMATIONS, one_of_each
from nnunet_igtv.errors import IGTVError

TYPES = ("RIGID", "RIGID_SCALE", "AFFINE")
TOLERANCE = 1e-3  # of a matrix against its type, as exports round: half a millimetre at 500 mm
SCALES = (0.5, 2.0)  # of an affine matrix: no two scans of one patient differ more
SAME_MM = 0.5  # two registrations that move no point of the trunk further apart are one
TRUNK_MM = 250.0  # half the side of the cube in which they are compared


@dataclass(frozen=True)
class Source:
    """One frame of reference that an object takes to its registered frame.

    Attributes:
        matrix: (4, 4), a point in mm -> a point of the registered frame.
        type: "RIGID", "RIGID_SCALE" or "AFFINE".
        fault: why the matrix cannot be used, None if it can.
    """

    matrix: np.ndarray
    type: str
    fault: IGTVError | None = None


@dataclass(frozen=True)
class Registration:
    """One registration object.

    Attributes:
        sources: frame of reference -> how it gets to the registered frame.
        fault: why nothing of the object can be used (deformable, damaged), None if something can.
    """

    file: Path
    frames: frozenset[str]
    sources: Mapping[str, Source]
    fault: IGTVError | None = None

    def between(self, source: str, target: str) -> tuple[np.ndarray, list[str]]:
        """The matrix from one frame to another, and the types of what it is made of; raises what is wrong."""
        if self.fault:
            raise self.fault
        parts = [self.sources[frame] for frame in (source, target)]
        for part in parts:
            if part.fault:
                raise part.fault
        matrix = np.linalg.inv(parts[1].matrix) @ parts[0].matrix
        return matrix, [part.type for part in parts]


@dataclass(frozen=True)
class Joined:
    """How two frames of reference are joined.

    Attributes:
        matrix: (4, 4), a point in mm of the first frame -> the same point of the patient in the second.
        type: the loosest type of the matrices that it is made of.
        objects: how many registration objects it took.
        notes: what a person should know about it.
    """

    matrix: np.ndarray
    type: str
    objects: int = 1
    notes: tuple[str, ...] = ()

    @property
    def recorded(self) -> dict[str, object]:
        """What is kept of it in the record of a conversion."""
        return {"type": self.type, "objects": self.objects, "pet_to_ct": recorded_matrix(self.matrix)}

    @property
    def how(self) -> str:
        return (
            f"{self.type} by {'a registration object' if self.objects == 1 else 'two registration objects'}"
        )


def recorded_matrix(matrix: np.ndarray) -> list[list[float]]:
    """A matrix as records hold it."""
    return [[round(float(value), 9) for value in row] for row in matrix]


def is_registration(header: Dataset) -> bool:
    return text(header, "SOPClassUID") in (SpatialRegistrationStorage, DeformableSpatialRegistrationStorage)


def frames_named(header: Dataset) -> frozenset[str]:
    """All frames of reference that a registration object names, its own included."""
    named = {text(header, "FrameOfReferenceUID")}
    for item in attribute(header, "RegistrationSequence") or []:
        named.add(text(item, "FrameOfReferenceUID"))
    for item in attribute(header, "DeformableRegistrationSequence") or []:
        named.add(text(item, "SourceFrameOfReferenceUID"))
    return frozenset(named - {""})


def series_named(header: Dataset) -> frozenset[str]:
    """The series that a registration object refers to, in any study."""
    series = set()
    holders = [header, *(attribute(header, "StudiesContainingOtherReferencedInstancesSequence") or [])]
    for holder in holders:
        for item in attribute(holder, "ReferencedSeriesSequence") or []:
            series.add(text(item, "SeriesInstanceUID"))
    return frozenset(series - {""})


def find_registrations(headers: Sequence[tuple[Path, Dataset]]) -> list[Registration]:
    """The registration objects among some headers; copies of one object count once.

    The headers of images tell the frame of a source that is given by its images only. Raises IGTVError where
    two files have one UID and other contents.
    """
    found = one_of_each([each for each in headers if is_registration(each[1])], TRANSFORMATIONS)
    if not found:
        return []
    frames = {text(h, "SOPInstanceUID"): text(h, "FrameOfReferenceUID") for _, h in headers}
    return [_read(path, header, frames) for path, header in found]


def join(registrations: Iterable[Registration], source: str, target: str) -> Joined | None:
    """How a point of one frame of reference gets to another; None where no object joins them.

    One object is preferred to a chain of two. A deformable object is passed over, with a note, where another
    one joins the frames.

    Raises:
        IGTVError: what joins them is deformable or damaged, or says different things.
    """
    registrations = [r for r in registrations if r.frames]
    direct = [[(r, source, target)] for r in registrations if {source, target} <= r.frames]
    chains = [
        [(a, source, between), (b, between, target)]
        for a, b in product(registrations, repeat=2)
        if a is not b and source in a.frames and target in b.frames
        for between in sorted((a.frames & b.frames) - {source, target})
    ]
    refusals: list[IGTVError] = []
    for ways in (direct, chains):
        found: list[Joined] = []
        for way in ways:
            try:
                found.append(_along(way))
            except IGTVError as error:
                refusals.append(error)
        if found:
            return _one_of(found, refusals)
    if refusals:
        raise refusals[0]
    return None


def joined_frames(joins: Iterable[frozenset[str]], frames: Iterable[str], objects: int = 2) -> frozenset[str]:
    """The frames that are joined with some others by a chain of `objects` objects at most.

    Args:
        joins: the frames that each object names.
        frames: where the chain begins; they are in the result.
        objects: as many as `join` makes a chain of.
    """
    reached = frozenset(frames)
    joins = list(joins)
    for _ in range(objects):
        reached = reached.union(*(named for named in joins if named & reached))
    return reached


def _along(way: Sequence[tuple[Registration, str, str]]) -> Joined:
    steps = [registration.between(source, target) for registration, source, target in way]
    types = [kind for _, kinds in steps for kind in kinds]
    matrix = reduce(lambda so_far, step: step[0] @ so_far, steps, np.eye(4))
    return Joined(matrix, max(types, key=TYPES.index), len(way))


def _one_of(found: Sequence[Joined], refusals: Sequence[IGTVError]) -> Joined:
    """The one of several ways, if they agree."""
    first = found[0]
    apart = max(_apart(first.matrix, other.matrix) for other in found)
    if apart > SAME_MM:
        raise IGTVError(
            f"{len(found)} registrations join the same frames of reference and differ, by up to "
            f"{apart:.1f} mm",
            remedy="keep the one that is right",
        )
    notes = tuple(f"another registration of the same frames is not used: {error.what}" for error in refusals)
    return Joined(first.matrix, first.type, first.objects, notes)


# ------------------------------------------------------------------------------------------------ reading


def _read(file: Path, header: Dataset, frames_of_images: Mapping[str, str]) -> Registration:
    if text(header, "SOPClassUID") == DeformableSpatialRegistrationStorage:
        deformable = IGTVError(
            "the registration is deformable; only rigid and affine ones are applied",
            file=file,
            remedy="export a rigid registration of the PET/CT to the planning CT",
        )
        return Registration(file, frames_named(header), {}, deformable)
    own = text(header, "FrameOfReferenceUID")
    sources: dict[str, Source] = {own: Source(np.eye(4), "RIGID")} if own else {}
    fault = None if own else _damaged(file, "it has no frame of reference")
    for item in attribute(header, "RegistrationSequence") or []:
        frame = text(item, "FrameOfReferenceUID") or _frame_of_images(item, frames_of_images)
        if not frame:
            continue  # a source whose images are elsewhere
        source = _source(item, file)
        before = sources.get(frame, source)
        apart = 0.0 if source.fault else _apart(before.matrix, source.matrix)
        if apart > SAME_MM:
            what = f"moves its own frame of reference by {apart:.1f} mm"
            if frame != own:
                what = f"has two matrices for one frame of reference, {apart:.1f} mm apart"
            source = Source(source.matrix, source.type, _damaged(file, f"it {what}"))
        sources[frame] = source
    return Registration(file, frozenset(sources), sources, fault)


def _frame_of_images(item: Dataset, frames_of_images: Mapping[str, str]) -> str:
    """The frame of reference of the images that a source is given by, "" if none of them is here."""
    images = attribute(item, "ReferencedImageSequence") or []
    found = {frames_of_images.get(text(image, "ReferencedSOPInstanceUID"), "") for image in images} - {""}
    return found.pop() if len(found) == 1 else ""


def _source(item: Dataset, file: Path) -> Source:
    """The matrix of one source. The first matrix of several is applied first (C.20.2.1.1)."""
    matrix, types = np.eye(4), [TYPES[0]]
    try:
        steps = [
            step
            for registration in attribute(item, "MatrixRegistrationSequence") or []
            for step in attribute(registration, "MatrixSequence") or []
        ]
        if not steps:
            raise _damaged(file, "it holds no matrix")
        for step in steps:
            values = vector(step, "FrameOfReferenceTransformationMatrix", 16, file).reshape(4, 4)
            kind = text(step, "FrameOfReferenceTransformationMatrixType").upper() or "RIGID"
            _check(values, kind, file)
            matrix, types = values @ matrix, [*types, kind]
    except IGTVError as error:
        return Source(np.eye(4), "RIGID", error)
    return Source(matrix, max(types, key=TYPES.index))


def _check(matrix: np.ndarray, kind: str, file: Path) -> None:
    """Raises IGTVError for a matrix that is not what its type (0070,030C) says.

    RIGID: orthonormal. RIGID_SCALE: orthogonal columns. AFFINE: anything with a last row of 0 0 0 1. None may
    mirror, and none may scale as no two scans of a patient differ.
    """
    if kind not in TYPES:
        raise _damaged(file, f"{kind!r} is no type of matrix")
    if np.abs(matrix[3] - (0, 0, 0, 1)).max() > TOLERANCE:
        raise _damaged(file, "the last row of its matrix is not 0 0 0 1")
    axes = matrix[:3, :3]
    products = axes.T @ axes
    scales = np.linalg.svd(axes, compute_uv=False)
    shear = np.abs(products - np.diag(np.diag(products))).max()
    if np.linalg.det(axes) <= 0:
        raise _damaged(file, "its matrix mirrors the patient or is singular")
    if kind == "RIGID" and np.abs(products - np.eye(3)).max() > TOLERANCE:
        shown = f"scales by {scales.min():.3f} to {scales.max():.3f}"
        raise _damaged(file, f"its matrix is called RIGID and {shown if shear <= TOLERANCE else 'shears'}")
    if kind == "RIGID_SCALE" and shear > TOLERANCE:
        raise _damaged(file, "its matrix is called RIGID_SCALE and shears")
    if scales.min() < SCALES[0] or scales.max() > SCALES[1]:
        raise _damaged(file, f"its matrix scales by {scales.min():.2f} to {scales.max():.2f}")


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """How far apart two matrices move a point of the trunk, at most, in mm."""
    corners = np.array([[*signs, 1.0] for signs in product((-TRUNK_MM, TRUNK_MM), repeat=3)])
    return float(np.linalg.norm(corners @ (one - other).T, axis=1).max())


def _damaged(file: Path, what: str) -> IGTVError:
    return IGTVError(
        f"the registration object cannot be used: {what}",
        file=file,
        remedy="export the registration again, or take it out of the study",
    )
