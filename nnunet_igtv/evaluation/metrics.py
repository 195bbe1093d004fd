"""What a prediction is scored by, one case at a time.

Rules for empty masks: where truth and prediction are both empty, overlaps and distances are undefined (NaN)
and left out of means; where one of them is empty, overlaps are 0 and distances undefined. Volumes and counts
are always defined.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from nnunet_igtv.evaluation.by_position import central_and_peripheral_dice, dice

NAN = float("nan")
_TOUCHING = np.ones((3, 3, 3))  # voxels of one lesion share a face, an edge or a corner


class Metric(NamedTuple):
    """How a metric is shown and what it means."""

    label: str
    unit: str
    digits: int
    best: str  # "high", "low", "zero" or "" where none is better
    definition: str


METRICS: dict[str, Metric] = {
    "dice": Metric("Dice", "", 3, "high", "2|T∩P| / (|T|+|P|) over the voxels of truth T and prediction P."),
    "dice_central": Metric(
        "Dice central",
        "",
        3,
        "high",
        "Dice over the slices in the central third of the truth's extent along the slice axis.",
    ),
    "dice_peripheral": Metric(
        "Dice peripheral",
        "",
        3,
        "high",
        "Dice over the slices in the two outer thirds of that extent; undefined for a truth of one slice.",
    ),
    "surface_dice_2mm": Metric(
        "Surface Dice 2 mm",
        "",
        3,
        "high",
        "Part of both surfaces, by area, that lies within 2 mm of the other one (surface-distance).",
    ),
    "surface_dice_3mm": Metric("Surface Dice 3 mm", "", 3, "high", "The same within 3 mm."),
    "hd95_mm": Metric(
        "HD95",
        "mm",
        1,
        "low",
        "The distance within which 95 % of each surface, by area, lies from the other; the larger of the two "
        "directions (surface-distance). Other packages weight and pool differently.",
    ),
    "truth_ml": Metric("Truth", "ml", 1, "", "Volume of the truth."),
    "prediction_ml": Metric("Prediction", "ml", 1, "", "Volume of the prediction."),
    "difference_ml": Metric(
        "Difference", "ml", 1, "zero", "Prediction minus truth; negative: predicted too small."
    ),
    "beyond_ml": Metric(
        "Beyond", "ml", 1, "low", "Predicted volume in slices above or below the truth's extent."
    ),
    "false_lesions": Metric(
        "False lesions",
        "",
        1,
        "low",
        "Connected parts (26 neighbours) of the prediction that touch no truth.",
    ),
    "false_lesions_ml": Metric("False lesions", "ml", 1, "low", "Their volume."),
    "missed_lesions": Metric(
        "Missed lesions",
        "",
        1,
        "low",
        "Connected parts (26 neighbours) of the truth that no prediction touches.",
    ),
}


def score(truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float]) -> dict[str, float]:
    """Every metric of `METRICS` for one case.

    Args:
        truth: bool (S, H, W).
        prediction: bool (S, H, W).
        spacing: mm along (S, H, W).
    """
    ml = float(np.prod(spacing)) / 1000
    central, peripheral = central_and_peripheral_dice(truth, prediction)
    extent = np.flatnonzero(truth.any((1, 2)))
    beyond = prediction.copy()
    if len(extent):
        beyond[extent[0] : extent[-1] + 1] = False
    false_lesions, false_voxels = _untouched(prediction, truth)
    truth_ml, prediction_ml = float(truth.sum()) * ml, float(prediction.sum()) * ml
    values = {
        "dice": dice(truth, prediction),
        "dice_central": central,
        "dice_peripheral": peripheral,
        **_surface_metrics(truth, prediction, spacing),
        "truth_ml": truth_ml,
        "prediction_ml": prediction_ml,
        "difference_ml": prediction_ml - truth_ml,
        "beyond_ml": float(beyond.sum()) * ml,
        "false_lesions": float(false_lesions),
        "false_lesions_ml": false_voxels * ml,
        "missed_lesions": float(_untouched(truth, prediction)[0]),
    }
    return {name: values[name] for name in METRICS}


def _surface_metrics(
    truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float]
) -> dict[str, float]:
    from surface_distance import (
        compute_robust_hausdorff,
        compute_surface_dice_at_tolerance,
        compute_surface_distances,
    )

    if not truth.any() or not prediction.any():
        overlap = NAN if truth.any() == prediction.any() else 0.0
        return {"surface_dice_2mm": overlap, "surface_dice_3mm": overlap, "hd95_mm": NAN}
    distances = compute_surface_distances(truth, prediction, spacing)
    return {
        "surface_dice_2mm": float(compute_surface_dice_at_tolerance(distances, 2.0)),
        "surface_dice_3mm": float(compute_surface_dice_at_tolerance(distances, 3.0)),
        "hd95_mm": float(compute_robust_hausdorff(distances, 95.0)),
    }


def _untouched(mask: np.ndarray, other: np.ndarray) -> tuple[int, float]:
    """(number, voxels) of the connected parts of `mask` that hold no voxel of `other`."""
    labels, count = ndimage.label(mask, _TOUCHING)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    touched = np.unique(labels[other & mask])
    alone = np.setdiff1d(np.arange(1, count + 1), touched)
    return len(alone), float(sizes[alone].sum())
