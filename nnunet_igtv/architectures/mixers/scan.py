"""Scan blocks of Mamba and VMamba: `SS2D` over a map in four directions, `SS1D` over a sequence.

Gu and Dao, "Mamba", 2023 (the scan); Liu et al., "VMamba", NeurIPS 2024 (the four directions). Parameter
names and shapes are VMamba's, so its checkpoints map one to one.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnunet_igtv.architectures.mixers.base import SEQUENCE_STATES, GatedMap, GatedSequence
from nnunet_igtv.architectures.mixers.half_precision import BranchWeights, in_half_precision
from nnunet_igtv.ops import cross_scan, selective_scan

DT_MIN, DT_MAX = 1e-3, 1e-1  # range of the step size at initialisation (Mamba)


class ScanParameters(nn.Module):
    """Weights of K selective scans over d inner channels with N states, step sizes of rank R.

    Kept as VMamba names them: `x_proj_weight (K, R + 2N, d)` gives step, B and C of each position;
    `dt_projs_weight (K, d, R)` and `dt_projs_bias (K, d)` widen the step to d channels; `A_logs (K*d, N)`;
    `Ds (K*d)`.
    """

    def __init__(self, directions: int, inner: int, states: int, rank: int) -> None:
        super().__init__()
        self.directions, self.inner, self.states, self.rank = directions, inner, states, rank
        self.x_proj_weight = nn.Parameter(torch.empty(directions, rank + 2 * states, inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(directions, inner, rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(directions, inner))
        self.A_logs = nn.Parameter(torch.empty(directions * inner, states))
        self.Ds = nn.Parameter(torch.empty(directions * inner))
        self.reset_scan_parameters()

    @torch.no_grad()
    def reset_scan_parameters(self) -> None:
        """Mamba's initialisation: A = -1 … -N, D = 1, step sizes log-uniform in [DT_MIN, DT_MAX]."""
        bound = self.inner**-0.5
        self.x_proj_weight.uniform_(-bound, bound)
        self.dt_projs_weight.uniform_(-(self.rank**-0.5), self.rank**-0.5)
        log_step = torch.empty_like(self.dt_projs_bias).uniform_(math.log(DT_MIN), math.log(DT_MAX))
        step = log_step.exp()
        self.dt_projs_bias.copy_(step + torch.log(-torch.expm1(-step)))  # inverse of softplus
        self.A_logs.copy_(torch.arange(1, self.states + 1).log().expand_as(self.A_logs))
        self.Ds.fill_(1.0)


class SS2D(ScanParameters, GatedMap):
    """Four-directional selective scan of a map: (M, H, W, C) -> (M, H, W, C), d = expansion * C."""

    def __init__(self, width: int, states: int, expansion: int = 2) -> None:
        inner = expansion * width
        super().__init__(4, inner, states, math.ceil(width / 16))
        self.add_frame(width, inner)

    def forward(self, x: Tensor, norm: nn.LayerNorm | None = None) -> Tensor:
        kind = x.device.type
        if not (torch.is_autocast_enabled(kind) and torch.is_grad_enabled()):
            return super().forward(x, norm)
        with torch.autocast(kind, enabled=False):
            half = torch.get_autocast_dtype(kind)
            return in_half_precision(x, self.branch_weights(norm), half, self.out_norm.eps)

    def branch_weights(self, norm: nn.LayerNorm | None) -> BranchWeights:
        """All tensors of the block, with those of the norm before it."""
        return BranchWeights(
            norm=None if norm is None else norm.weight,
            norm_bias=None if norm is None else norm.bias,
            inward=self.in_proj.weight,
            convolution=self.conv2d.weight,
            convolution_bias=self.conv2d.bias,  # type: ignore[arg-type]  # it has one
            projection=self.x_proj_weight,
            step=self.dt_projs_weight,
            step_bias=self.dt_projs_bias,
            A_logs=self.A_logs,
            D=self.Ds,
            inner_norm=self.out_norm.weight,
            inner_norm_bias=self.out_norm.bias,
            outward=self.out_proj.weight,
        )

    def mix(self, x: Tensor) -> Tensor:
        """Sum of the four directional scans, float32: (M, H, W, d) -> (M, H, W, d)."""
        K, d, N, R = self.directions, self.inner, self.states, self.rank
        M, H, W, _ = x.shape
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.A_logs.dtype)
            projected = F.linear(x, self.x_proj_weight.flatten(0, 1)).view(M, H, W, K, R + 2 * N)
            step, B, C = projected.split((R, N, N), dim=-1)
            return cross_scan(
                x,
                step,
                -self.A_logs.exp().view(K, d, N),
                B,
                C,
                self.Ds.view(K, d),
                self.dt_projs_bias,
                delta_weight=self.dt_projs_weight,
            )


class SS1D(ScanParameters, GatedSequence):
    """Selective scan of a sequence, forward only: (M, L, C) -> (M, L, C), d = 2C."""

    def __init__(self, width: int) -> None:
        inner = 2 * width
        super().__init__(1, inner, SEQUENCE_STATES, math.ceil(width / 16))
        self.add_frame(width, inner)

    def mix(self, x: Tensor) -> Tensor:
        """The scan, float32: (M, L, d) -> (M, L, d)."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.A_logs.dtype)
            step, B, C = F.linear(x, self.x_proj_weight[0]).split(
                (self.rank, self.states, self.states), dim=-1
            )
            y = selective_scan(
                x.transpose(1, 2),  # (M, d, L)
                F.linear(step, self.dt_projs_weight[0]).transpose(1, 2),  # (M, d, L)
                -self.A_logs.exp(),  # (d, N)
                B.transpose(1, 2).unsqueeze(1),  # (M, 1, N, L)
                C.transpose(1, 2).unsqueeze(1),
                self.Ds,
                self.dt_projs_bias[0],
                delta_softplus=True,
            )
        return y.transpose(1, 2)
