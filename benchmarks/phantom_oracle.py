"""What are neighbouring slices worth on the phantom? Asked of an oracle, before any network is trained.

Gradient-boosted trees judge each pixel near the tumour by local features of CT and PET: once of its own slice
alone, once with two slices on either side. They read the files that `nnunet-igtv phantom` writes. The gain is
the Dice with neighbours minus the Dice without, on the same patients; its standard error is over patients.

    pip install scikit-learn
    python benchmarks/phantom_oracle.py --satellites 0 3 --cohorts 3

Judged are pixels within 40 mm of the tumour's centre in the slice, and slices to 14 mm above and below the
structure; the trees do not know where in that region they are.
"""

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import record
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from sklearn.ensemble import HistGradientBoostingClassifier
from tqdm import tqdm

from nnunet_igtv import read_ct, read_pet, read_structure
from nnunet_igtv.dataset_conversion.resampling import onto
from nnunet_igtv.evaluation.by_position import central_and_peripheral_dice, dice
from nnunet_igtv.phantom.cohort import write_cohort

NEAR, BEYOND = 40.0, 14.0  # mm
SCALES = 4.0, 8.0, 14.0  # mm, sigma of the smoothing within the slice
REACH = 2  # neighbours on either side


class Judged:
    """The pixels of a patient that are judged, and their features."""

    def __init__(self, study: Path) -> None:
        ct = read_ct(study / "CT")
        pet = onto(read_pet(study / "PET"), ct)
        truth = sitk.GetArrayFromImage(read_structure(study / "RTSTRUCT" / "RTSTRUCT.dcm", ".*", ct)) > 0
        pixel, _, step = ct.GetSpacing()
        slices, rows, columns = np.nonzero(truth)
        middle = int(rows.mean()), int(columns.mean())
        half = int(NEAR / pixel) + 1
        window = (slice(None), *(slice(max(0, m - half), m + half + 1) for m in middle))
        y, x = np.ogrid[: truth.shape[1], : truth.shape[2]]
        near = np.hypot(y - rows.mean(), x - columns.mean()) * pixel < NEAR
        k = np.arange(len(truth)) * step
        tall = (k > k[slices.min()] - BEYOND) & (k < k[slices.max()] + BEYOND)
        self.truth = truth[window]
        self.where = (near[None] & tall[:, None, None])[window]
        self.images = [features(sitk.GetArrayFromImage(image), pixel)[window] for image in (ct, pet)]

    def table(self, reach: int) -> np.ndarray:
        """(pixels, features) of the slice and `reach` neighbours on either side."""
        k, y, x = np.nonzero(self.where)
        around = [np.clip(k + offset, 0, len(self.truth) - 1) for offset in range(-reach, reach + 1)]
        return np.concatenate([image[z, y, x] for image in self.images for z in around], 1)


def features(volume: np.ndarray, pixel: float) -> np.ndarray:
    """(S, H, W, 7): the value, and the smoothed value and its gradient at each scale, all in the slice."""
    parts = [volume]
    for scale in SCALES:
        smooth = gaussian_filter(volume, (0, scale / pixel, scale / pixel))
        parts += [smooth, np.hypot(*np.gradient(smooth, axis=(1, 2)))]
    return np.stack(parts, -1).astype(np.float32)


def scores(train: list[Judged], test: list[Judged], reach: int, pixels: int) -> np.ndarray:
    """(patients, 2): Dice, and Dice in the outer thirds, of masks cut where training's Dice is best."""
    rng = np.random.default_rng(0)
    tables, labels = [], []
    for patient in train:
        truth = patient.truth[patient.where]
        kept = rng.permutation(truth.size)[:pixels]
        tables.append(patient.table(reach)[kept])
        labels.append(truth[kept])
    x, y = np.concatenate(tables), np.concatenate(labels)
    options = {"max_iter": 200, "min_samples_leaf": 40, "l2_regularization": 1.0, "early_stopping": False}
    trees = HistGradientBoostingClassifier(**options, random_state=0).fit(x, y)
    certain = trees.predict_proba(x)[:, 1]
    order = np.argsort(-certain)
    best = np.argmax(2 * np.cumsum(y[order]) / (np.arange(1, len(y) + 1) + y.sum()))
    result = []
    for patient in test:
        found = np.zeros(patient.where.shape, bool)
        found[patient.where] = trees.predict_proba(patient.table(reach))[:, 1] >= certain[order[best]]
        outer = central_and_peripheral_dice(patient.truth, found)[1]
        result.append((dice(patient.truth, found), outer))
    return np.array(result)


def cohort(seed: int, patients: int, satellites: int, matrix: int, slices: int) -> list[Judged]:
    with tempfile.TemporaryDirectory() as folder:
        studies = write_cohort("igtv", patients, seed, matrix, slices, folder, satellites=satellites)
        return [
            Judged(study) for study in tqdm(studies, total=patients, desc=f"{satellites} satellites, {seed}")
        ]


def gains(seed: int, a: argparse.Namespace, satellites: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a cohort's test patients: of the slice alone, and with its neighbours."""
    seen = cohort(seed, a.test + a.train, satellites, a.matrix, a.slices)
    alone, together = (scores(seen[a.test :], seen[: a.test], reach, a.pixels) for reach in (0, REACH))
    return alone, together


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--satellites", type=int, nargs="+", default=[0, 3])
    parser.add_argument("--cohorts", type=int, default=3, help="each with patients and trees of its own")
    parser.add_argument("--jobs", type=int, default=1, help="cohorts at the same time, a process for each")
    parser.add_argument("--train", type=int, default=48)
    parser.add_argument("--test", type=int, default=48)
    parser.add_argument("--matrix", type=int, default=192)
    parser.add_argument("--slices", type=int, default=24)
    parser.add_argument("--pixels", type=int, default=4000, help="at most, of each training patient")
    a = parser.parse_args()
    rows = []
    for satellites in a.satellites:
        with ProcessPoolExecutor(a.jobs) as pool:
            found = pool.map(partial(gains, a=a, satellites=satellites), range(a.cohorts))
            alone, together = map(np.concatenate, zip(*found, strict=True))
        gain = together - alone
        error = gain.std(0, ddof=1) / len(gain) ** 0.5
        rows.append(
            {
                "satellites": satellites,
                "pixel_mm": 384 / a.matrix,
                "slice_mm": 108 / a.slices,
                "training_patients": a.train,
                "test_patients": len(gain),
                "dice_alone": round(alone[:, 0].mean(), 3),
                "dice_with_neighbours": round(together[:, 0].mean(), 3),
                "outer_thirds_alone": round(alone[:, 1].mean(), 3),
                "outer_thirds_with_neighbours": round(together[:, 1].mean(), 3),
                "gain_outer_thirds": round(gain[:, 1].mean(), 3),
                "its_standard_error": round(error[1], 3),
                "by_cohort": " ".join(f"{g[:, 1].mean():.3f}" for g in np.split(gain, a.cohorts)),
            }
        )
        record.write("phantom-oracle", rows, "cpu")


if __name__ == "__main__":
    main()
