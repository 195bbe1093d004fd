"""Source `nifti`: CT (HU), PET (SUVbw) and label as NIfTI files, named in a CSV manifest.

Columns: ct, pet, label (paths, relative to the CSV), patient (optional; keeps cases of one patient in one
fold), fold (optional: train or val). Other columns are ignored. Where studies without a PET are taken, pet
may be empty, or no column.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.dataset_conversion.case import Case
from nnunet_igtv.dataset_conversion.label_values import check_value, structure_in
from nnunet_igtv.dataset_conversion.nifti_position import check_positions
from nnunet_igtv.dataset_conversion.nifti_table import read_triples
from nnunet_igtv.dataset_conversion.pet_channel import PetChannel, pet_channel
from nnunet_igtv.dataset_conversion.resampling import covered, onto
from nnunet_igtv.dataset_conversion.source import Item, Source
from nnunet_igtv.dicom.pixels import AIR_HU
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid, onto_grid, read_image, read_mask
from nnunet_igtv.settings import setting
from nnunet_igtv.studies.known import no_pet_setting
from nnunet_igtv.studies.plausibility import (
    refuse_no_suv,
    remarks_on_ct,
    remarks_on_pet,
    remarks_on_structure,
)


@dataclass(frozen=True)
class Options:
    """How a triple is converted."""

    grid: str = setting("ct", "grid of the cases", choices=("ct", "pet"))
    label_value: int | None = setting(None, "label value to segment (default: every value but 0)")
    no_pet: str | None = no_pet_setting()


def collect(table: Path, options: Options, jobs: int = 1) -> Iterator[Item | IGTVError]:
    """One item per row of the CSV. Raises IGTVError for a CSV that cannot be used as a whole."""
    check_value(options.label_value)
    for row in read_triples(table, options.no_pet):
        load = partial(
            load_triple, row.ct, row.pet, row.label, options, table.parent, remarks=tuple(row.warnings)
        )
        key = os.path.realpath(row.ct)
        others = tuple(os.path.realpath(file) for file in (row.pet, row.label) if file)
        secrets = frozenset({row.patient} - {""})
        made_from = tuple(file for file in (row.ct, row.pet, row.label) if file)
        patient = row.patient or key
        yield Item(key, patient, row.ct, load, secrets, row.fold, files=others, made_from=made_from)


def load_triple(
    ct_file: Path,
    pet_file: Path | None,
    label_file: Path,
    options: Options,
    root: Path,
    may_be_empty: bool = False,
    one_value: bool = False,
    remarks: Sequence[str] = (),
) -> Case:
    """One triple -> one case. The voxels of the label are those of the CT or of the PET, all or some of them,
    in any order of the axes. Without a PET, its channel is that of an absent one. `may_be_empty` and
    `one_value` are said of the label (`structure_in`); `remarks` are warnings that are known before.

    Raises IGTVError (files named relative to `root`) for files that cannot be read, values that are no SUV,
    a label on a third grid or without the value asked for, and images that do not overlap.
    """
    ct = _image(ct_file, root)
    pet = pet_channel(None) if pet_file is None else _pet(pet_file, root)
    label = read_mask(label_file, _name(label_file, root))
    images = {"CT": (ct_file, ct), "label": (label_file, label)}
    images |= {"PET": (pet_file, pet.image)} if pet_file and pet.image else {}
    positions = check_positions({name: (file, Grid.of(i)) for name, (file, i) in images.items()}, root)
    chosen, united = structure_in(
        sitk.GetArrayViewFromImage(label),
        options.label_value,
        _name(label_file, root),
        may_be_empty,
        one_value,
    )
    mask = Grid.of(label).image(chosen.astype(np.uint8))
    mask, warnings = _on_its_image(mask, ct, pet.image, _name(label_file, root))
    share = pet.check_overlap(ct, mask)
    grid = ct if options.grid == "ct" else pet.grid_image
    mask = onto(mask, grid, label=True)
    return Case(
        onto(ct, grid, outside=AIR_HU),
        pet.onto(grid),
        mask,
        provenance={
            **pet.provenance,
            "volume_ml": round(Grid.of(label).millilitres(chosen.sum()), 3),
            "ct_covered_by_pet": round(share, 3),
            "grid": options.grid,
            "warnings": [
                *remarks,
                *positions,
                *united,
                *warnings,
                *remarks_on_ct(sitk.GetArrayViewFromImage(ct)),
                *pet.warnings,
                *remarks_on_structure(chosen),
            ],
            "notes": [*pet.notes],
            "without_tumour": not chosen.any(),
        },
    )


def _image(file: Path, root: Path) -> sitk.Image:
    return sitk.Cast(read_image(file, _name(file, root)), sitk.sitkFloat32)


def _pet(file: Path, root: Path) -> PetChannel:
    image = _image(file, root)
    voxels = sitk.GetArrayViewFromImage(image)
    refuse_no_suv(voxels, _name(file, root))
    return PetChannel(
        image, provenance={"suv_rule": "SUVbw as given"}, warnings=tuple(remarks_on_pet(voxels))
    )


def _on_its_image(
    mask: sitk.Image, ct: sitk.Image, pet: sitk.Image | None, file: str
) -> tuple[sitk.Image, list[str]]:
    """The label on the grid of the CT or the PET, whichever has its voxels, and warnings."""
    refusals = []
    images = {"CT": ct} | ({} if pet is None else {"PET": pet})
    for name, image in images.items():
        try:
            moved = onto_grid(mask, Grid.of(image), name)
        except IGTVError as error:
            refusals.append(error.what)
            continue
        corners = np.array(list(product(*[(0, size - 1) for size in image.GetSize()])))
        part = f"the label covers a part of the {name}; elsewhere it is taken for background"
        return moved, [part] if covered(corners, image, mask) < 1 else []
    where = "neither CT nor PET" if pet is not None else "another image than the CT"
    raise IGTVError(
        f"the label lies on the grid of {where}: {'; '.join(refusals)}",
        file=file,
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
