"""Contours of a GTV network as IGTVs: with the margin that is best on the training cases.

    python experiments/scripts/margin.py --train DIR --test DIR --labels labelsTr --splits splits_final.json \
        --folds 0 --output DIR

The margin is the same in all directions, 0 to 15 mm, and is not chosen on the cases that are scored. With
several folds (a cross-validation) each case gets the margin of the fold that held it out.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import distance_transform_edt

from nnunet_igtv.evaluation.by_position import dice
from nnunet_igtv.grids import Grid, read_mask

MARGINS = range(16)  # mm


def widened(mask: sitk.Image, margins: range | list[int]) -> list[np.ndarray]:
    """The mask with each margin in mm, (S, H, W) each; an empty mask stays empty."""
    voxels = sitk.GetArrayFromImage(mask) > 0
    if not voxels.any():
        return [voxels for _ in margins]
    distance = distance_transform_edt(~voxels, sampling=mask.GetSpacing()[::-1])
    return [distance <= margin for margin in margins]


def best_margin(found: Path, labels: Path, cases: list[str]) -> int:
    """The margin with the highest mean Dice over the cases."""
    scores = []
    for case in cases:
        truth = sitk.GetArrayFromImage(read_mask(labels / f"{case}.nii.gz")) > 0
        scores.append([dice(truth, mask) for mask in widened(read_mask(found / f"{case}.nii.gz"), MARGINS)])
    return MARGINS[int(np.mean(scores, axis=0).argmax())]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("train", "test", "labels", "splits", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="+", required=True)
    a = parser.parse_args()
    a.output.mkdir(parents=True, exist_ok=True)
    splits = json.loads(a.splits.read_text())
    every = sorted(path.name.removesuffix(".nii.gz") for path in a.test.glob("*.nii.gz"))
    for fold in a.folds:
        margin = best_margin(a.train, a.labels, splits[fold]["train"])
        print(f"fold {fold}: margin {margin} mm")
        for case in every if len(a.folds) == 1 else splits[fold]["val"]:
            found = read_mask(a.test / f"{case}.nii.gz")
            (voxels,) = widened(found, [margin])
            mask = Grid.of(found).image(voxels.astype(np.uint8))
            sitk.WriteImage(mask, str(a.output / f"{case}.nii.gz"))
