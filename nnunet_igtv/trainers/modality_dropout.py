"""Training without a PET: samples whose PET is absent, and samples whose PET is dropped at random.

The network recognises a constant PET channel (`architectures.absent_pet`). Augmentation would make an absent
one noisy, so it is recognised before, and made constant again after.
"""

from collections.abc import Mapping
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from nnunet_igtv.architectures.absent_pet import is_absent
from nnunet_igtv.errors import IGTVError

PET = 1  # its channel
ABSENT = 0.0  # any value will do


class OptionalPET:
    """Transforms of one sample `(C, S, H, W)`, after which a PET that was absent is constant again.

    Args:
        transforms: what is done to the sample.
        dropout: the probability with which a PET that is there is dropped.
    """

    def __init__(self, transforms: BasicTransform, dropout: float) -> None:
        self.transforms, self.dropout = transforms, dropout

    def __call__(self, **sample: Any) -> Any:
        absent = bool(is_absent(sample["image"][PET])) or float(torch.rand(())) < self.dropout
        changed = self.transforms(**sample)
        if absent:
            changed["image"][PET] = ABSENT
        return changed


def require_optional_pet(network: Mapping[str, Any], dropout: float, without_pet: int) -> None:
    """Checks that the network of a plan knows stacks without a PET, where it is to be trained on some.

    Args:
        network: the plan's `arch_kwargs`.
        dropout: how often the trainer drops a PET.
        without_pet: cases of the data set that have none.

    Raises:
        IGTVError: it does not.
    """
    if not 0 <= dropout < 1:
        raise IGTVError(f"modality_dropout is {dropout}, not a probability below 1")
    if network.get("optional_pet") or not (dropout or without_pet):
        return
    if dropout:
        raise IGTVError(
            "the trainer drops the PET, and the network that the plan names does not know stacks without one",
            remedy='add "optional_pet": true to the arch_kwargs of the plan, or take its architecture out',
        )
    raise IGTVError(
        f"{without_pet} cases of the data set have no PET, and the trainer's network does not know that",
        remedy="train with a trainer named …ModalityDropout, or convert the data without these cases",
    )
