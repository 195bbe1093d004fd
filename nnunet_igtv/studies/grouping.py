"""From loose files to studies, by what their headers say.

Folder and file names are not looked at. Objects belong together that share a Study Instance UID, or a frame
of reference and a patient id, or that refer to each other's series.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.dicom.files import read_header
from nnunet_igtv.dicom.identity import secrets_of
from nnunet_igtv.dicom.quiet import quiet
from nnunet_igtv.dicom.series import Series, group_series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.structures.structure_sets import StructureSet, references, structure_set


@dataclass(frozen=True)
class Entry:
    """What a file says about where it belongs and whose it is (`secrets`: the patient's name and id);
    `error` if it cannot be read (then nothing else is known)."""

    path: Path
    patient: str = ""
    study: str = ""
    modality: str = ""
    series: str = ""
    links: tuple[tuple[str, ...], ...] = ()
    secrets: frozenset[str] = frozenset()
    error: IGTVError | None = None


@dataclass
class StudyFiles:
    """The files of one study (or of several that share a frame of reference), found by their headers."""

    key: str
    patients: frozenset[str]
    files: list[Path]
    unreadable: list[IGTVError] = field(default_factory=list)


@dataclass
class Study:
    """The series and structure sets of one study."""

    series: list[Series]
    structure_sets: list[StructureSet]

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
        return Entry(path, error=IGTVError(f"unreadable DICOM file ({type(error).__name__})", file=path))


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
    return Entry(path, patient, study, modality, series, tuple(links), secrets_of(header))


def group_studies(entries: Sequence[Entry]) -> tuple[list[StudyFiles], list[IGTVError]]:
    """Entries -> studies, and the errors of unreadable files that lie in no study's folder.

    Studies that share a frame of reference are one, unless each of them is complete by itself (two visits of
    a patient whose tables were at the same place). The order is fixed but says nothing: UIDs often begin with
    a date.
    An unreadable file belongs to every study that has files in the same folder.
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
    studies = [
        StudyFiles(
            key="|".join(sorted({e.study or e.links[0][-1] for e in group})),
            patients=frozenset(e.patient for e in group),
            files=sorted(e.path for e in group),
        )
        for together in groups.values()
        for group in _apart(together)
    ]
    loose = []
    for entry in entries:
        if entry.error is not None:
            near = [s for s in studies if any(f.parent == entry.path.parent for f in s.files)]
            for study in near:
                study.unreadable.append(entry.error)
            if not near:
                loose.append(entry.error)
    return sorted(studies, key=lambda s: sha256(s.key.encode()).digest()), loose


def _apart(entries: list[Entry]) -> list[list[Entry]]:
    """Linked objects, split by study if every study has a CT, a PET and structure sets drawn on its own
    series."""
    studies: dict[str, list[Entry]] = {}
    for entry in entries:
        studies.setdefault(entry.study, []).append(entry)
    owner = {entry.series: entry.study for entry in entries if entry.series}
    for study, members in studies.items():
        sets = [entry for entry in members if entry.modality == "RTSTRUCT"]
        drawn_on = {link[1] for entry in sets for link in entry.links if link[0] == "series"}
        complete = {"CT", "PT", "RTSTRUCT"} <= {entry.modality for entry in members}
        if not study or not complete or {owner.get(uid, study) for uid in drawn_on} != {study}:
            return [entries]
    return list(studies.values())


def read_study(files: Sequence[Path]) -> Study:
    """The series and structure sets in some files. Raises IGTVError for a file that cannot be read."""
    headers = [(path, header) for path in files if (header := read_header(path)) is not None]
    sets = [structure_set(path, h) for path, h in headers if text(h, "Modality") == "RTSTRUCT"]
    unique = {
        text(s.header, "SOPInstanceUID") or str(s.file): s for s in sets
    }  # copies of one file count once
    return Study(group_series(headers), list(unique.values()))
