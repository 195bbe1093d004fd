"""Source `nifti`: CT (HU), PET (SUVbw) and label as NIfTI files, named in a CSV manifest.

Columns: ct, pet, label (paths, relative to the CSV), patient (optional; keeps cases of one patient in one
fold), fold (optional: train or val). Other columns are ignored.
"""

import argparse
import csv
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.dataset_conversion.case import Case
from nnunet_igtv.dataset_conversion.raw_dataset import Item
from nnunet_igtv.dataset_conversion.resample import check_overlap, onto, same_grid
from nnunet_igtv.errors import IGTVError

HELP = "CT, PET and label as NIfTI files, named in a CSV manifest"
VALUES = "CT in HU and PET in SUVbw"
AIR_HU = -1024.0
HIGHEST_SUV = 500.0  # at the 99.9th percentile; activity in Bq/ml is in the thousands


@dataclass(frozen=True)
class Options:
    """The grid of the case ("ct" or "pet"), and the label value that counts (None: all but 0)."""

    grid: str = "ct"
    label_value: int | None = None
    may_be_empty: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--label", default="GTV", help="name of the label in dataset.json (default: %(default)s)"
    )
    parser.add_argument("--grid", choices=("ct", "pet"), default="ct", help="grid of the cases (default: ct)")
    parser.add_argument("--label-value", type=int, help="label value to segment (default: every value but 0)")


def options_of(args: argparse.Namespace) -> dict[str, object]:
    return asdict(Options(args.grid, args.label_value))


def collect(args: argparse.Namespace) -> tuple[list[Item], list[IGTVError]]:
    """One item per row of the CSV. Raises IGTVError for a CSV that cannot be used as a whole."""
    table = Path(args.input)
    try:
        with open(table, newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise IGTVError(f"the CSV manifest cannot be read ({type(error).__name__})", file=table) from error
    missing = {"ct", "pet", "label"} - set(rows[0] if rows else ())
    if missing:
        raise IGTVError(f"the CSV manifest lacks the columns {', '.join(sorted(missing))}", file=table)
    items = []
    for number, row in enumerate(rows, start=2):
        paths = [(row[column] or "").strip() for column in ("ct", "pet", "label")]
        patient, fold = (row.get("patient") or "").strip(), (row.get("fold") or "").strip().lower()
        if fold not in ("", "train", "val"):
            raise IGTVError(
                f"line {number}: fold is {fold!r}", file=table, remedy="leave it empty, or train or val"
            )
        if not all(paths):
            raise IGTVError(f"line {number}: an empty path", file=table)
        ct, pet, label = (table.parent / path for path in paths)
        load = partial(load_triple, ct, pet, label, Options(args.grid, args.label_value), table.parent)
        key = str(ct.resolve())
        items.append(Item(key, patient or key, ct, load, frozenset({patient} - {""}), fold))
    if len({i.key for i in items}) < len(items):
        raise IGTVError("the CSV manifest names a CT twice", file=table)
    return items, []


def load_triple(ct_file: Path, pet_file: Path, label_file: Path, options: Options, root: Path) -> Case:
    """One triple -> one case. The label may lie on the grid of the CT or of the PET.

    Raises IGTVError (files named relative to `root`) for files that cannot be read, values that are no SUV,
    a label on a third grid or without the value asked for, and images that do not overlap.
    """
    ct, pet, label = (_read(file, root) for file in (ct_file, pet_file, label_file))
    if np.percentile(sitk.GetArrayViewFromImage(pet), 99.9) > HIGHEST_SUV:
        raise IGTVError(
            "the PET values are too high for SUV",
            file=_name(pet_file, root),
            remedy="convert them to SUVbw first",
        )
    voxels = sitk.GetArrayViewFromImage(label)
    chosen = voxels != 0 if options.label_value is None else voxels == options.label_value
    if not chosen.any() and not options.may_be_empty:
        raise IGTVError("the label is empty", file=_name(label_file, root), remedy="leave this case out")
    mask = sitk.GetImageFromArray(chosen.astype(np.uint8))
    mask.CopyInformation(label)
    if not same_grid(mask, ct) and not same_grid(mask, pet):
        raise IGTVError("the label lies on the grid of neither CT nor PET", file=_name(label_file, root))
    share = check_overlap(ct, pet, mask)
    grid = ct if options.grid == "ct" else pet
    mask = onto(mask, grid, label=True)
    return Case(
        onto(ct, grid, outside=AIR_HU),
        onto(pet, grid),
        mask,
        provenance={
            "suv_rule": "SUVbw as given",
            "volume_ml": round(float(chosen.sum()) * float(np.prod(label.GetSpacing())) / 1000, 3),
            "ct_covered_by_pet": round(share, 3),
            "grid": options.grid,
            "without_tumour": not chosen.any(),
        },
    )


def _read(file: Path, root: Path) -> sitk.Image:
    name = _name(file, root)
    if not file.is_file():
        raise IGTVError("no such file", file=name)
    try:
        image = sitk.ReadImage(str(file))
        voxels = sitk.GetArrayViewFromImage(image)
    except RuntimeError as error:
        raise IGTVError("the image cannot be read", file=name, remedy="write it again") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise IGTVError("not a 3D image of one channel", file=name)
    if not np.isfinite(voxels).all():
        raise IGTVError("voxels that are not finite", file=name)
    return sitk.Cast(image, sitk.sitkFloat32)


def _name(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else file.name
