"""From loose files to studies, by what their headers say.

Folder and file names are not looked at. Objects belong together that share a Study Instance UID, or a frame
of reference and a patient id, or that refer to each other's series. A study without a PET takes that of the
PET/CT that a registration object joins to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.dicom.copies import CONTOURS, one_of_each
from nnunet_igtv.dicom.dates import Date, dates_of
from nnunet_igtv.dicom.files import read_header
from nnunet_igtv.dicom.identity import Secret, secrets_of
from nnunet_igtv.dicom.quiet import quiet
from nnunet_igtv.dicom.series import Series, group_series
from nnunet_igtv.errors import IGTVError, blamed
from nnunet_igtv.structures.structure_sets import StructureSet, references, structure_set
from nnunet_igtv.studies.registration import (
    Registration,
    find_registrations,
    frames_named,
    is_registration,
    joined_frames,
    series_named,
)


@dataclass(frozen=True)
class Entry:
    """What a file says about where it belongs and whose it is.

    Attributes:
        patient: the patient's id, "" without one.
        name: the patient's name.
        secrets: the patient's names, ids and birth.
        dates: of examinations.
        joins: the frames of reference and the series that it joins, if it is a registration object.
        error: why it cannot be read, None if it can; then nothing else is known.
    """

    path: Path
    patient: str = ""
    study: str = ""
    modality: str = ""
    series: str = ""
    links: tuple[tuple[str, ...], ...] = ()
    secrets: frozenset[Secret] = frozenset()
    dates: frozenset[Date] = frozenset()
    joins: frozenset[str] = frozenset()
    error: IGTVError | None = None
    name: str = ""

    @property
    def frames(self) -> set[str]:
        """The frames of reference that it lives in."""
        return {link[-1] for link in self.links if link[0] == "frame"}


@dataclass
class StudyFiles:
    """The files of one study (or of several that share a frame of reference), found by their headers."""

    key: str
    patients: frozenset[str]
    files: list[Path]
    unreadable: list[IGTVError] = field(default_factory=list)
    names: frozenset[str] = frozenset()


@dataclass
class Study:
    """The series, structure sets and registration objects of one study."""

    series: list[Series]
    structure_sets: list[StructureSet]
    registrations: list[Registration] = field(default_factory=list)

    def of(self, modality: str) -> list[Series]:
        return [s for s in self.series if s.modality == modality]


def index_file(path: Path) -> Entry | None:
    """Where a file belongs; None for a file that is not DICOM."""
    try:
        with quiet():
            header = read_header(path)
            return None if header is None else entry_of(path, header)
    except IGTVError as error:
        return Entry(path, error=error)
    except Exception as error:  # a header that decodes late and badly
        damaged = IGTVError(f"unreadable DICOM file ({type(error).__name__})", file=path)
        return Entry(path, error=blamed(error, damaged))


def entry_of(path: Path, header: Dataset) -> Entry:
    """Where an object belongs, from its header."""
    patient, study, series = (text(header, n) for n in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"))
    links: list[tuple[str, ...]] = [("study", study)] if study else []
    if series:
        links.append(("series", series))
    frames = {text(header, "FrameOfReferenceUID")}
    if text(header, "Modality") == "RTSTRUCT":
        drawn_in, drawn_on = references(header)
        frames |= drawn_in
        links += [("series", uid) for uid in sorted(drawn_on)]
    links += [("frame", patient, uid) for uid in sorted(frames - {""})]
    modality = text(header, "Modality")
    joins = frames_named(header) | series_named(header) if is_registration(header) else frozenset()
    return Entry(
        path,
        patient,
        study,
        modality,
        series,
        tuple(links),
        secrets_of(header),
        dates_of(header),
        joins,
        name=text(header, "PatientName"),
    )


def group_studies(
    entries: Sequence[Entry], register: bool = False
) -> tuple[list[StudyFiles], list[IGTVError]]:
    """Entries -> studies, and the errors of unreadable files that lie in no study's folder.

    Studies that share a frame of reference are one, unless each of them is complete by itself (two visits of
    a patient whose tables were at the same place). One without a PET takes that of the PET/CT that it is
    registered to; where nothing joins it to one, it gets those of its patient that have no structure sets, so
    that the choice of series says what is to be done. The order is fixed but says nothing: UIDs often begin
    with a date. An unreadable file belongs to every study that has files in the same folder.

    Args:
        register: whether a study without a PET takes all PET/CTs of its patient, to register them.
    """
    parent: dict[tuple[str, ...], tuple[str, ...]] = {}

    def root(node: tuple[str, ...]) -> tuple[str, ...]:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    readable = [e for e in entries if e.error is None and e.links]
    for entry in readable:
        for link in entry.links[1:]:
            parent[root(link)] = root(entry.links[0])
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in readable:
        groups.setdefault(root(entry.links[0]), []).append(entry)
    parts = [part for together in groups.values() for part in _apart(together)]
    studies = [
        StudyFiles(
            key="|".join(sorted({e.study or e.links[0][-1] for e in part})),
            patients=_patients(part),
            files=sorted(e.path for e in [*part, *more]),
            names=frozenset(e.name for e in part),
        )
        for part, more in _with_registered(parts, register)
    ]
    within: dict[Path, list[StudyFiles]] = {}
    for study in studies:
        for folder in {file.parent for file in study.files}:
            within.setdefault(folder, []).append(study)
    loose = []
    for entry in entries:
        if entry.error is not None:
            near = within.get(entry.path.parent, [])
            for study in near:
                study.unreadable.append(entry.error)
            if not near:
                loose.append(entry.error)
    return sorted(studies, key=lambda s: sha256(s.key.encode()).digest()), loose


def _patients(part: Sequence[Entry]) -> frozenset[str]:
    """The ids of those whom a study's objects name; {""} without any. An object whose id is empty is of the
    patient whose name it has, or who it may be where it has none."""
    named = {entry.name for entry in part if entry.patient}
    ids = {e.patient for e in part if e.patient or (e.name and e.name not in named)}
    return frozenset(ids or {""})


def _with_registered(parts: list[list[Entry]], register: bool) -> list[tuple[list[Entry], list[Entry]]]:
    """Each study, and what is added to it: the registration objects that join its frames of reference and,
    where it has a CT and no PET, the CT and PET of the PET/CT that they join to it (`group_studies`).

    A PET/CT without structure sets is no study of its own where another one took it; nor is a registration.
    """
    frames_of: dict[str, set[str]] = {}
    pet_cts: dict[str, list[list[Entry]]] = {}  # patient -> parts that have a PET of that patient
    for part in parts:
        for entry in part:
            if not entry.joins:
                frames_of.setdefault(entry.series, set()).update(entry.frames)
        for patient in {e.patient for e in part if e.modality == "PT"}:
            pet_cts.setdefault(patient, []).append(part)
    registrations: dict[str, list[tuple[Entry, frozenset[str]]]] = {}
    for entry in (e for part in parts for e in part if e.joins):
        joins = frozenset[str]().union(*(frames_of.get(uid, {uid}) for uid in entry.joins))
        registrations.setdefault(entry.patient, []).append((entry, joins))
    found: list[tuple[list[Entry], list[Entry]]] = []
    taken: set[int] = set()
    for part in parts:
        patients, present = {e.patient for e in part}, {id(e) for e in part}
        own = [each for patient in sorted(patients) for each in registrations.get(patient, ())]
        frames = {frame for e in part if not e.joins for frame in e.frames}
        near = joined_frames([joins for _, joins in own], frames, 1)
        reached = joined_frames([joins for _, joins in own], frames)
        more = [e for e, joins in own if joins & near and id(e) not in present]
        kinds = {e.modality for e in part}
        if "CT" in kinds and "PT" not in kinds:
            others = {id(p): p for patient in sorted(patients) for p in pet_cts.get(patient, ())}.values()
            lenders = [p for p in others if any(e.frames & reached for e in p if e.modality == "PT")]
            if not lenders and patients != {""} and (register or "RTSTRUCT" in kinds):
                lenders = [p for p in others if register or not _is_contoured(p)]
            for other in lenders:
                more += [e for e in other if e.modality in ("CT", "PT")]
                taken.add(id(other))
        found.append((part, more))
    attached = {id(e) for _, more in found for e in more}
    taken |= {id(part) for part in parts if {id(e) for e in part} <= attached}
    return [(part, more) for part, more in found if id(part) not in taken or _is_contoured(part)]


def _is_contoured(part: Sequence[Entry]) -> bool:
    return any(entry.modality == "RTSTRUCT" for entry in part)


def _apart(entries: list[Entry]) -> list[list[Entry]]:
    """Linked objects, split by study if every study has a CT and structure sets drawn on its own series, and
    a PET as well, unless there is none at all (a 4D-CT each week). Registration objects in a study of their
    own say nothing about that, and are set apart."""
    with_images = {entry.study for entry in entries if not entry.joins}
    loose = [entry for entry in entries if entry.study not in with_images]
    studies: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.study in with_images:
            studies.setdefault(entry.study, []).append(entry)
    owner = {entry.series: entry.study for entry in entries if entry.series}
    wanted = {"CT", "RTSTRUCT"} | ({"PT"} & {entry.modality for entry in entries})
    for study, members in studies.items():
        sets = [entry for entry in members if entry.modality == "RTSTRUCT"]
        drawn_on = {link[1] for entry in sets for link in entry.links if link[0] == "series"}
        complete = wanted <= {entry.modality for entry in members}
        if not study or not complete or {owner.get(uid, study) for uid in drawn_on} != {study}:
            return [entries]
    return [*studies.values(), *([loose] if loose else [])]


def read_study(files: Sequence[Path]) -> Study:
    """The series and structure sets in some files. Raises IGTVError for a file that cannot be read."""
    headers = [(path, header) for path in files if (header := read_header(path)) is not None]
    sets = one_of_each([each for each in headers if text(each[1], "Modality") == "RTSTRUCT"], CONTOURS)
    return Study(group_series(headers), [structure_set(*each) for each in sets], find_registrations(headers))
