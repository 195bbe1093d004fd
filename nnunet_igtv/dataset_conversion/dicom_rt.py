"""Source `dicom-rt`: any cohort of DICOM CT + PET + RTSTRUCT, found by reading headers."""

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunet_igtv.dataset_conversion import ct_image, pet_image
from nnunet_igtv.dataset_conversion.case import Case
from nnunet_igtv.dataset_conversion.files import list_files
from nnunet_igtv.dataset_conversion.raw_dataset import Item
from nnunet_igtv.dataset_conversion.resample import check_overlap, onto
from nnunet_igtv.dataset_conversion.rtstruct import rasterise
from nnunet_igtv.dataset_conversion.study import (
    Entry,
    StudyFiles,
    choose,
    group_studies,
    index_file,
    read_study,
)
from nnunet_igtv.dataset_conversion.suv import suv_factors
from nnunet_igtv.errors import IGTVError

HELP = "studies of DICOM CT + PET + RTSTRUCT, in folders of any depth"
VALUES = "CT in HU and PET in SUVbw"
AIR_HU = -1024.0


@dataclass(frozen=True)
class Options:
    """How a study is converted: the structure's name or pattern, whether several are united, the grid, …"""

    structure: str
    union: bool = False
    grid: str = "ct"
    trust_frames: bool = False
    weight_kg: float | None = None


def add_arguments(parser: argparse.ArgumentParser, structure: str | None = None, label: str = "GTV") -> None:
    parser.add_argument(
        "--structure",
        default=structure,
        required=structure is None,
        help="structure to segment: its name (case, blanks, '_', '-' do not count) or a regular expression "
        "for the whole name" + (f" (default: {structure})" if structure else ""),
    )
    parser.add_argument("--union", action="store_true", help="unite all structures that match (phase GTVs)")
    parser.add_argument(
        "--label", default=label, help="name of the label in dataset.json (default: %(default)s)"
    )
    parser.add_argument("--grid", choices=("ct", "pet"), default="ct", help="grid of the cases (default: ct)")
    parser.add_argument(
        "--trust-frames",
        action="store_true",
        help="accept different frames of reference: the series are aligned",
    )
    parser.add_argument(
        "--weight", type=float, metavar="KG", help="body weight where the PET headers have none"
    )


def options_of(args: argparse.Namespace) -> dict[str, object]:
    return asdict(_options(args))


def collect(args: argparse.Namespace) -> tuple[list[Item], list[IGTVError]]:
    """The studies under the input folder, and the unreadable files that belong to none."""
    folder = Path(args.input)
    entries = index(list_files(folder), args.jobs)
    studies, loose = group_studies(entries)
    names = {e.path: e.secrets for e in entries}
    items = []
    for study in studies:
        secrets = frozenset().union(*(names[f] for f in study.files))
        path = Path(os.path.commonpath([f.parent for f in study.files]))
        patient = next(iter(sorted(study.patients))) or study.key
        load = partial(load_study, study, _options(args), folder)
        items.append(Item(study.key, patient, path, load, secrets))
    if not items and not loose:
        raise IGTVError("no DICOM files", file=folder, remedy="give the folder that holds the studies")
    return items, [
        IGTVError(e.what, file=_relative(Path(e.file or ""), folder), remedy=e.remedy) for e in loose
    ]


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


def load_study(files: StudyFiles, options: Options, root: Path) -> Case:
    """One study -> one case; file names in errors are relative to `root`."""
    try:
        return _load(files, options)
    except IGTVError as error:
        file = None if error.file is None else _relative(Path(error.file), root)
        raise IGTVError(error.what, case=error.case, file=file, remedy=error.remedy) from error


def _load(files: StudyFiles, options: Options) -> Case:
    if files.unreadable:
        raise files.unreadable[0]
    if len(files.patients) > 1:
        raise IGTVError(
            f"objects of {len(files.patients)} patients share a study or a series",
            remedy="give each patient's objects UIDs of their own",
        )
    choice = choose(read_study(files.files), options.structure, options.union, options.trust_frames)
    suv = suv_factors(choice.pet.headers, options.weight_kg)
    structure = rasterise(choice.rois, choice.ct.geometry)
    ct, pet = ct_image(choice.ct), pet_image(choice.pet, options.weight_kg)
    mask = choice.ct.geometry.image(structure.mask)
    share = check_overlap(ct, pet, mask)
    ct_series, pet_series = choice.ct, choice.pet
    if options.grid == "ct":
        pet = onto(pet, ct)
    else:
        ct, mask = (
            onto(ct, pet, outside=AIR_HU),
            choice.pet.geometry.image(rasterise(choice.rois, pet_series.geometry).mask),
        )
    return Case(
        ct,
        pet,
        mask,
        provenance={
            "structure": [roi.name for roi in choice.rois],
            "suv_rule": suv.rule,
            "suv_factor": suv.factor,
            "warnings": [*suv.warnings, *structure.notes, *ct_series.notes, *pet_series.notes],
            "volume_ml": round(
                float(structure.mask.sum()) * float(np.prod(ct_series.geometry.spacing)) / 1000, 3
            ),
            "ct_covered_by_pet": round(share, 3),
            "grid": options.grid,
            "left_out": choice.left_out,
        },
        identity={
            "ct_series": ct_series.uid,
            "pet_series": pet_series.uid,
            "structure_set": "; ".join(choice.structure_files),
        },
    )


def _options(args: argparse.Namespace) -> Options:
    return Options(args.structure, args.union, args.grid, args.trust_frames, args.weight)


def _relative(path: Path, root: Path) -> str:
    return os.path.relpath(path, root) if path.is_absolute() == root.is_absolute() else path.name
