"""What no CT and no PET of a patient looks like, by their voxels, whatever file they came from.

A wrong unit of the dose, a lost rescale or a wrong weight is a factor, and shows in the values. Remarks say
so and change nothing; values far beyond any SUV are refused.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nnunet_igtv.dicom.pixels import HIGHEST_HU, OUTSIDE
from nnunet_igtv.errors import IGTVError

AIR_HU = -300.0  # air and lung are below; around every patient, and in every chest
OFF_HU = 200.0  # by which the air of a slice may differ from that of the others
AIR = 1.0  # percentile of the voxels that is air at the least
TISSUE_HU, TISSUE = -200.0, 99.0  # fat and all other soft tissue is above; percentile that is tissue at least
HIGHEST_SUV = 500.0  # urine of FDG, and kidneys of PSMA ligands, reach 200
LOWEST_SUV, TOO_LOW = -50.0, 1.0  # noise about zero is above; percentile of the voxels, as for the highest
BODY_SUV = (0.15, 7.0)  # median of the body; that of a whole body is near 1 by the definition of the SUV
TOO_HIGH = 99.9  # percentile of the voxels; where it is beyond the highest SUV, the values are none
CHECK = "check dose, weight and units"
BODY = 0.1  # share of the 98th percentile, beyond which a voxel counts as body


def remarks_on_ct(voxels: np.ndarray) -> list[str]:
    """Remarks on a CT in HU, an array of any shape; none if it can be one.

    What lies outside of the reconstruction is no air of the scan: it was given its value in reading, whatever
    the rescale is. So it does not count.
    """
    lowest, highest = float(voxels.min()), float(voxels.max())
    if lowest == highest:
        return [f"the CT is constant ({lowest:g} HU)"]
    if max(-lowest, highest) > HIGHEST_HU:
        return [f"the CT has values from {lowest:g} to {highest:g} HU, beyond +-{HIGHEST_HU:g}"]
    sample = _sample(voxels)
    inside = sample[sample > OUTSIDE["CT"]]
    low, high = np.percentile(inside, (AIR, TISSUE)) if inside.size else (lowest, lowest)
    if low > AIR_HU:
        return [f"the CT has no air (percentile {AIR:g} is {low:.4g} HU): check the rescale intercept"]
    if high < TISSUE_HU:
        return [
            f"the CT has no soft tissue (percentile {TISSUE:g} is {high:.4g} HU): check the rescale intercept"
        ]
    return []


def remarks_on_rescale(voxels: np.ndarray, rescales: Sequence[tuple[float, ...]]) -> list[str]:
    """A remark on slices of a CT in HU (slices, rows, columns) that a rescale of their own sets apart.

    Scanners may give slices rescales of their own, to the same scale: then the air around the patient is the
    same. One that was lost or mixed up moves it, or leaves nothing but air.
    """
    usual = Counter(rescales).most_common(1)[0][0]
    others = [k for k, rescale in enumerate(rescales) if rescale != usual]
    if not others:
        return []
    air = float(
        np.median([np.percentile(v, AIR) for v, r in zip(voxels, rescales, strict=True) if r == usual])
    )
    odd = [k for k in others if abs(np.percentile(voxels[k], AIR) - air) > OFF_HU or np.ptp(voxels[k]) == 0]
    if not odd:
        return []
    return [f"the rescale of {len(odd)} slice(s) of the CT is another one, and so are their values: check it"]


def remarks_on_pet(voxels: np.ndarray) -> list[str]:
    """Remarks on a PET in SUVbw, an array of any shape; none if it can be one."""
    highest = float(voxels.max())
    if highest <= 0:
        return ["the PET is zero everywhere" if highest == voxels.min() else "the PET has no positive value"]
    if highest == voxels.min():
        return [f"the PET is constant (SUV {highest:g})"]
    remarks = []
    if highest > HIGHEST_SUV:
        remarks.append(f"the PET has SUVs up to {highest:.4g}: {CHECK}")
    body = body_suv(voxels)
    if not BODY_SUV[0] <= body <= BODY_SUV[1]:
        remarks.append(
            f"the median SUV of the body in the PET is {body:.3g}, where about 1 is usual: {CHECK}"
        )
    return remarks


def refuse_no_suv(voxels: np.ndarray, file: str | Path | None = None) -> None:
    """Raise IGTVError for values that are not SUVs, such as activity in Bq/ml, or HU."""
    lowest = float(np.percentile(_sample(voxels), TOO_LOW))
    if lowest < LOWEST_SUV:
        raise IGTVError(
            f"the PET values are too low for SUV (percentile {TOO_LOW:g} is {lowest:.4g}; is it the CT?)",
            file=file,
            remedy="give the PET in SUVbw as PET, the CT as CT",
        )
    value = float(np.percentile(_sample(voxels), TOO_HIGH))
    if value > HIGHEST_SUV:
        raise IGTVError(
            f"the PET values are too high for SUV (percentile {TOO_HIGH:g} is {value:.4g})",
            file=file,
            remedy=f"convert them to SUVbw first; of DICOM, {CHECK}",
        )


def remarks_on_structure(mask: np.ndarray) -> list[str]:
    """Remarks on the mask (slices, rows, columns) of a structure; none if it can be one."""
    whole = int((mask != 0).all(axis=(1, 2)).sum())
    return [f"the structure fills {whole} whole slice(s) of the image"] if whole else []


def body_suv(voxels: np.ndarray) -> float:
    """The median SUV of what is not air, found by the values alone (a threshold relative to the highest)."""
    sample = _sample(voxels)
    threshold = BODY * float(np.percentile(sample, 98))
    inside = sample[sample > max(threshold, 0.0)]
    return float(np.median(inside)) if inside.size else float(sample.max())


def _sample(voxels: np.ndarray) -> np.ndarray:
    """About a million of the voxels."""
    return voxels.ravel()[:: max(1, voxels.size // 1_000_000)]
