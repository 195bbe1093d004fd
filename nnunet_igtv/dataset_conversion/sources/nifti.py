"""Source `nifti`: CT (HU), PET (SUVbw) and label as NIfTI files, named in a CSV manifest.

Columns: ct, pet, label (paths, relative to the CSV), patient (optional; keeps cases of one patient in one
fold), fold (optional: train or val). Other columns are ignored.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.dataset_conversion.case import Case
from nnunet_igtv.dataset_conversion.resampling import check_overlap, covered, onto
from nnunet_igtv.dataset_conversion.source import Item, Source
from nnunet_igtv.dicom.pixels import AIR_HU
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid, onto_grid, read_image, read_mask
from nnunet_igtv.settings import setting
from nnunet_igtv.studies.plausibility import (
    refuse_no_suv,
    remarks_on_ct,
    remarks_on_pet,
    remarks_on_structure,
)
from nnunet_igtv.tables import read_table


@dataclass(frozen=True)
class Options:
    """How a triple is converted."""

    grid: str = setting("ct", "grid of the cases", choices=("ct", "pet"))
    label_value: int | None = setting(None, "label value to segment (default: every value but 0)")


def collect(table: Path, options: Options, jobs: int = 1) -> Iterator[Item | IGTVError]:
    """One item per row of the CSV. Raises IGTVError for a CSV that cannot be used as a whole."""
    if not table.is_file():
        raise IGTVError("no such file", file=table)
    columns, rows = read_table(table, "the CSV manifest")
    missing = {"ct", "pet", "label"} - set(columns if rows else ())
    if missing:
        raise IGTVError(f"the CSV manifest lacks the columns {', '.join(sorted(missing))}", file=table)
    items = []
    for number, row in enumerate(rows, start=2):
        paths = [row[column].strip() for column in ("ct", "pet", "label")]
        patient, fold = row.get("patient", "").strip(), row.get("fold", "").strip().lower()
        if fold not in ("", "train", "val"):
            raise IGTVError(
                f"line {number}: fold is {fold!r}", file=table, remedy="leave it empty, or train or val"
            )
        if not all(paths) or "\0" in "".join(paths):
            raise IGTVError(f"line {number}: an empty path, or one that no file can have", file=table)
        ct, pet, label = (table.parent / path for path in paths)
        load = partial(load_triple, ct, pet, label, options, table.parent)
        key = os.path.realpath(ct)
        items.append(Item(key, patient or key, ct, load, frozenset({patient} - {""}), fold))
    if len({i.key for i in items}) < len(items):
        raise IGTVError("the CSV manifest names a CT twice", file=table)
    yield from items


def load_triple(
    ct_file: Path, pet_file: Path, label_file: Path, options: Options, root: Path, may_be_empty: bool = False
) -> Case:
    """One triple -> one case. The voxels of the label are those of the CT or of the PET, all or some of them,
    in any order of the axes.

    Raises IGTVError (files named relative to `root`) for files that cannot be read, values that are no SUV,
    a label on a third grid or without the value asked for, and images that do not overlap.
    """
    ct, pet = (
        sitk.Cast(read_image(file, _name(file, root)), sitk.sitkFloat32) for file in (ct_file, pet_file)
    )
    label = read_mask(label_file, _name(label_file, root))
    refuse_no_suv(sitk.GetArrayViewFromImage(pet), _name(pet_file, root))
    voxels = sitk.GetArrayViewFromImage(label)
    chosen = voxels != 0 if options.label_value is None else voxels == options.label_value
    if not chosen.any() and not may_be_empty:
        raise IGTVError("the label is empty", file=_name(label_file, root), remedy="leave this case out")
    mask, warnings = _on_its_image(Grid.of(label).image(chosen.astype(np.uint8)), ct, pet, label_file, root)
    share = check_overlap(ct, pet, mask)
    grid = ct if options.grid == "ct" else pet
    mask = onto(mask, grid, label=True)
    return Case(
        onto(ct, grid, outside=AIR_HU),
        onto(pet, grid),
        mask,
        provenance={
            "suv_rule": "SUVbw as given",
            "volume_ml": round(Grid.of(label).millilitres(chosen.sum()), 3),
            "ct_covered_by_pet": round(share, 3),
            "grid": options.grid,
            "warnings": [
                *warnings,
                *remarks_on_ct(sitk.GetArrayViewFromImage(ct)),
                *remarks_on_pet(sitk.GetArrayViewFromImage(pet)),
                *remarks_on_structure(chosen),
            ],
            "without_tumour": not chosen.any(),
        },
    )


def _on_its_image(
    mask: sitk.Image, ct: sitk.Image, pet: sitk.Image, file: Path, root: Path
) -> tuple[sitk.Image, list[str]]:
    """The label on the grid of the CT or the PET, whichever has its voxels, and warnings."""
    refusals = []
    for name, image in (("CT", ct), ("PET", pet)):
        try:
            moved = onto_grid(mask, Grid.of(image), name)
        except IGTVError as error:
            refusals.append(error.what)
            continue
        corners = np.array(list(product(*[(0, size - 1) for size in image.GetSize()])))
        part = f"the label covers a part of the {name}; elsewhere it is taken for background"
        return moved, [part] if covered(corners, image, mask) < 1 else []
    raise IGTVError(
        f"the label lies on the grid of neither CT nor PET: {'; '.join(refusals)}",
        file=_name(file, root),
        remedy="resample the label to the grid of the CT",
    )


def _name(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else file.name


SOURCE = Source(
    name="nifti",
    summary="CT, PET and label as NIfTI files, named in a CSV manifest",
    description=__doc__,
    example="/data/cases.csv",
    options=Options,
    collect=collect,
)
