"""Lesion by lesion: which connected parts of the truth were found, and which of the prediction are false.

A lesion of the truth is found if at least one of its voxels is predicted; a part of the prediction is false
if it holds no voxel of the truth. A prediction that joins two lesions finds both, and a lesion that is found
in two parts is found once.
"""

import numpy as np
from scipy import ndimage

_TOUCHING = np.ones((3, 3, 3))  # voxels of one lesion share a face, an edge or a corner


def lesion_metrics(truth: np.ndarray, prediction: np.ndarray, voxel_ml: float) -> dict[str, float]:
    """Counts of lesions of one case; F1 is NaN where there is no lesion in either mask."""
    lesions, missed, _ = _untouched(truth, prediction)
    _, false, false_voxels = _untouched(prediction, truth)
    return {
        "lesions": float(lesions),
        "missed_lesions": float(missed),
        "false_lesions": float(false),
        "false_lesions_ml": false_voxels * voxel_ml,
        "lesion_f1": f1(lesions - missed, false, missed),
    }


def f1(found: float, false: float, missed: float) -> float:
    """2·found / (2·found + false + missed); NaN if all are 0."""
    total = 2 * found + false + missed
    return 2 * found / total if total else float("nan")


def _untouched(mask: np.ndarray, other: np.ndarray) -> tuple[int, int, float]:
    """The number of connected parts of `mask`, how many hold no voxel of `other`, and those parts' voxels."""
    labels, count = ndimage.label(mask, _TOUCHING)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    touched = np.unique(labels[other & mask])
    alone = np.setdiff1d(np.arange(1, count + 1), touched)
    return count, len(alone), float(sizes[alone].sum())
