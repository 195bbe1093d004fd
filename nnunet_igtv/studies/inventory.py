"""What a folder of DICOM holds: series, geometry, SUV and structures, and which series would be chosen.

The dictionary is a stable interface, described in docs/data.md; `format` counts up when it changes.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from tqdm import tqdm

from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.dicom.copies import CONTOURS, one_of_each
from nnunet_igtv.dicom.files import find_files, packed, read_header
from nnunet_igtv.dicom.identity import Secret, secrets_of, without_secrets
from nnunet_igtv.dicom.series import Series, group_series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.structures.rasterise import rasterise
from nnunet_igtv.structures.structure_sets import Roi, StructureSet, structure_set
from nnunet_igtv.studies.candidates import NAMES, has_number
from nnunet_igtv.studies.case_parts import known_from
from nnunet_igtv.studies.choice import choose_images
from nnunet_igtv.studies.grouping import Study, entry_of, group_studies
from nnunet_igtv.studies.images import pet_volume
from nnunet_igtv.studies.known import Known, ReadingOptions
from nnunet_igtv.studies.phase_structures import structures_by_phase
from nnunet_igtv.studies.phases import FourD, find_4d
from nnunet_igtv.studies.registration import Registration, find_registrations
from nnunet_igtv.suv import suv_factors

FORMAT = 1
DEFAULTS = ReadingOptions()


def inspect(path: str | Path, options: ReadingOptions = DEFAULTS) -> dict:
    """What a folder holds, as data that JSON can carry. Raises IGTVError if the folder does not exist.

    Names, ids and dates of birth of the patients are taken out of all texts.

    Args:
        path: a folder, searched to any depth, or a file.
        options: how series are to be chosen, and the body weight where the PET headers have none.
    """
    root = Path(path)
    files, closed = find_files(root)
    closed += packed(files, root)
    unreadable = [{"file": _name(Path(str(e.file)), root), "reason": e.what} for e in closed]
    headers, others = [], 0
    for file in tqdm(files, desc="reading headers", unit="file"):
        try:
            header = read_header(file)
        except IGTVError as error:
            unreadable.append({"file": _name(file, root), "reason": error.what})
            continue
        if header is None:
            others += 1
        else:
            headers.append((file, header))
    series = group_series(headers)
    sets: list[StructureSet] = []
    for file, header in headers:
        if text(header, "Modality") == "RTSTRUCT":
            try:
                sets.append(structure_set(file, header))
            except IGTVError as error:
                unreadable.append({"file": _name(file, root), "reason": error.what})
    try:
        registrations = find_registrations(headers)
        one_of_each([(s.file, s.header) for s in sets], CONTOURS)
    except IGTVError as error:  # what contradicts another file would be refused
        registrations = []
        unreadable.append({"file": _name(Path(str(error.file)), root), "reason": error.what})
    studies, frames = _Numbers(), _Numbers()
    ids = {id(s): number for number, s in enumerate(series, start=1)}
    groups = _studies(headers, series, sets, registrations, options.register)
    breaths = [(group, breath) for group in groups for breath in find_4d(group.series)]
    secrets = _secrets(headers)
    everybody = frozenset().union(*secrets.values())
    return {
        "format": FORMAT,
        "series": [
            {"id": ids[id(s)], "study": studies[s.study_uid]}
            | without_secrets(
                _series(s, root, frames[s.frame_of_reference], options.weight_kg), secrets[s.files[0]]
            )
            for s in series
        ],
        "structure_sets": [
            {"study": studies[text(s.header, "StudyInstanceUID")]}
            | without_secrets(_structure_set(s, root, series, ids, frames), secrets[s.file])
            for s in sets
        ],
        "registrations": [
            without_secrets(_registration(r, root, frames), secrets[r.file]) for r in registrations
        ],
        "choices": [
            {"studies": sorted({n for s in group.series if (n := studies[s.study_uid])})}
            | without_secrets(
                {"structure_set": None if drawn is None else _name(drawn.file, root)}
                | _choice(group, drawn, ids, options),
                secrets[group.series[0].files[0]],
            )
            for group in groups
            for drawn in [*group.structure_sets, None]
        ],
        "unreadable": [without_secrets(each, everybody) for each in unreadable],
        "other_files": others,
    } | (
        {
            "breaths": [
                without_secrets(_breath(b, group, ids, studies), secrets[group.series[0].files[0]])
                for group, b in breaths
            ]
        }
        if breaths
        else {}
    )


def _secrets(headers: Sequence[tuple[Path, Dataset]]) -> dict[Path, frozenset[Secret]]:
    """What must not be said of each file: the names and ids in all files of its study. A structure set may
    have lost them in its header, and not in the names of its structures."""
    known: dict[str, frozenset[Secret]] = {}
    uids = {file: text(header, "StudyInstanceUID") for file, header in headers}
    for file, header in headers:
        known[uids[file]] = known.get(uids[file], frozenset()) | secrets_of(header)
    return {file: known[uid] for file, uid in uids.items()}


def _studies(
    headers: Sequence[tuple[Path, Dataset]],
    series: Sequence[Series],
    sets: Sequence[StructureSet],
    registrations: Sequence[Registration],
    register: bool,
) -> list[Study]:
    """The studies as a conversion finds them, in the order of their series; those without images left out."""
    groups, _ = group_studies([entry_of(file, header) for file, header in headers], register)
    found = []
    place = {id(s): number for number, s in enumerate(series)}
    for group in groups:
        files = set(group.files)
        mine = [s for s in series if s.files[0] in files and s.modality in NAMES]
        if mine:
            joining = [r for r in registrations if r.file in files]
            found.append(Study(mine, [s for s in sets if s.file in files], joining))
    return sorted(found, key=lambda study: place[id(study.series[0])])


def _breath(breath: FourD, study: Study, ids: dict[int, int], studies: "_Numbers") -> dict:
    """The phases of a 4D-CT, and what is missing of it."""
    names = structures_by_phase(study.structure_sets, breath)
    shown = {phase.moment: phase.series for phase in breath.phases} | breath.faulty
    phases = [
        {
            "phase": str(moment),
            "series": ids[id(s)],
            "slices": len(s.headers),
            "spacing": None if s.fault else [round(v, 6) for v in s.grid.spacing],
            "structures": names.get(moment, []),
            "problem": s.fault.what if s.fault else None,
        }
        for moment, s in sorted(shown.items(), key=lambda item: item[0].key)
    ]
    return {
        "study": studies[breath.series[0].study_uid],
        "told_by": breath.told_by,
        "phases": phases,
        "twice": {str(moment): [ids[id(s)] for s in found] for moment, found in breath.twice.items()},
        "missing": [str(moment) for moment in breath.missing],
        "averages": [ids[id(s)] for s in breath.averages],
        "maxima": [ids[id(s)] for s in breath.maxima],
    }


def _choice(study: Study, drawn: StructureSet | None, ids: dict[int, int], options: ReadingOptions) -> dict:
    """The CT and PET that would be taken for a structure set, or without one, and why."""
    found: dict = {"ct": None, "pet": None, "warnings": [], "refused": None}
    if drawn is None:
        known = Known(contoured=frozenset().union(*(s.series_uids for s in study.structure_sets)))
    else:
        known = known_from([(drawn, [roi for roi in drawn.rois if roi.contours])])
    known = replace(known, registrations=tuple(study.registrations))
    try:
        ct, pet = choose_images(study.series, options, known)
    except IGTVError as error:
        refused = {"what": error.what, "remedy": error.remedy, "settings": list(error.settings)}
        return found | {"refused": refused | {"table": error.table}}
    for name, chosen in (("ct", ct), ("pet", pet)):
        if chosen:
            held = chosen.series.parts[0] if chosen.series.parts else chosen.series
            found[name] = {"series": ids[id(held)], "why": chosen.why}
    return found | {"warnings": [*ct.warnings, *(pet.warnings if pet else ())]}


class _Numbers(dict):
    """UIDs -> 1, 2, 3, … in order of appearance; an absent UID is None."""

    def __missing__(self, uid: str) -> int | None:
        self[uid] = len([v for v in self.values() if v]) + 1 if uid else None
        return self[uid]


def _series(series: Series, root: Path, frame: int | None, weight_kg: float | None) -> dict:
    found: dict = {
        "folder": _name(series.folder, root),
        "modality": series.modality,
        "description": series.description,
        "series_number": series.number if has_number(series) else None,
        "slices": len(series.headers),
        "size": None,
        "spacing": None,
        "origin": None,
        "direction": None,
        "orientation": None,
        "frame_of_reference": frame,
        "problem": series.fault.what if series.fault else None,
        "notes": series.notes,
    }
    if not series.fault:
        grid = series.grid
        found |= {
            "size": list(grid.size),
            "spacing": [round(v, 6) for v in grid.spacing],
            "origin": [round(v, 6) for v in grid.origin],
            "direction": [round(v, 8) for v in grid.direction],
            "orientation": orientation(grid.direction),
        }
    if series.modality == "PT":
        try:
            volume = None if series.fault else pet_volume(series, weight_kg)
            suv = volume.suv if volume else suv_factors(series.headers, weight_kg)
            found |= {
                "suv_factor": suv.factor,
                "suv_factor_range": [float(suv.factors.min()), float(suv.factors.max())],
                "suv_rule": suv.rule,
                "suv_warnings": list(volume.warnings if volume else suv.warnings),
            }
        except IGTVError as error:
            found["suv_refused"] = error.what
    return found


def orientation(direction: Sequence[float]) -> str:
    """Where columns, rows and slices grow to, by the largest component: "LPS" for the usual axial series;
    with "oblique" if an axis is off by more than half a degree."""
    axes = np.array(direction).reshape(3, 3).T
    letters = "".join(
        ("LPS" if axis[k] > 0 else "RAI")[k] for axis in axes for k in [int(np.abs(axis).argmax())]
    )
    return letters if np.abs(axes).max(1).min() > np.cos(np.radians(0.5)) else f"{letters} oblique"


def _registration(registration: Registration, root: Path, frames: _Numbers) -> dict:
    """The frames of reference that an object joins, the types of its matrices, and what is wrong with it."""
    sources = registration.sources
    faults = [registration.fault, *(source.fault for source in sources.values())]
    return {
        "file": _name(registration.file, root),
        "frames_of_reference": sorted(filter(None, (frames[uid] for uid in sorted(registration.frames)))),
        "types": sorted({source.type for source in sources.values()}),
        "problem": next((fault.what for fault in faults if fault), None),
    }


def _structure_set(
    structures: StructureSet, root: Path, series: Sequence[Series], ids: dict[int, int], frames: _Numbers
) -> dict:
    named = [s for s in series if s.uid in structures.series_uids]
    aligned = [s for s in series if s.frame_of_reference in structures.frames_of_reference]
    belongs = named or aligned
    grid = next((s for s in sorted(belongs, key=lambda s: s.modality != "CT") if not s.fault), None)
    return {
        "file": _name(structures.file, root),
        "label": text(structures.header, "StructureSetLabel"),
        "frames_of_reference": sorted(filter(None, (frames[uid] for uid in structures.frames_of_reference))),
        "series": [ids[id(s)] for s in belongs],
        "named_series_present": bool(named),
        "structures": [_structure(roi, grid) for roi in structures.rois],
    }


def _structure(roi: Roi, grid: Series | None) -> dict:
    """Name, number of contours, volume on the grid of the series it belongs to (None if it has none), and
    what should be known about the contours.
    """
    found: dict = {"name": roi.name, "contours": len(roi.contours), "volume_ml": None, "problem": None}
    found["notes"] = list(roi.drawn.notes)
    if roi.drawn.fault or not roi.contours:
        found["problem"] = roi.drawn.fault.what if roi.drawn.fault else "no closed contours"
    elif grid is None:
        found["problem"] = "the series it was drawn on is not in the folder"
    else:
        try:
            drawn = rasterise([roi], grid.grid)
            found["volume_ml"] = round(grid.grid.millilitres(drawn.mask.sum()), 3)
            found["notes"] = drawn.notes
        except IGTVError as error:
            found["problem"] = error.what
    return found


def _name(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file != root else file.name
