"""What all slice interactions share: the two places in the network at which slices may see each other."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class SliceInteraction(nn.Module):
    """The interaction that does nothing, each slice by itself; others replace one of its two methods.

    Args:
        widths: channels of the four stages.
        auxiliary_heads: whether the network has heads for deep supervision.
    """

    def __init__(self, widths: Sequence[int], auxiliary_heads: bool) -> None:
        super().__init__()

    def after_fusion(self, maps: list[Tensor]) -> list[Tensor]:
        """The fused maps of the four stages, finest first: (B, S, H, W, C) each."""
        return maps

    def before_heads(self, features: list[Tensor]) -> list[Tensor]:
        """The decoder's last features for each head that is asked, finest first: (B, S, H, W, C) each."""
        return features


def repeat_ends(x: Tensor, dim: int, count: int) -> Tensor:
    """`count` more slices at each end of the stack, copies of the first and the last slice."""
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
    sizes = [count if d == dim % x.ndim else -1 for d in range(x.ndim)]
    return torch.cat((first.expand(sizes), x, last.expand(sizes)), dim=dim)


def unit_variance(layer: Layer, deviation: float = 1.0) -> Layer:
    """The layer with weights that give sums over independent inputs of unit variance this deviation."""
    nn.init.normal_(layer.weight, std=deviation * layer.weight[0].numel() ** -0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
