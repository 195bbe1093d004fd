"""The arguments of the scan, in the layout in which every direction reads the same memory.

Channels come last, pixels in pixel order: `K` directions walk the P = height * width pixels of a map, each
with its own parameters,

    delta = softplus(delta + delta_bias)
    h_t = exp(delta_t A) h_{t-1} + delta_t B_t x_t,  h_0 = 0;   y_t = C_t h_t + D x_t      (Gu & Dao 2023)
"""

from typing import NamedTuple

from torch import Tensor

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]  # of a problem's first seven


class Problem(NamedTuple):
    """What every backend computes.

    x is `(B, P, 1, d)` for the cross scan (all directions read it; y, of the same shape, is their sum), or
    `(B, P, K, d)` for K sequences of their own.
    """

    x: Tensor
    delta: Tensor  # (B, P, K, d), or (B, P, K, R) where delta_weight widens it
    A: Tensor  # (K, d, N)
    B: Tensor  # (B, P, K, N)
    C: Tensor  # (B, P, K, N)
    D: Tensor  # (K, d)
    delta_bias: Tensor  # (K, d)
    width: int  # of the map
    delta_softplus: bool
    delta_weight: Tensor | None = None  # (K, d, R)

    @property
    def crossed(self) -> bool:
        """Whether four directions walk one map."""
        return self.x.shape[2] != self.delta.shape[2]
