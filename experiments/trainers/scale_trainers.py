"""Networks of the comparison that are shown PETs of another scale in training (scaled.yaml, neighbours.yaml).

nnUNetTrainerSeededScale              nnU-Net's own network and recipe
IGTVTrainerNanoNoSIMScale             without the slice interaction
IGTVTransferTrainerNanoNoMambaScale   convolutions in place of the scans
"""

from typing import Any

from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from experiment_trainers import nnUNetTrainerSeeded, with_budget, with_part  # of this folder

from nnunet_igtv.trainers import IGTVTrainerNanoNoSIM, IGTVTransferTrainerNanoNoMamba
from nnunet_igtv.trainers.pet_scale import FACTORS, PETScale, zero_suv
from nnunet_igtv.trainers.variants import Scale


class nnUNetTrainerSeededScale(nnUNetTrainerSeeded):  # noqa: N801  as nnU-Net writes its trainers
    def transforms(self, *of_the_patch: Any) -> tuple[Any, Any]:
        training, validation = super().transforms(*of_the_patch)
        zero = zero_suv(self.plans_manager, self.configuration_manager)
        return ComposeTransforms([PETScale(zero, FACTORS), training]), validation


globals()["nnUNetTrainerSeededScale_budget"] = with_budget(nnUNetTrainerSeededScale)
for base in (IGTVTrainerNanoNoSIM, IGTVTransferTrainerNanoNoMamba):
    globals().update(with_part(Scale, base))
