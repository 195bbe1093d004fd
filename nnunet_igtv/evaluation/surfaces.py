"""Distances between truth and prediction: surface Dice, HD95, coverage with margins, added path length.

Surface Dice: Nikolov et al., J Med Internet Res 23 (2021) e26151. Added path length: Vaassen et al., Phys
Imaging Radiat Oncol 13 (2020) 1.
"""

import math

import numpy as np
from scipy import ndimage

from nnunet_igtv.evaluation.boxes import box_of, voxels

NAN = float("nan")
TOLERANCES = (1, 2, 3)  # mm, of surface Dice
MARGINS = (3, 5)  # mm around the prediction
ROUNDING = 1e-3  # mm: slices 3 mm apart, or five of 0.6 mm, are within 3 mm in every file format


def surface_metrics(
    truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float]
) -> dict[str, float]:
    """Surface Dice and HD95 in mm: NaN where both masks are empty, 0 and NaN where one is."""
    from surface_distance import (
        compute_robust_hausdorff,
        compute_surface_dice_at_tolerance,
        compute_surface_distances,
    )

    if not truth.any() or not prediction.any():
        overlap = NAN if truth.any() == prediction.any() else 0.0
        return {**{f"surface_dice_{mm}mm": overlap for mm in TOLERANCES}, "hd95_mm": NAN}
    distances = compute_surface_distances(truth, prediction, spacing)
    return {
        **{
            f"surface_dice_{mm}mm": float(compute_surface_dice_at_tolerance(distances, mm + ROUNDING))
            for mm in TOLERANCES
        },
        "hd95_mm": float(compute_robust_hausdorff(distances, 95.0)),
    }


def coverage(
    truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float]
) -> dict[str, float]:
    """Part of the truth inside the prediction, and inside the prediction with margins.

    NaN where the truth is empty. The distances are between centres of voxels, so a margin smaller than the
    distance of two slices does not reach the next slice.
    """
    names = ["coverage", *(f"coverage_{mm}mm" for mm in MARGINS)]
    if not truth.any():
        return dict.fromkeys(names, NAN)
    if not prediction.any():
        return dict.fromkeys(names, 0.0)
    box = box_of(truth, voxels(max(MARGINS), spacing))  # what is predicted far away reaches no truth
    distance = _distance(prediction[box], spacing)[truth[box]]
    return {
        name: float((distance <= mm + ROUNDING).mean()) for name, mm in zip(names, (0, *MARGINS), strict=True)
    }


def _distance(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """mm from each voxel to the nearest of the mask, infinite if it is empty."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=spacing))


def added_path(truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float]) -> float:
    """Length in mm of the truth's contours, in all slices, that the prediction's contours do not follow.

    A contour is the pixels of a mask in a slice with a neighbour, sharing a side, outside of the mask. Each
    counts as long as a pixel; of pixels that are not square, the geometric mean of their sides.
    """
    added = _contours(truth) & ~_contours(prediction)
    return float(added.sum()) * math.sqrt(spacing[1] * spacing[2])


def _contours(mask: np.ndarray) -> np.ndarray:
    in_slice = ndimage.generate_binary_structure(2, 1)[None]
    return mask & ~ndimage.binary_erosion(mask, in_slice)
