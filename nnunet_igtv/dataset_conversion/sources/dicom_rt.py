"""Source `dicom-rt`: any cohort of DICOM CT + PET + RTSTRUCT, found by reading headers."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunet_igtv.dataset_conversion.case import Case
from nnunet_igtv.dataset_conversion.people import Person, number_of_people
from nnunet_igtv.dataset_conversion.pet_channel import pet_channel
from nnunet_igtv.dataset_conversion.source import Item, Source, relative
from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.dicom.files import find_files, packed
from nnunet_igtv.dicom.pixels import AIR_HU
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid
from nnunet_igtv.settings import setting
from nnunet_igtv.structures.rasterise import rasterise
from nnunet_igtv.studies.candidates import described
from nnunet_igtv.studies.case_parts import choose_parts
from nnunet_igtv.studies.grouping import Entry, Study, StudyFiles, group_studies, index_file, read_study
from nnunet_igtv.studies.images import ct_volume
from nnunet_igtv.studies.known import ReadingOptions
from nnunet_igtv.studies.plausibility import remarks_on_structure

STRUCTURE = (
    "structure to segment: its name (case, blanks, '_', '-' do not count) or a regular expression for the "
    "whole name"
)


@dataclass(frozen=True, kw_only=True)
class Options(ReadingOptions):
    """How a study is converted."""

    structure: str = setting(help=STRUCTURE, example="GTV.*")
    union: bool = setting(False, "unite all structures that match (phase GTVs)")
    interpolate: bool = setting(False, "interpolate between contours that are some slices apart")
    grid: str = setting("ct", "grid of the cases", choices=("ct", "pet"))


def collect(folder: Path, options: Options, jobs: int = 1) -> Iterator[Item | IGTVError]:
    """The studies under a folder, and the errors of unreadable files that belong to none."""
    return collect_studies(folder, find_files(folder), options, jobs, case_of)


def collect_studies(
    folder: Path,
    found: tuple[list[Path], list[IGTVError]],
    options: Options,
    jobs: int,
    make: Callable[[Study, Any], Case],
) -> Iterator[Item | IGTVError]:
    """As `collect`, of what `find_files` found, for any function (picklable) that makes a case of a study."""
    files, closed = found
    # a link to nowhere is a file that its study lacks
    absent = [
        Entry(Path(str(error.file)), error=error) for error in closed if os.path.islink(str(error.file))
    ]
    closed = [error for error in closed if not os.path.islink(str(error.file))]
    closed += packed(files, folder)
    entries = [*index(files, jobs), *absent]
    studies, loose = group_studies(entries, options.register)
    known = {e.path: e for e in entries}
    # studies without an id are of as many patients here, whatever the name
    people = [
        Person.of((known[file] for file in study.files), min(study.patients) or study.key)
        for study in studies
    ]
    if options.weight_kg is not None and (number := number_of_people(people)) > 1:
        raise IGTVError(
            f"one body weight was given for {number} patients",
            file=folder,
            remedy="give it with the folder of the one patient whose PET has none, and append that case",
            settings=["weight_kg", "append"],
        )
    if not studies and not loose and not closed:
        raise IGTVError("no DICOM files", file=folder, remedy="give the folder that holds the studies")
    for study, person in zip(studies, people, strict=True):
        secrets = frozenset().union(*(known[f].secrets for f in study.files))
        dates = frozenset().union(*(known[f].dates for f in study.files))
        path = Path(os.path.commonpath([f.parent for f in study.files]))
        load = partial(load_study, study, options, folder, make, len(studies))
        yield Item(
            study.key,
            _patient(study),
            path,
            load,
            secrets,
            dates=dates,
            made_from=tuple(study.files),
            person=person.spelled,
        )
    for error in (*closed, *loose):
        yield error.but(file=relative(error.file or "", folder))


def _patient(study: StudyFiles) -> str:
    """The patient's id, or else the name; studies without either are each of a patient of their own."""
    return min(study.patients) or min(study.names) or study.key


def index(files: Sequence[Path], jobs: int) -> list[Entry]:
    """Where every file belongs, read in parallel."""
    with tqdm(total=len(files), desc="reading headers", unit="file") as bar:
        found: list[Entry] = []
        if jobs <= 1 or len(files) < 2000:
            for path in files:
                entry = index_file(path)
                found += [entry] if entry else []
                bar.update()
            return found
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
            for entry in pool.map(index_file, files, chunksize=200):
                found += [entry] if entry else []
                bar.update()
    return found


def load_study(
    files: StudyFiles, options: Options, root: Path, make: Callable[[Study, Any], Case], together: int = 1
) -> Case:
    """One study, of so many found `together` -> one case; file names in errors are relative to `root`."""
    try:
        if files.unreadable:
            raise files.unreadable[0]
        if len(files.patients) > 1:
            raise IGTVError(
                f"objects of {len(files.patients)} patients share a study or a series",
                remedy="give each patient's objects UIDs of their own",
            )
        case = make(read_study(files.files), options)
    except IGTVError as error:
        raise error.but(file=None if error.file is None else relative(error.file, root)) from error
    if options.weight_kg is not None and together > 1 and case.provenance.get("pet") != "absent":
        said = case.provenance.get("warnings")
        case.provenance["warnings"] = [
            *(said if isinstance(said, list) else []),
            f"the body weight of {options.weight_kg:g} kg was given for all {together} studies, since they "
            "have one patient id: if they are of several patients, or of days far apart, give each its own",
        ]
    return case


def case_of(study: Study, options: Options) -> Case:
    """The case of a study: its CT, its PET, and the structure."""
    parts = choose_parts(study, options.structure, options, options.union)
    ct_series = parts.ct.series
    pet = pet_channel(parts.pet, options.weight_kg)  # first: it is refused most often
    structure = rasterise(parts.rois, ct_series.grid, options.interpolate)
    ct_read = ct_volume(ct_series)
    ct = ct_read.image
    pet = pet.registered_to(ct)
    mask = ct_series.grid.image(structure.mask)
    share = pet.check_overlap(ct, mask)
    if options.grid == "ct":
        channel = pet.onto(ct)
    else:
        ct, channel = pet.brought_here(ct, outside=AIR_HU), pet.grid_image
        if pet.moved is not None:  # contours that are turned do not lie in the slices of the PET
            mask = pet.brought_here(mask, label=True)
        else:
            grid = Grid.of(channel)
            on_pet = rasterise(parts.rois, grid, options.interpolate)
            structure.notes += [note for note in on_pet.notes if note not in structure.notes]
            mask = grid.image(on_pet.mask)
    return Case(
        ct,
        channel,
        mask,
        provenance={
            "structure": [roi.name for roi in parts.rois],
            **pet.provenance,
            "warnings": [
                *parts.ct.warnings,
                *pet.warnings,
                *ct_read.warnings,
                *remarks_on_structure(structure.mask),
                *structure.notes,
            ],
            "notes": [*ct_read.notes, *pet.notes],
            "chosen": {"ct": parts.ct.why, "pet": parts.pet.why if parts.pet else None},
            "volume_ml": round(ct_series.grid.millilitres(structure.mask.sum()), 3),
            "ct_covered_by_pet": round(share, 3),
            "grid": options.grid,
            "left_out": [
                {"modality": s.modality, "series_number": s.number, "slices": len(s.files)}
                for s in study.series
                if s is not ct_series and not (parts.pet and s is parts.pet.series)
            ],
        },
        identity={
            "ct_series": ct_series.uid,
            "pet_series": parts.pet.series.uid if parts.pet else "",
            "structure_set": "; ".join(text(s.header, "SOPInstanceUID") for s, _ in parts.structures),
        },
        pictures=pet.pictures,
        summary=(
            f"CT: {described(ct_series)}; {parts.ct.why}",
            pet.summary,
            *(
                f"structure: {', '.join(repr(roi.name) for roi in rois)} of "
                f"{text(s.header, 'StructureSetLabel') or s.file.name!r}"
                for s, rois in parts.structures
            ),
        ),
    )


SOURCE = Source(
    name="dicom-rt",
    summary="studies of DICOM CT + PET + RTSTRUCT, in folders of any depth",
    description=__doc__,
    options=Options,
    collect=collect,
)
