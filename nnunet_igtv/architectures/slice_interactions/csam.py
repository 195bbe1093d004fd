"""CSAM, after Hung et al., "CSAM: A 2.5D cross-slice attention module for anisotropic volumetric medical
image segmentation", WACV 2024: a comparator.

Kept from the paper: the place (the maps that the encoder passes to the decoder, at every scale), three gates
in turn, each from the maximum and the mean over all else (semantic: per channel; positional: per pixel;
slice: per slice), and the uncertainty of the slice attention, a normal distribution of low rank over the
slices, from which training draws. Different here:

- **The slice attention's layers.** The paper's are linear from S slices to S slices, for one fixed S. Here
  they are convolutions across slices with several values per slice; a slice sees two on either side in the
  first and two more in the last, so in a stack of 5 all.
- **At prediction** the distribution's mean is taken, not a draw: equal images give equal results.
- **Gates** are from 0 to 2 and start at one, where the paper's are from 0 to 1 and start near a half: a fresh
  module computes the identity. The last layer of each gate starts at zero, one zero in the way of each. In
  training the slice attention starts with a small variance: its gate is one with a deviation of 0.025.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunet_igtv.architectures.slice_interactions.base import Layer, SliceInteraction, repeat_ends

REDUCTION = 16  # width of the semantic attention's hidden layer: C / REDUCTION
HIDDEN = 16  # values per slice in the slice attention; with few, ReLU can make all of them zero
REACH = 2  # slices that its convolutions see on either side
RANK = 5  # of the covariance between slices, besides the variance of each
START_OF_LOG_VARIANCE = -6.0


class CSAM(SliceInteraction):
    """The three gates on the fused maps of each stage."""

    def __init__(self, widths: Sequence[int], auxiliary_heads: bool) -> None:
        super().__init__(widths, auxiliary_heads)
        self.gates = nn.ModuleList(
            nn.Sequential(SemanticGate(width), PositionalGate(), SliceGate()) for width in widths
        )

    def after_fusion(self, maps: list[Tensor]) -> list[Tensor]:
        return [gates(x) for gates, x in zip(self.gates, maps, strict=True)]


class SemanticGate(nn.Module):
    """Channels that matter, of the whole stack: (B, S, H, W, C) -> (B, S, H, W, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(4, width // REDUCTION)
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), _zero(nn.Linear(hidden, width)))

    def forward(self, x: Tensor) -> Tensor:
        over = (1, 2, 3)
        logits = self.layers(x.amax(dim=over)) + self.layers(x.mean(dim=over))
        return x * _gate(logits)[:, None, None, None]


class PositionalGate(nn.Module):
    """Pixels that matter, the same in all slices: (B, S, H, W, C) -> (B, S, H, W, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = _zero(nn.Conv2d(2, 1, 7, padding=3))

    def forward(self, x: Tensor) -> Tensor:
        over = (1, 4)
        logits = self.layer(torch.stack((x.amax(dim=over), x.mean(dim=over)), dim=1))  # (B, 1, H, W)
        return x * _gate(logits)[..., None]


class SliceGate(nn.Module):
    """Slices that matter: (B, S, H, W, C) -> (B, S, H, W, C); in training, by a draw."""

    def __init__(self) -> None:
        super().__init__()
        taps = 2 * REACH + 1
        self.across = nn.Sequential(nn.Conv1d(1, HIDDEN, taps), nn.ReLU(), nn.Conv1d(HIDDEN, HIDDEN, 1))
        # mean, logarithm of the variance, and factors of the covariance of each slice
        self.distribution = _zero(nn.Conv1d(HIDDEN, 2 + RANK, taps))

    def forward(self, x: Tensor) -> Tensor:
        over = (2, 3, 4)
        descriptors = torch.stack((x.amax(dim=over), x.mean(dim=over))).flatten(0, 1)[:, None]  # (2B, 1, S)
        hidden = self.across(repeat_ends(descriptors, 2, REACH)).unflatten(0, (2, -1)).sum(dim=0).relu()
        logits = self._logits(self.distribution(repeat_ends(hidden, 2, REACH)))
        return x * _gate(logits)[..., None, None, None]

    def _logits(self, distribution: Tensor) -> Tensor:
        """The mean, or a draw that passes gradients on: (B, 2 + RANK, S) -> (B, S)."""
        mean, log_variance = distribution[:, 0], START_OF_LOG_VARIANCE + distribution[:, 1]
        if not self.training:
            return mean
        factors = distribution[:, 2:]
        common = (factors * torch.randn_like(factors[..., :1])).sum(dim=1)
        return mean + common + (log_variance / 2).exp() * torch.randn_like(mean)


def _gate(logits: Tensor) -> Tensor:
    return 2 * torch.sigmoid(logits)


def _zero(layer: Layer) -> Layer:
    """The last layer of a gate: with zeros, the gate is one."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
