"""Whether the probabilities that nnU-Net wrote mean what they say.

`nnUNetv2_predict --save_probabilities` writes CASE.npz next to the mask: an array "probabilities" of
(classes, slices, rows, columns), in the order of axes that SimpleITK's arrays have. Classes sum to 1,
background first; datasets with regions have one probability per region and no background.

Far from the target nearly every voxel is background with probability 0, which would make anything look well
calibrated. So only voxels count that are in truth or prediction, or at most `MARGIN` mm away from them.
"""

import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from nnunet_igtv.errors import IGTVError, blamed
from nnunet_igtv.evaluation.boxes import box_of, voxels
from nnunet_igtv.evaluation.surfaces import ROUNDING
from nnunet_igtv.grids import Grid

BINS = 10
MARGIN = 10.0  # mm
_ROUNDING = 1e-2  # probabilities may have been stored in half precision


@dataclass
class Reliability:
    """Probabilities against truth, of all voxels of all cases together.

    `count`, `predicted` and `true` are per bin of the probability: the voxels, the sum of their
    probabilities, and how many of them are in the truth.
    """

    count: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    predicted: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    true: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    squares: float = 0.0
    masks: int = 0

    def add(self, probability: np.ndarray, truth: np.ndarray) -> None:
        """Count voxels: probability in [0, 1] and truth, of one shape."""
        bins = np.minimum((probability * BINS).astype(int), BINS - 1).ravel()
        self.count += np.bincount(bins, minlength=BINS)
        self.predicted += np.bincount(bins, probability.ravel(), BINS)
        self.true += np.bincount(bins, truth.ravel().astype(float), BINS)
        self.squares += float(((probability - truth) ** 2).sum())
        self.masks += 1

    @property
    def mean_probability(self) -> list[float]:
        """Per bin; NaN of an empty one."""
        return [p / n if n else float("nan") for p, n in zip(self.predicted, self.count, strict=True)]

    @property
    def part_in_truth(self) -> list[float]:
        """Per bin; NaN of an empty one."""
        return [t / n if n else float("nan") for t, n in zip(self.true, self.count, strict=True)]

    @property
    def error(self) -> float:
        """Expected calibration error: mean of |mean probability - part in the truth| over bins by voxels."""
        return float(np.abs(self.predicted - self.true).sum() / self.count.sum())

    @property
    def brier(self) -> float:
        """Mean squared difference of probability and truth."""
        return self.squares / float(self.count.sum())


def read_probability(mask: Path, case: str, grid: Grid) -> tuple[np.ndarray, np.ndarray] | None:
    """What nnU-Net wrote next to a mask on some grid; None where it wrote nothing.

    Returns:
        Probability of the structure and the mask that follows from it, (S, H, W) each.

    Raises:
        IGTVError: the file cannot be read, is no such file, or has another grid than the mask.
    """
    file = mask.with_name(f"{case}.npz")
    if not file.is_file():
        return None
    remedy, shape = "predict this case again, or remove the file", grid.size[::-1]
    try:
        with np.load(file, allow_pickle=False) as content:
            classes = content["probabilities"].astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        damaged = IGTVError("the probabilities cannot be read", case=case, file=file, remedy=remedy)
        raise blamed(error, damaged) from error
    if classes.ndim != 4 or classes.shape[1:] != shape:
        raise IGTVError(
            f"the probabilities have the shape {classes.shape} instead of classes and {shape}",
            case=case,
            file=file,
            remedy=remedy,
        )
    if not np.isfinite(classes).all() or classes.min() < -_ROUNDING or classes.max() > 1 + _ROUNDING:
        raise IGTVError("the probabilities are not between 0 and 1", case=case, file=file, remedy=remedy)
    if len(classes) > 1 and np.abs(classes.sum(0) - 1).max() < _ROUNDING:
        return np.clip(1 - classes[0], 0, 1), classes.argmax(0) != 0
    return np.clip(classes.max(0), 0, 1), classes.max(0) > 0.5


def same_mask(own: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a mask is the one of its probabilities, up to rounding: not so one that was edited."""
    return bool((own != mask).sum() <= _ROUNDING * mask.sum())


def counted(
    truth: np.ndarray, prediction: np.ndarray, counts: np.ndarray, spacing: tuple[float, ...]
) -> np.ndarray:
    """The voxels at most `MARGIN` mm from truth or prediction that count, bool (S, H, W)."""
    either = truth | prediction
    box = box_of(either, voxels(MARGIN, spacing))
    near = np.zeros(truth.shape, bool)
    if either.any():
        near[box] = ndimage.distance_transform_edt(~either[box], sampling=spacing) <= MARGIN + ROUNDING
    return near & counts
