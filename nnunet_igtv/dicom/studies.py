"""From loose files to studies, and from a study to the one CT, PET and structure that a case is made of.

Folder and file names are not looked at. Objects belong together that share a Study Instance UID, or a frame
of reference and a patient id, or that refer to each other's series.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import text, values_of
from nnunet_igtv.dicom.files import read_header
from nnunet_igtv.dicom.series import Series, group_series
from nnunet_igtv.dicom.structures import Roi, StructureSet, references, structure_set
from nnunet_igtv.errors import IGTVError


@dataclass(frozen=True)
class Entry:
    """What a file says about where it belongs and whose it is (`secrets`: the patient's name and id);
    `error` if it cannot be read (then nothing else is known)."""

    path: Path
    patient: str = ""
    study: str = ""
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's remarks may quote the header
            header = read_header(path)
            return None if header is None else _entry(path, header)
    except IGTVError as error:
        return Entry(path, error=error)
    except Exception as error:  # a header that decodes late and badly
        return Entry(path, error=IGTVError(f"unreadable DICOM file ({type(error).__name__})", file=path))


def _entry(path: Path, header: Dataset) -> Entry:
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
    secrets = frozenset({patient, text(header, "PatientName")} - {""})
    return Entry(path, patient, study, tuple(links), secrets)


def group_studies(entries: Sequence[Entry]) -> tuple[list[StudyFiles], list[IGTVError]]:
    """Entries -> studies, and the errors of unreadable files that lie in no study's folder.

    The order is fixed but says nothing: UIDs often begin with a date.
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
        for group in groups.values()
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


def read_study(files: Sequence[Path]) -> Study:
    """The series and structure sets in some files. Raises IGTVError for a file that cannot be read."""
    headers = [(path, header) for path in files if (header := read_header(path)) is not None]
    sets = [structure_set(path, h) for path, h in headers if text(h, "Modality") == "RTSTRUCT"]
    unique = {
        text(s.header, "SOPInstanceUID") or str(s.file): s for s in sets
    }  # copies of one file count once
    return Study(group_series(headers), list(unique.values()))


# --------------------------------------------------------------------------------------------------- choices


@dataclass(frozen=True)
class Choice:
    """The parts of a case. `rois` may come from several structure sets where a union was asked for."""

    ct: Series
    pet: Series
    rois: list[Roi]
    structure_files: list[str]
    left_out: list[dict[str, object]]


def choose(study: Study, pattern: str, union: bool = False, trust_frames: bool = False) -> Choice:
    """The CT, PET and structure of a case.

    Structure: the one that matches, in the structure sets drawn on a CT of the study if there are such.
    CT: the series that the structure set names; else those in its frame of reference, by `rank`.
    PET: those in the CT's frame of reference, by `rank`.

    Raises IGTVError if a part is missing, if several structures match and no union was asked for, or if the
    frames of reference differ and `trust_frames` does not say that the series are aligned all the same.
    """
    cts, pets = study.of("CT"), study.of("PT")
    for found, name in ((cts, "CT"), (pets, "PET")):
        if not found:
            raise IGTVError(
                f"no {name} series in the study", remedy=f"add the {name} series, or leave the study out"
            )
    chosen = _structures(study, pattern, union)
    named = set().union(*(s.series_uids for s, _ in chosen))
    rois = [roi for _, found in chosen for roi in found]
    frames = {roi.frame_of_reference for roi in rois} - {""}

    candidates = [s for s in cts if s.uid in named] or [
        s for s in cts if s.frame_of_reference in frames or not frames
    ]
    if not candidates and not trust_frames:
        raise IGTVError(
            "the structure and the CT have no frame of reference in common",
            remedy="add the CT that the structure was drawn on, or trust the frames if they are aligned",
            settings=["trust_frames"],
        )
    ct = min(candidates or cts, key=rank)
    if frames - {ct.frame_of_reference} and not trust_frames:
        raise IGTVError(
            "the structure and the CT that it names have different frames of reference",
            remedy="check the export, or trust the frames if they are aligned",
            settings=["trust_frames"],
        )
    aligned = [s for s in pets if s.frame_of_reference == ct.frame_of_reference and ct.frame_of_reference]
    if not aligned and not trust_frames:
        raise IGTVError(
            "CT and PET have no frame of reference in common",
            remedy="register the PET to the CT first, or trust the frames if they are aligned",
            settings=["trust_frames"],
        )
    pet = min(aligned or pets, key=rank)
    left_out = [
        {"modality": s.modality, "series_number": s.number, "slices": len(s.files)}
        for s in study.series
        if s is not ct and s is not pet
    ]
    files = [text(s.header, "SOPInstanceUID") for s, _ in chosen]
    return Choice(ct, pet, rois, files, left_out)


def rank(series: Series) -> tuple[object, ...]:
    """Sorts the series to take first: complete and regular, attenuation corrected (PET), most slices,
    thinnest, lowest series number."""
    corrected = series.modality != "PT" or "ATTN" in [
        str(v) for v in values_of(series.headers[0], "CorrectedImage")
    ]
    thickness = 0.0 if series.fault else series.grid.spacing[2]
    return (series.fault is not None, not corrected, -len(series.files), thickness, series.number, series.uid)


def _structures(study: Study, pattern: str, union: bool) -> list[tuple[StructureSet, list[Roi]]]:
    sets = study.structure_sets
    if not sets:
        raise IGTVError("no structure set (RTSTRUCT) in the study", remedy="add it, or leave the study out")
    matching = [(s, [r for r in s.match(pattern) if r.contours]) for s in sets]
    matching = [(s, found) for s, found in matching if found]
    if not matching:
        names = sorted({name for s in sets for name in s.names})
        first = next((s for s in sets if s.match(pattern)), None)
        if first:
            first.select(pattern)  # matches, but holds no contours: says so
        raise IGTVError(
            f"no structure matches {pattern!r}; there are: {', '.join(map(repr, names)) or 'none'}",
            remedy="name one of them (its name, or a regular expression for the whole name)",
            settings=["structure"],
        )
    if union:
        return matching
    ct_uids = {s.uid for s in study.of("CT")}
    matching = [(s, found) for s, found in matching if s.series_uids & ct_uids] or matching
    if len(matching) > 1 or len(matching[0][1]) > 1:
        names = [roi.name for _, found in matching for roi in found]
        raise IGTVError(
            f"{len(names)} structures in {len(matching)} structure set(s) match {pattern!r}: "
            f"{', '.join(map(repr, names))}",
            remedy="give a narrower pattern, unite them, or keep one structure set only",
            settings=["structure", "union"],
        )
    return matching


def only(series: Sequence[Series], modality: str, folder: Path) -> Series:
    """The series that `rank` puts first; raises IGTVError if there is none."""
    if not series:
        raise IGTVError(f"no {modality} series", file=folder)
    return min(series, key=rank)
