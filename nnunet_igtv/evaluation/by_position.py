"""Dice by the position of a slice within the target: in its middle, or where motion makes it fade.

Positions run along the first array axis, from 0 to 1 over each stretch of consecutive slices that hold truth:
of one tumour from its first slice to its last. Two tumours apart along that axis have each a middle and ends
of their own; two side by side have them together. Slices without truth, above, below or between tumours, have
no position: what is predicted there counts as `beyond_ml`.
"""

import numpy as np

BINS = 9  # of the profile


def dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    """2|T∩P| / (|T|+|P|) of bool arrays of one shape; NaN if both are empty."""
    total = int(truth.sum()) + int(prediction.sum())
    return 2 * int((truth & prediction).sum()) / total if total else float("nan")


def positions(truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The slices that hold truth, and the position of each one's centre in its stretch, in (0, 1)."""
    slices = np.flatnonzero(truth.any((1, 2)))
    stretches = np.split(slices, np.flatnonzero(np.diff(slices) > 1) + 1)
    return slices, np.concatenate([(np.arange(len(own)) + 0.5) / max(len(own), 1) for own in stretches])


def central_and_peripheral_dice(truth: np.ndarray, prediction: np.ndarray) -> tuple[float, float]:
    """Dice over the slices of the central third of each stretch of truth, and over those of the two outer
    thirds together.

    NaN where no slice has its centre there (a truth of one slice has no periphery, one of two no centre).
    """
    slices, position = positions(truth)
    central = (position > 1 / 3) & (position < 2 / 3)
    inner, outer = slices[central], slices[~central]
    return dice(truth[inner], prediction[inner]), dice(truth[outer], prediction[outer])


def profile(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Dice in each of `BINS` equal parts of the stretches of truth; NaN where no slice has its centre."""
    slices, position = positions(truth)
    part = np.minimum((position * BINS).astype(int), BINS - 1)
    return np.array([dice(truth[slices[part == b]], prediction[slices[part == b]]) for b in range(BINS)])
