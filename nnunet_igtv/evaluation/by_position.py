"""Dice by the position of a slice within the target: in its middle, or where motion makes it fade.

Positions run along the first array axis from 0 (the truth's first slice) to 1 (its last); slices outside
of the truth have no position.
"""

import numpy as np

BINS = 9  # of the profile


def dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    """2|T∩P| / (|T|+|P|) of bool arrays of one shape; NaN if both are empty."""
    total = int(truth.sum()) + int(prediction.sum())
    return 2 * int((truth & prediction).sum()) / total if total else float("nan")


def positions(truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The slices from the truth's first to its last, and the position of each one's centre, in (0, 1)."""
    filled = np.flatnonzero(truth.any((1, 2)))
    if not len(filled):
        return filled, np.zeros(0)
    slices = np.arange(filled[0], filled[-1] + 1)
    return slices, (np.arange(len(slices)) + 0.5) / len(slices)


def central_and_peripheral_dice(truth: np.ndarray, prediction: np.ndarray) -> tuple[float, float]:
    """Dice over the slices of the central third, and over those of the two outer thirds together.

    NaN where no slice has its centre there (a truth of one slice has no periphery, one of two no centre).
    """
    slices, position = positions(truth)
    central = (position > 1 / 3) & (position < 2 / 3)
    inner, outer = slices[central], slices[~central]
    return dice(truth[inner], prediction[inner]), dice(truth[outer], prediction[outer])


def profile(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Dice in each of `BINS` equal parts of the truth's extent; NaN where no slice has its centre."""
    slices, position = positions(truth)
    part = np.minimum((position * BINS).astype(int), BINS - 1)
    return np.array([dice(truth[slices[part == b]], prediction[slices[part == b]]) for b in range(BINS)])
