"""The consensus of several observers by STAPLE.

Warfield, Zou and Wells: Simultaneous truth and performance level estimation (STAPLE), IEEE Trans Med Imaging
23 (2004) 903. The result depends on how much background is seen, so it is computed in the box of all
contours and a margin of `MARGIN` voxels, which makes it independent of the size of the image.
"""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.evaluation.boxes import box_of

MARGIN = 5


def consensus(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Voxels that are more likely than not in the structure, by STAPLE.

    Where nothing can be estimated, it is the voxels that more than half of them drew: where all observers
    agree, where no voxel is in two masks, and where the estimate is against all of them, as it may be where
    they hardly overlap (it is empty, leaves out what all drew, or takes what nobody drew).

    Args:
        masks: bool (S, H, W), one per observer.

    Returns:
        bool (S, H, W).
    """
    votes = np.stack(masks).sum(0, dtype=np.uint8)
    majority = np.asarray(votes > len(masks) / 2)
    if votes.max() < 2 or not ((votes > 0) & (votes < len(masks))).any():
        return majority
    box = box_of(np.asarray(votes > 0), (MARGIN,) * 3)
    images = [sitk.GetImageFromArray(mask[box].astype(np.uint8)) for mask in masks]
    result = np.zeros(votes.shape, bool)
    result[box] = sitk.GetArrayFromImage(sitk.STAPLE(images, 1.0)) > 0.5
    against_all = (~result & (votes == len(masks))) | (result & (votes == 0))
    return majority if against_all.any() or not result.any() else result
