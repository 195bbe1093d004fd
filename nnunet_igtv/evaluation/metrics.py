"""What a prediction is scored by, one case at a time: the table of all metrics, and their values.

Rules for empty masks are in docs/evaluation.md: what cannot be defined is NaN here, is left out of means, and
is counted. Volumes, counts and the added path are always defined.
"""

from typing import NamedTuple

import numpy as np

from nnunet_igtv.evaluation.boxes import box_of
from nnunet_igtv.evaluation.by_position import central_and_peripheral_dice, dice
from nnunet_igtv.evaluation.lesions import lesion_metrics
from nnunet_igtv.evaluation.surfaces import added_path, coverage, surface_metrics


class Metric(NamedTuple):
    """How a metric is shown and what it means."""

    label: str
    unit: str
    digits: int
    best: str  # "high", "low", "zero" or "" where none is better
    group: str
    definition: str


METRICS: dict[str, Metric] = {
    "dice": Metric(
        *("Dice", "", 3, "high", "Overlap"),
        "2|T∩P| / (|T|+|P|) over the voxels of truth T and prediction P.",
    ),
    "dice_central": Metric(
        *("Dice central", "", 3, "high", "Overlap"),
        "Dice over the slices in the central third of the truth's extent along the slice axis; of tumours "
        "apart along it, in the central third of each.",
    ),
    "dice_peripheral": Metric(
        *("Dice peripheral", "", 3, "high", "Overlap"),
        "Dice over the slices in the two outer thirds; undefined for a truth of one slice.",
    ),
    "coverage": Metric(
        *("Covered", "", 3, "high", "Overlap"),
        "|T∩P| / |T|, the part of the truth's volume inside the prediction.",
    ),
    "coverage_3mm": Metric(
        *("Covered with 3 mm", "", 3, "high", "Overlap"),
        "Part of the truth whose voxel centres are within 3 mm of a predicted voxel's centre: inside the "
        "prediction with a margin of 3 mm.",
    ),
    "coverage_5mm": Metric(*("Covered with 5 mm", "", 3, "high", "Overlap"), "The same within 5 mm."),
    "surface_dice_1mm": Metric(
        *("Surface Dice 1 mm", "", 3, "high", "Surface"),
        "Part of both surfaces, by area, that lies within 1 mm of the other one (Nikolov 2021).",
    ),
    "surface_dice_2mm": Metric(*("Surface Dice 2 mm", "", 3, "high", "Surface"), "The same within 2 mm."),
    "surface_dice_3mm": Metric(*("Surface Dice 3 mm", "", 3, "high", "Surface"), "The same within 3 mm."),
    "hd95_mm": Metric(
        *("HD95", "mm", 1, "low", "Surface"),
        "The distance within which 95 % of each surface, by area, lies from the other; the larger of the two "
        "directions (surface-distance). Other packages weight and pool differently.",
    ),
    "added_path_mm": Metric(
        *("Added path", "mm", 0, "low", "Surface"),
        "Added path length: pixels on the truth's contours, slice by slice, that are not on the prediction's "
        "contours, times the pixel size (Vaassen 2020). What is to be erased does not count.",
    ),
    "truth_ml": Metric(*("Truth", "ml", 1, "", "Volume"), "Volume of the truth."),
    "prediction_ml": Metric(*("Prediction", "ml", 1, "", "Volume"), "Volume of the prediction."),
    "difference_ml": Metric(
        *("Difference", "ml", 1, "zero", "Volume"), "Prediction minus truth; negative: predicted too small."
    ),
    "beyond_ml": Metric(
        *("Beyond", "ml", 1, "low", "Volume"),
        "Predicted volume in slices without truth: above, below, or between tumours.",
    ),
    "lesions": Metric(
        *("Lesions", "", 1, "", "Lesions"),
        "Connected parts of the truth (voxels that share a face, an edge or a corner are connected).",
    ),
    "missed_lesions": Metric(
        *("Missed lesions", "", 1, "low", "Lesions"),
        "Lesions of the truth of which no voxel is predicted; all others are found.",
    ),
    "false_lesions": Metric(
        *("False lesions", "", 1, "low", "Lesions"),
        "Connected parts of the prediction without a voxel of the truth.",
    ),
    "false_lesions_ml": Metric(*("False lesions", "ml", 1, "low", "Lesions"), "Their volume."),
    "lesion_f1": Metric(
        *("Lesion F1", "", 3, "high", "Lesions"), "2·found / (2·found + false + missed), counts of lesions."
    ),
}


def score(truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float]) -> dict[str, float]:
    """Every metric of `METRICS` for one case.

    Args:
        truth: bool (S, H, W).
        prediction: bool (S, H, W).
        spacing: mm along (S, H, W).
    """
    box = box_of(truth | prediction, (1, 1, 1))
    truth, prediction = truth[box], prediction[box]
    ml = float(np.prod(spacing)) / 1000
    central, peripheral = central_and_peripheral_dice(truth, prediction)
    beyond = prediction[~truth.any((1, 2))]
    truth_ml, prediction_ml = float(truth.sum()) * ml, float(prediction.sum()) * ml
    values = {
        "dice": dice(truth, prediction),
        "dice_central": central,
        "dice_peripheral": peripheral,
        **coverage(truth, prediction, spacing),
        **surface_metrics(truth, prediction, spacing),
        "added_path_mm": added_path(truth, prediction, spacing),
        "truth_ml": truth_ml,
        "prediction_ml": prediction_ml,
        "difference_ml": prediction_ml - truth_ml,
        "beyond_ml": float(beyond.sum()) * ml,
        **lesion_metrics(truth, prediction, ml),
    }
    return {name: values[name] for name in METRICS}
