"""One case of a raw dataset, and its three files: written whole or not at all."""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import imagecodecs
import numpy as np
import SimpleITK as sitk

from nnunet_igtv.atomic import replace
from nnunet_igtv.errors import IGTVError

NIFTI_HEADER = 352  # bytes in front of the voxels of a .nii file
FOLDERS = {"train": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}


@dataclass
class Case:
    """One converted study on one grid.

    Attributes:
        ct, pet, label: images of one grid.
        provenance: how the case was made; holds no identity.
        identity: what it was made from; goes to the manifest only.
        pictures: kind -> a PNG that a person should look at, such as that of a registration.
        summary: lines that tell a person what it was made from, with dates; they are shown, not kept.
    """

    ct: sitk.Image
    pet: sitk.Image
    label: sitk.Image
    provenance: dict[str, object] = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)
    summary: tuple[str, ...] = ()
    pictures: dict[str, bytes] = field(default_factory=dict)


def case_files(folder: Path, case: str, split: str) -> list[Path]:
    """CT, PET and label of a case; the label is written last, so that it marks a complete case."""
    images, labels = FOLDERS[split]
    return [
        folder / images / f"{case}_0000.nii.gz",
        folder / images / f"{case}_0001.nii.gz",
        folder / labels / f"{case}.nii.gz",
    ]


def digest_of_voxels(image: sitk.Image) -> str:
    """What two images have in common only where they have the same voxels, wherever they lie; "" for an image
    of one value, which may be anybody's."""
    voxels = sitk.GetArrayViewFromImage(image)
    if voxels.min() == voxels.max():
        return ""
    digest = sha256(str(voxels.shape).encode())
    for plane in voxels:
        digest.update(plane.astype(np.float32).tobytes())
    return digest.hexdigest()


def check_case(case: Case) -> None:
    """Raises IGTVError if the label is empty and may not be."""
    if not sitk.GetArrayViewFromImage(case.label).any() and not case.provenance.get("without_tumour"):
        raise IGTVError("the label is empty")


def write_case(case: Case, targets: Sequence[Path], scratch: Path) -> list[int]:
    """Write the three files of a case, each whole; the label comes last.

    Returns:
        Their sizes in bytes.

    Raises:
        IGTVError: the label is empty.
        OSError: a file cannot be written in full.
    """
    check_case(case)
    images = (compact(case.ct), sitk.Cast(case.pet, sitk.sitkFloat32), sitk.Cast(case.label, sitk.sitkUInt8))
    unfinished = [
        scratch / target.name.replace(".nii.gz", f".{k}.nii.gz") for k, target in enumerate(targets)
    ]
    sizes = []
    for image, path, target in zip(images, unfinished, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        for key in image.GetMetaDataKeys():
            image.EraseMetaData(key)
        sizes.append(write_nifti(image, path))
    for path, target in zip(unfinished, targets, strict=True):
        replace(path, target)
    return sizes


def write_nifti(image: sitk.Image, path: Path) -> int:
    """A .nii.gz by libdeflate, which takes a third of zlib's time (the larger part of a conversion).

    ITK's writer prints when the disk is full and raises nothing: the length of what it wrote is checked.

    Returns:
        Its size in bytes.

    Raises:
        OSError: it cannot be written in full.
    """
    plain = path.with_suffix("")
    plain.touch()  # where the system refuses, it says why
    try:
        sitk.WriteImage(image, str(plain))
    except RuntimeError as error:
        raise OSError(errno.EIO, "the image cannot be written", str(plain)) from error
    data = plain.read_bytes()
    plain.unlink()
    voxels = sitk.GetArrayViewFromImage(image)
    if len(data) < NIFTI_HEADER + voxels.nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(plain))
    compressed = imagecodecs.gzip_encode(data, level=1)
    path.write_bytes(compressed)
    return len(compressed)


def compact(image: sitk.Image) -> sitk.Image:
    """As int16 if that loses nothing (CT mostly), else as float32."""
    voxels = sitk.GetArrayViewFromImage(image)
    if np.abs(voxels).max() < 2**15 and np.array_equal(voxels, np.rint(voxels)):
        return sitk.Cast(image, sitk.sitkInt16)
    return sitk.Cast(image, sitk.sitkFloat32)
