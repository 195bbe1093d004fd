"""PETs of another scale in training: few patients do not show how faint a tumour can be.

nnU-Net's augmentation changes brightness and contrast around the mean of the normalised values, which is the
mean SUV of the tumours: it never makes a tumour faint.
"""

from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers.modality_dropout import PET

FACTORS = (0.4, 1.6)  # the least and the greatest, of the trainers named …Scale


class PETScale(BasicTransform):
    """Multiplies the SUV of a sample `(C, S, H, W)` by one factor.

    Args:
        zero: the value of an SUV of 0 after normalisation.
        factors: the least and the greatest; log-uniform between them.
    """

    def __init__(self, zero: float, factors: tuple[float, float]) -> None:
        super().__init__()
        self.zero, self.factors = zero, factors

    def apply(self, data_dict: dict[str, Any], **_: Any) -> dict[str, Any]:
        data_dict["image"] = rescaled(data_dict["image"], self.zero, drawn(self.factors))
        return data_dict


def drawn(factors: tuple[float, float]) -> float:
    """A factor between the least and the greatest, log-uniformly."""
    low, high = np.log(factors)
    return float(np.exp(low + (high - low) * float(torch.rand(()))))


def rescaled(image: torch.Tensor, zero: float, factor: torch.Tensor | float) -> torch.Tensor:
    """A copy of a sample `(C, S, H, W)` whose SUV is multiplied: by one factor, or one for each voxel."""
    image = image.clone()
    image[PET] = zero + (image[PET] - zero) * factor
    return image


def zero_suv(plans: PlansManager, configuration: ConfigurationManager) -> float:
    """The value of an SUV of 0 in the preprocessed PET.

    Raises:
        IGTVError: the PET is normalised image by image, which loses the SUV.
    """
    scheme = configuration.normalization_schemes[PET]
    if scheme == "NoNormalization":
        return 0.0
    if scheme == "CTNormalization":
        of_pet = plans.foreground_intensity_properties_per_channel[str(PET)]
        return -float(of_pet["mean"]) / max(float(of_pet["std"]), 1e-8)
    raise IGTVError(
        f"the plan normalises the PET by {scheme}, after which its SUV is not known, and the trainer "
        "changes the SUV",
        remedy='name both channels "CT" in dataset.json, as the converters do, and plan again, or train with '
        "a trainer that is not named …Scale",
    )
