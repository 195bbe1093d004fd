"""Source `lucid`: the PET/CT studies of LUCID (Lung-cancer Unified Cross-modal Imaging Dataset, arXiv
2509.22841).

The cohort is private and its layout is not published. DICOM studies are found by their headers, whatever the
folders: `lucid` is `dicom-rt` with the structure IGTV. A folder without DICOM is read as NIfTI triples: each
folder that holds NIfTI files must hold one CT, one PET and one IGTV, told apart by these words in the file
names.
"""

import argparse
import re
from functools import partial
from pathlib import Path

from nnunet_igtv.dataset_conversion import dicom_rt, nifti
from nnunet_igtv.dataset_conversion.files import list_files
from nnunet_igtv.dataset_conversion.raw_dataset import Item
from nnunet_igtv.errors import IGTVError

HELP = "LUCID PET/CT studies with an IGTV structure (DICOM, or NIfTI triples)"
VALUES = dicom_rt.VALUES
WORDS = {"CT": {"ct"}, "PET": {"pet", "pt", "suv"}, "IGTV": {"igtv"}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    dicom_rt.add_arguments(parser, structure="IGTV", label="IGTV")


options_of = dicom_rt.options_of


def collect(args: argparse.Namespace) -> tuple[list[Item], list[IGTVError]]:
    """The DICOM studies under the input folder, or else its NIfTI triples."""
    root = Path(args.input)
    images = [f for f in list_files(root) if f.name.lower().endswith((".nii", ".nii.gz"))]
    if not images:
        return dicom_rt.collect(args)
    items: list[Item] = []
    faults: list[IGTVError] = []
    for folder in sorted({f.parent for f in images}):
        name = str(folder.relative_to(root))
        try:
            ct, pet, label = (_one(kind, [f for f in images if f.parent == folder], name) for kind in WORDS)
        except IGTVError as error:
            faults.append(error)
            continue
        load = partial(nifti.load_triple, ct, pet, label, nifti.Options(args.grid), root)
        patient = folder.relative_to(root).parts[0] if folder != root else name
        items.append(Item(f"lucid/{name}", patient, folder, load, frozenset({patient} - {"."})))
    return items, faults


def _one(kind: str, files: list[Path], folder: str) -> Path:
    found = [f for f in files if WORDS[kind] & set(re.split(r"[^a-z0-9]+", f.name.lower()))]
    if len(found) != 1:
        raise IGTVError(
            f"{len(found)} NIfTI files are named {kind}",
            file=folder,
            remedy="one CT, one PET and one IGTV per folder; or name them in a CSV for `convert nifti`",
        )
    return found[0]
