"""Convolutions in place of the scans, with as many weights: the network's twin without Mamba.

Liu et al., "A ConvNet for the 2020s" (CVPR 2022): depthwise 7x7 convolutions, then pointwise ones. Yu and
Wang, "MambaOut" (CVPR 2025): Mamba's gated block without its scan, as what a scan has to be compared with.
Frame, widths, norms and residuals are those of the scan blocks; what is compared is the scan alone.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnunet_igtv.architectures.layers import Conv2d
from nnunet_igtv.architectures.mixers.base import SEQUENCE_STATES, GatedMap, GatedSequence

KERNEL = 7


def bottleneck(directions: int, width: int, states: int, taps: int) -> int:
    """Width of the pointwise layers with which a mixer has as many weights as its scan, per inner channel.

    A scan has, in each direction, R for the step's rank twice, N for B, C and A, and two more; a convolution
    has its taps, a bias and a skip.
    """
    scan = directions * (2 * math.ceil(width / 16) + 3 * states + 2)
    return max(1, round((scan - taps - 2) / 2))


class ConvolvedMap(GatedMap):
    """Depthwise 7x7 and pointwise convolutions of a map, as large as a scan with N = `states`."""

    def __init__(self, width: int, states: int, expansion: int = 2) -> None:
        super().__init__()
        inner = expansion * width
        hidden = bottleneck(4, width, states, KERNEL * KERNEL)
        self.skip = nn.Parameter(torch.ones(inner))  # as D of the scan
        self.depthwise = Conv2d(inner, inner, KERNEL, padding=KERNEL // 2, groups=inner)
        self.reduce = nn.Linear(inner, hidden, bias=False)
        self.expand = nn.Linear(hidden, inner, bias=False)
        self.add_frame(width, inner)

    def mix(self, x: Tensor) -> Tensor:
        around = self.depthwise(x)
        return x * self.skip + around + self.expand(F.gelu(self.reduce(around)))


class ConvolvedSequence(GatedSequence):
    """Depthwise convolution of 7 and pointwise ones of a sequence, as large as the scan."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 2 * width
        hidden = bottleneck(1, width, SEQUENCE_STATES, KERNEL)
        self.skip = nn.Parameter(torch.ones(inner))
        self.depthwise = nn.Conv1d(inner, inner, KERNEL, padding=KERNEL // 2, groups=inner)
        self.reduce = nn.Linear(inner, hidden, bias=False)
        self.expand = nn.Linear(hidden, inner, bias=False)
        self.add_frame(width, inner)

    def mix(self, x: Tensor) -> Tensor:
        around = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return x * self.skip + around + self.expand(F.gelu(self.reduce(around)))
