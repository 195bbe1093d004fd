"""The published order: features, then slice interaction, then the segmentation head.

The paper's framework is "pre-trained network extracts features, slice interaction enhances them, segmentation
head". So the network up to here is the pre-trained one, unchanged, and no new module lies between its parts.
The paper gives one sentence about the module: it "integrates channel and spatial attention branches with
depthwise convolutions". This is our reading of it; docs/network.md explains the choices.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunet_igtv.architectures.slice_interactions.base import SliceInteraction, repeat_ends, unit_variance

REACH = 2  # slices that a slice sees on either side: with 5 slices the middle one sees all
REDUCTION = 16  # width of the channel branch's bottleneck: 2C / REDUCTION
GATE_SPREAD = 0.1  # of the gates' last layers at the start


class BeforeHead(SliceInteraction):
    """One exchange on the features of each head."""

    def __init__(self, widths: Sequence[int], auxiliary_heads: bool) -> None:
        super().__init__(widths, auxiliary_heads)
        self.main = SliceExchange(widths[0])
        # nnU-Net's loader of pretrained weights leaves keys with this name alone. So weights of a network
        # without auxiliary heads can start one that has them: its heads are new, with what belongs to them
        self.seg_layers = nn.ModuleList(
            SliceExchange(width) for width in (widths[:3] if auxiliary_heads else ())
        )

    def before_heads(self, features: list[Tensor]) -> list[Tensor]:
        exchanges = [self.main, *self.seg_layers][: len(features)]
        return [exchange(x) for exchange, x in zip(exchanges, features, strict=True)]


class SliceExchange(nn.Module):
    """Residual exchange between slices: (B, S, H, W, C) -> (B, S, H, W, C), any S >= 1.

    The branch keeps unit variance from layer to layer at the start, and its gates start near one. Its last
    layer starts at zero: a network with a fresh exchange computes what it computed without, and the first
    step of the training already makes use of the whole branch. Faint branches, and two zeros in a row, start
    so slowly that the neighbours are never used.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner, taps = 2 * width, 2 * REACH + 1
        bottleneck = max(4, inner // REDUCTION)
        self.norm = nn.LayerNorm(width)
        # two values per channel: what is above and what is below stay apart
        self.across = nn.ModuleList(_from_one_side(width, before) for before in (True, False))
        self.in_plane = unit_variance(nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False))
        self.channel_across = unit_variance(nn.Conv1d(inner, inner, taps, groups=inner))
        self.channel_gate = nn.Sequential(
            unit_variance(nn.Linear(inner, bottleneck)),
            nn.SiLU(),
            unit_variance(nn.Linear(bottleneck, inner), GATE_SPREAD),
        )
        self.spatial_gate = unit_variance(nn.Conv3d(2, 1, (taps, 3, 3), padding=(0, 1, 1)), GATE_SPREAD)
        self.mix = nn.Linear(inner, width)
        nn.init.zeros_(self.mix.weight)  # the only zero: see above
        nn.init.zeros_(self.mix.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(self.branch(x))

    def branch(self, x: Tensor) -> Tensor:
        """What a slice gets from its stack, two values per channel: (B, S, H, W, C) -> (B, S, H, W, 2C)."""
        v = self._depthwise(self.norm(x))
        return v * self._channel_gates(v) * self._spatial_gates(v)

    def _depthwise(self, x: Tensor) -> Tensor:
        """Across the slices, then in-plane: (B, S, H, W, C) -> (B, S, H, W, 2C)."""
        B, S, H, W, C = x.shape
        # (B, C, S + 2 * REACH, HW)
        stack = repeat_ends(x, 1, REACH).reshape(B, S + 2 * REACH, H * W, C).permute(0, 3, 1, 2)
        v = torch.cat([convolution(stack) for convolution in self.across], dim=1)  # (B, 2C, S, HW)
        v = v.permute(0, 2, 1, 3).reshape(B * S, 2 * C, H, W)
        return self.in_plane(v).permute(0, 2, 3, 1).reshape(B, S, H, W, 2 * C)

    def _channel_gates(self, v: Tensor) -> Tensor:
        """One per slice and channel, 0 to 2: (B, S, 1, 1, 2C)."""
        B, S, C = v.shape[0], v.shape[1], v.shape[-1]
        descriptors = torch.stack((v.mean(dim=(2, 3)), v.amax(dim=(2, 3)))).flatten(0, 1)  # (2B, S, 2C)
        mixed = self.channel_across(repeat_ends(descriptors, 1, REACH).transpose(1, 2)).transpose(1, 2)
        return 2 * torch.sigmoid(self.channel_gate(mixed).view(2, B, S, 1, 1, C).sum(dim=0))

    def _spatial_gates(self, v: Tensor) -> Tensor:
        """One per slice and pixel, 0 to 2: (B, S, H, W, 1)."""
        descriptors = torch.stack((v.mean(dim=-1), v.amax(dim=-1)), dim=1)  # (B, 2, S, H, W)
        return 2 * torch.sigmoid(self.spatial_gate(repeat_ends(descriptors, 2, REACH))).squeeze(1)[..., None]


def _from_one_side(width: int, before: bool) -> nn.Conv2d:
    """Depthwise convolution across slices that starts with the slices before, or with those after."""
    layer = nn.Conv2d(width, width, (2 * REACH + 1, 1), groups=width, bias=False)
    nn.init.normal_(layer.weight, std=REACH**-0.5)
    with torch.no_grad():
        layer.weight[:, :, REACH:] = 0.0
        layer.weight.copy_(layer.weight if before else layer.weight.flip(2))
    return layer
