"""Tumours of another uptake in training: few patients do not show how faint a tumour can be.

nnU-Net's augmentation changes brightness and contrast around the mean of the normalised values, which is the
mean SUV of the tumours: it never makes a tumour faint.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers.modality_dropout import PET

BORDER, PASSES = 5, 3  # pixels of the averages that make the border smooth


class TumourUptake(BasicTransform):
    """Multiplies the SUV inside the contour of a sample `(C, S, H, W)`, with a smooth border in the plane.

    Args:
        zero: the value of an SUV of 0 after normalisation.
        factors: the least and the greatest; log-uniform between them, one for all slices of a sample.
        labels: of the tumour.
    """

    def __init__(self, zero: float, factors: tuple[float, float], labels: Collection[int]) -> None:
        super().__init__()
        self.zero, self.factors, self.labels = zero, factors, torch.tensor(sorted(labels))

    def apply(self, data_dict: dict[str, Any], **_: Any) -> dict[str, Any]:
        segmentation = data_dict["segmentation"]
        inside = torch.isin(segmentation, self.labels.to(segmentation.dtype)).float()
        for _pass in range(PASSES):
            inside = F.avg_pool2d(inside, BORDER, stride=1, padding=BORDER // 2)
        data_dict["image"] = with_another_suv(data_dict["image"], self.zero, self.factors, inside[0])
        return data_dict


def with_another_suv(
    image: torch.Tensor, zero: float, factors: tuple[float, float], where: torch.Tensor | float
) -> torch.Tensor:
    """A copy of a sample `(C, S, H, W)` with the SUV multiplied by one factor, drawn log-uniformly.

    Args:
        zero: the value of an SUV of 0 after normalisation.
        factors: the least and the greatest.
        where: 1 for the whole factor, 0 for none: for each voxel `(S, H, W)`, or for all.
    """
    low, high = np.log(factors)
    factor = float(np.exp(low + (high - low) * float(torch.rand(()))))
    image = image.clone()
    image[PET] = zero + (image[PET] - zero) * (1 + (factor - 1) * where)
    return image


def zero_suv(schemes: Sequence[str], properties: Mapping[str, Mapping[str, float]]) -> float:
    """The value of an SUV of 0 in the preprocessed PET.

    Args:
        schemes: the plan's `normalization_schemes`, by channel.
        properties: the plan's `foreground_intensity_properties_per_channel`.

    Raises:
        IGTVError: the PET is normalised image by image, which loses the SUV.
    """
    if schemes[PET] == "NoNormalization":
        return 0.0
    if schemes[PET] == "CTNormalization":
        of_pet = properties[str(PET)]
        return -of_pet["mean"] / max(of_pet["std"], 1e-8)
    raise IGTVError(
        f"the plan normalises the PET by {schemes[PET]}, after which its SUV is not known, and the trainer "
        "changes the SUV",
        remedy='name both channels "CT" in dataset.json, as the converters do, and plan again, or train with '
        "a trainer that is not named …Uptake",
    )
