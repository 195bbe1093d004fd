"""What all mixers have around that which mixes: projections, gate and norm, as in Mamba and VMamba.

A mixer adds its own weights, then these (`add_frame`), and defines `mix`. Optimisers' states in checkpoints
rely on the order in which weights are added.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nnunet_igtv.architectures.layers import Conv2d

SEQUENCE_STATES = 16  # N of the scan of a sequence; its twins are as large


class GatedMap(nn.Module):
    """Mixes the positions of a map: (M, H, W, C) -> (M, H, W, C), inside with d channels."""

    def add_frame(self, width: int, inner: int) -> None:
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv2d = Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, norm: nn.LayerNorm | None = None) -> Tensor:
        """`norm`: applied to x first, over its channels."""
        x = x if norm is None else norm(x)
        to_x, to_z = self.in_proj.weight.chunk(2)
        z = F.linear(x, to_z)  # (M, H, W, d)
        x = F.silu(self.conv2d(F.linear(x, to_x)))  # (M, H, W, d)
        y = self.mix(x)
        # y may exceed the range of half precision: what may do so is float32 until the norm has bounded it
        return self.out_proj(self.out_norm(y) * F.silu(z))

    def mix(self, x: Tensor) -> Tensor:
        """(M, H, W, d) -> (M, H, W, d)."""
        raise NotImplementedError


class GatedSequence(nn.Module):
    """Mixes the positions of a sequence: (M, L, C) -> (M, L, C), inside with d channels.

    As in the reference's rectification: no convolution before, and the gate is activated together with the
    input.
    """

    def add_frame(self, width: int, inner: int) -> None:
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x, z = F.silu(self.in_proj(x)).chunk(2, dim=-1)  # (M, L, d) each
        return self.out_proj(self.out_norm(self.mix(x)) * z)

    def mix(self, x: Tensor) -> Tensor:
        """(M, L, d) -> (M, L, d)."""
        raise NotImplementedError
