"""The inputs of the scan, in the layout that all backends share.

Channels are last. Pixels are in row order. Each of K directions visits the P = height * width pixels of a map
in its own order and with its own parameters (Gu & Dao 2023, arXiv 2312.00752):

    delta = softplus(delta + delta_bias)
    h_t = exp(delta_t A) h_{t-1} + delta_t B_t x_t,  h_0 = 0;   y_t = C_t h_t + D x_t
"""

from typing import NamedTuple

from torch import Tensor

# of a problem's first seven tensors
Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class Problem(NamedTuple):
    """What a backend computes.

    In a cross scan x is `(B, P, 1, d)`: four directions read the same map, and y, of the same shape, is the
    sum over directions. Otherwise x is `(B, P, K, d)`: K independent sequences, all in pixel order.
    """

    x: Tensor
    delta: Tensor  # (B, P, K, d), or (B, P, K, R) where delta_weight is given
    A: Tensor  # (K, d, N)
    B: Tensor  # (B, P, K, N)
    C: Tensor  # (B, P, K, N)
    D: Tensor  # (K, d)
    delta_bias: Tensor  # (K, d)
    map_width: int
    delta_softplus: bool
    delta_weight: Tensor | None = None  # (K, d, R): projects delta from R values a pixel to d

    @property
    def is_cross_scan(self) -> bool:
        """Whether four directions visit one map."""
        return self.x.shape[2] != self.delta.shape[2]
