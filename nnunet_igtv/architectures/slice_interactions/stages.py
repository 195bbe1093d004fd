"""The first form of the slice interaction: neighbouring slices inform each other at the four encoder stages.

It stays for models that were trained with it. It starts slowly: two factors of zero and a faint branch
(docs/network.md).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunet_igtv.architectures.slice_interactions.base import SliceInteraction, repeat_ends

REDUCTION = 16  # width of the channel branch's bottleneck: C / REDUCTION


class Stages(SliceInteraction):
    """One exchange on the fused maps of each stage."""

    def __init__(self, widths: Sequence[int], auxiliary_heads: bool) -> None:
        super().__init__(widths, auxiliary_heads)
        for stage, width in enumerate(widths):
            self.add_module(str(stage), StageExchange(width))  # names of the first checkpoints

    def after_fusion(self, maps: list[Tensor]) -> list[Tensor]:
        return [exchange(x) for exchange, x in zip(self.children(), maps, strict=True)]


class StageExchange(nn.Module):
    """Residual exchange between slices: (B, S, H, W, C) -> (B, S, H, W, C), any S >= 1.

    A depthwise convolution (3 slices, then 3x3 in-plane) of the normalised stack is gated per slice and
    channel (channel branch) and per slice and pixel (spatial branch), mixed pointwise and added, scaled per
    channel. The scale starts at zero: a network with a fresh module computes what it computed without it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        bottleneck = max(4, width // REDUCTION)
        self.norm = nn.LayerNorm(width)
        self.across = nn.Conv2d(width, width, (3, 1), groups=width)
        self.in_plane = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.channel_across = nn.Conv1d(width, width, 3, groups=width)
        self.channel_gate = nn.Sequential(
            nn.Linear(width, bottleneck), nn.SiLU(), nn.Linear(bottleneck, width)
        )
        self.spatial_gate = nn.Conv3d(2, 1, 3, padding=(0, 1, 1))
        self.mix = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        v = self._depthwise(self.norm(x))
        return x + self.scale * self.mix(v * self._channel_branch(v) * self._spatial_branch(v))

    def _depthwise(self, x: Tensor) -> Tensor:
        B, S, H, W, C = x.shape
        x = repeat_ends(x, 1, 1).view(B, S + 2, H * W, C).permute(0, 3, 1, 2)  # (B, C, S + 2, HW)
        x = self.across(x).permute(0, 2, 3, 1).reshape(B * S, H, W, C)
        return self.in_plane(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).reshape(B, S, H, W, C)

    def _channel_branch(self, v: Tensor) -> Tensor:
        """Gate per slice and channel: (B, S, 1, 1, C)."""
        B, S, C = v.shape[0], v.shape[1], v.shape[-1]
        descriptors = torch.stack((v.mean(dim=(2, 3)), v.amax(dim=(2, 3)))).flatten(0, 1)  # (2B, S, C)
        mixed = self.channel_across(repeat_ends(descriptors.transpose(1, 2), 2, 1))  # (2B, C, S)
        mixed = mixed.transpose(1, 2)  # (2B, S, C)
        return torch.sigmoid(self.channel_gate(mixed).view(2, B, S, 1, 1, C).sum(dim=0))

    def _spatial_branch(self, v: Tensor) -> Tensor:
        """Gate per slice and pixel: (B, S, H, W, 1)."""
        descriptors = torch.stack((v.mean(dim=-1), v.amax(dim=-1)), dim=1)  # (B, 2, S, H, W)
        return torch.sigmoid(self.spatial_gate(repeat_ends(descriptors, 2, 1))).squeeze(1).unsqueeze(-1)
