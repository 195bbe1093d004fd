"""Source `autopet`: the FDG-PET-CT-Lesions layout (TCIA, autoPET), <patient>/<study>/{CTres,SUV,SEG}.nii.gz.

The cases keep the grid of the PET, on which the lesions were drawn and to which CTres was resampled.
"""

import argparse
import csv
from dataclasses import asdict
from functools import partial
from pathlib import Path

from nnunet_igtv.dataset_conversion.case import Case
from nnunet_igtv.dataset_conversion.nifti import VALUES as VALUES
from nnunet_igtv.dataset_conversion.nifti import Options, load_triple
from nnunet_igtv.dataset_conversion.raw_dataset import Item
from nnunet_igtv.errors import IGTVError

HELP = "FDG-PET-CT-Lesions (autoPET): CTres.nii.gz, SUV.nii.gz, SEG.nii.gz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--label", default="GTV", help="name of the label in dataset.json (default: %(default)s)"
    )
    parser.add_argument(
        "--lung-only",
        action="store_true",
        help="only patients whose diagnosis is lung cancer, and of these only studies with a lesion",
    )
    parser.add_argument(
        "--metadata", metavar="CSV", help="the clinical table (default: the CSV in the input folder)"
    )


def options_of(args: argparse.Namespace) -> dict[str, object]:
    return asdict(_options(args)) | {"lung_only": args.lung_only}


def collect(args: argparse.Namespace) -> tuple[list[Item], list[IGTVError]]:
    """One item per study folder that holds an SUV.nii.gz; patients are the folders above."""
    root = Path(args.input)
    studies = sorted(p.parent for p in root.rglob("SUV.nii.gz"))
    if not studies:
        raise IGTVError(
            "no SUV.nii.gz in the folder", file=root, remedy="give the folder of the PETCT_… folders"
        )
    lung = _lung_patients(_table(root, args.metadata)) if args.lung_only else None
    items = []
    for study in studies:
        patient = study.parent.name if study != root else study.name
        if lung is not None and patient not in lung:
            continue
        load = partial(_load, study, _options(args), root)
        name = str(study.relative_to(root))
        items.append(Item(f"autopet/{name}", patient, study, load, frozenset({patient})))
    if not items:
        raise IGTVError("the metadata table names no lung cancer patient of this folder", file=root)
    return items, []


def _load(study: Path, options: Options, root: Path) -> Case:
    return load_triple(study / "CTres.nii.gz", study / "SUV.nii.gz", study / "SEG.nii.gz", options, root)


def _options(args: argparse.Namespace) -> Options:
    return Options(grid="pet", may_be_empty=not args.lung_only)


def _table(root: Path, given: str | None) -> Path:
    tables = [Path(given)] if given else sorted(root.glob("*.csv"))
    if len(tables) != 1 or not tables[0].is_file():
        raise IGTVError(
            f"--lung-only needs the clinical metadata table; {len(tables)} CSV files found",
            file=root,
            remedy="name it with --metadata",
        )
    return tables[0]


def _lung_patients(table: Path) -> set[str]:
    """Patients with a row whose diagnosis is lung cancer ("Subject ID", "diagnosis", in any case)."""
    with open(table, newline="", encoding="utf-8-sig") as stream:
        rows = [
            {(k or "").strip().casefold(): (v or "").strip() for k, v in row.items()}
            for row in csv.DictReader(stream)
        ]
    if not rows or not {"subject id", "diagnosis"} <= set(rows[0]):
        raise IGTVError('the metadata table lacks the columns "Subject ID" and "diagnosis"', file=table)
    return {row["subject id"] for row in rows if row["diagnosis"].upper().replace(" ", "_") == "LUNG_CANCER"}
