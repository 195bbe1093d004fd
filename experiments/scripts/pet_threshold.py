"""Masks without a network: the PET above a share of its maximum, or above an SUV, near the tumour.

    python experiments/scripts/pet_threshold.py imagesTs labelsTs --percent 42 --output DIR

The rule is told where the tumour is: it sees the voxels within 30 mm of the centre of the truth, which no
network is told. So it is a floor that a network should pass, not a competitor.
"""

import argparse
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.grids import Grid, read_image, read_mask

NEAR = 30.0  # mm


def near(truth: sitk.Image) -> np.ndarray:
    """(S, H, W) of bool: voxels within `NEAR` of the truth's centre."""
    mask = sitk.GetArrayFromImage(truth) > 0
    spacing = np.array(truth.GetSpacing()[::-1])
    centre = np.argwhere(mask).mean(axis=0)
    axes = [(np.arange(n) - c) * s for n, c, s in zip(mask.shape, centre, spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    return z**2 + y**2 + x**2 <= NEAR**2


def above(pet: np.ndarray, region: np.ndarray, percent: float | None, suv: float | None) -> np.ndarray:
    """Voxels of the region above the threshold: a share of the region's maximum, or an SUV."""
    threshold = suv if percent is None else percent / 100 * pet[region].max()
    return region & (pet >= threshold)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path)
    rule = parser.add_mutually_exclusive_group(required=True)
    rule.add_argument("--percent", type=float, help="of the maximum near the tumour")
    rule.add_argument("--suv", type=float)
    parser.add_argument("--output", type=Path, required=True)
    a = parser.parse_args()
    a.output.mkdir(parents=True, exist_ok=True)
    for label in sorted(a.labels.glob("*.nii.gz")):
        case = label.name.removesuffix(".nii.gz")
        truth = read_mask(label)
        pet = sitk.GetArrayFromImage(read_image(a.images / f"{case}_0001.nii.gz"))
        mask = Grid.of(truth).image(above(pet, near(truth), a.percent, a.suv).astype(np.uint8))
        sitk.WriteImage(mask, str(a.output / label.name))
