"""Whether a stack has a PET: what the network sees of a channel that stands for an absent one."""

import torch
from torch import Tensor

TOLERANCE = 1e-3  # of normalised values, whose unit is a standard deviation; resampling rounds


def is_absent(pet: Tensor) -> Tensor:
    """Whether PET channels hold one value only: (..., S, H, W) -> (...) of bool.

    A channel without a PET is constant: 0 SUV in the raw data, some other number after nnU-Net's
    normalisation, which depends on the data set. So the value says nothing; that there is only one does.
    Zeros do not count, as nnU-Net pads with them. A measured PET is constant outside of its field of view,
    and where nothing of the stack exceeds the value that nnU-Net clips at: there it says nothing either.
    """
    values = pet.flatten(-3)
    padding = values == 0
    high = values.masked_fill(padding, -torch.inf).amax(-1)
    low = values.masked_fill(padding, torch.inf).amin(-1)
    return high - low <= TOLERANCE * (1 + low.abs())
