"""Source `pclt20k`: the PCLT20K layout (Mei et al., CVPR 2025): PNG slices, train.txt and test.txt.

    <patient>/<patient>_<slice>_CT.png, …_PET.png, …_mask.png;  train.txt and test.txt list <patient>_<slice>

Consecutive slices of a patient become one volume; a gap, or a change between the lists, begins another. The
given split becomes the only fold of splits_final.json, unless it divides a patient. The PNGs are 8-bit,
without HU, SUV or spacing: a dataset of its own.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.channels import GREY
from nnunet_igtv.dataset_conversion.case import Case
from nnunet_igtv.dataset_conversion.source import Item, Source
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.settings import setting
from nnunet_igtv.tables import read_lines

STRUCTURE = 128  # the least grey value of a mask that is the structure
FOLDS = {"train.txt": "train", "test.txt": "val"}


@dataclass(frozen=True)
class Options:
    """What the PNGs do not carry."""

    spacing: tuple[float, float, float] = setting(
        (1.0, 1.0, 1.0), "voxel spacing in mm, which the PNGs do not carry", metavar=("X", "Y", "Z")
    )


def collect(root: Path, options: Options, jobs: int = 1) -> Iterator[Item | IGTVError]:
    """One item per run of consecutive slices of one patient in one list."""
    if min(options.spacing) <= 0:
        raise IGTVError(
            "a spacing that is not positive", remedy="give it in mm, along x, y and z", settings=["spacing"]
        )
    names: dict[str, str] = {}
    for file, fold in FOLDS.items():
        if not (root / file).is_file():
            raise IGTVError(
                f"{file} is missing", file=root, remedy="give the folder that holds train.txt and test.txt"
            )
        for name in read_lines(root / file, file):
            if names.setdefault(name, fold) != fold:
                raise IGTVError("a slice is listed in train.txt and in test.txt", file=root)
    runs = consecutive(sorted((*_patient_and_slice(name), fold, name) for name, fold in names.items()))
    items = []
    for run in runs:
        patient, first, fold, _ = run[0]
        slices = [name for *_, name in run]
        load = partial(load_slices, root / patient, slices, options.spacing)
        key = f"pclt20k/{patient}/{first}-{run[-1][1]}"
        items.append(Item(key, patient, root / patient, load, fold=fold))
    if not items:
        raise IGTVError("train.txt and test.txt list no slices", file=root)
    yield from items


def consecutive(slices: Sequence[tuple[str, int, str, str]]) -> list[list[tuple[str, int, str, str]]]:
    """Sorted (patient, slice number, fold, name) -> runs of one patient and fold without gaps."""
    runs = []
    for _, run in groupby(enumerate(slices), key=lambda item: (item[1][0], item[1][2], item[1][1] - item[0])):
        runs.append([entry for _, entry in run])
    return runs


def _patient_and_slice(name: str) -> tuple[str, int]:
    match = re.fullmatch(r"([^_/\\]+)_.*?(\d+)", name)
    if not match or match[1] in (".", "..") or re.search(r"[/\\]", name):
        raise IGTVError(f"{name!r} is not of the form <patient>_<slice>", remedy="mend train.txt or test.txt")
    return match[1], int(match[2])


def load_slices(folder: Path, names: Sequence[str], spacing: tuple[float, float, float]) -> Case:
    """The slices of one run -> one case. Raises IGTVError for missing files, slices of different sizes, and
    masks that are too dark everywhere to show the structure."""
    planes = [[_plane(folder / f"{name}_{kind}.png") for name in names] for kind in ("CT", "PET", "mask")]
    if len({plane.shape for kind in planes for plane in kind}) > 1:
        raise IGTVError("the slices differ in size", file=folder.name)
    ct, pet, mask = map(np.stack, planes)
    if 0 < mask.max() < STRUCTURE:
        raise IGTVError(
            f"the masks' grey values are {mask.max()} at most, where the structure has {STRUCTURE} to 255",
            file=folder.name,
            remedy="write the masks as 0 and 255",
        )
    label = (mask >= STRUCTURE).astype(np.uint8)
    images = [
        sitk.GetImageFromArray(voxels) for voxels in (ct.astype(np.float32), pet.astype(np.float32), label)
    ]
    for image in images:
        image.SetSpacing(spacing)
    provenance = {"slices": len(names), "spacing_declared": list(spacing), "without_tumour": not label.any()}
    return Case(images[0], images[1], images[2], provenance)


def _plane(file: Path) -> np.ndarray:
    """A grey PNG as (rows, columns); three equal channels are taken for grey."""
    if not file.is_file():
        raise IGTVError("no such file", file=f"{file.parent.name}/{file.name}")
    try:
        plane = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    except RuntimeError as error:
        raise IGTVError("the image cannot be read", file=f"{file.parent.name}/{file.name}") from error
    if plane.ndim == 3 and (plane[..., :1] == plane[..., :3]).all():
        plane = plane[..., 0]
    if plane.ndim != 2 or plane.dtype != np.uint8:
        raise IGTVError("not an 8-bit grey image", file=f"{file.parent.name}/{file.name}")
    return plane


SOURCE = Source(
    name="pclt20k",
    summary="PCLT20K: PNG slices of CT, PET and mask, with train.txt and test.txt",
    description=__doc__,
    options=Options,
    collect=collect,
    dataset="PCLT20K",
    channels=GREY,
)
