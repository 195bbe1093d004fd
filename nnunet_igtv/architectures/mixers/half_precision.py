"""A scan block in half precision, as one differentiable function that keeps little for the way back.

    n = LayerNorm(x)                        (optional)
    u, z = W_u n, W_z n                     two linear maps, C -> d
    c = depthwise 3x3 convolution of u
    y = cross scan of silu(c), with step, B and C = linear maps of silu(c)
    output = W_o (LayerNorm(y) * silu(z))   d -> C

(Liu et al., "VMamba", NeurIPS 2024; `SS2D` without autocast computes the same.) Autograd keeps each
intermediate map for the backward pass, and under autocast some of them in two types: 58 bytes for each pixel
and channel C at d = 2C. Half precision is for GPUs and their memory. So here 10 bytes are kept: the two
normalised maps, before weight and bias, and c. The backward pass computes the norms, the activations, their
copies in float32, u, z, step, B and C once more; it repeats neither the scan nor the convolution.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnunet_igtv.ops import Problem, cross_scan_problem, scan_backward, scan_forward

aten = torch.ops.aten


class BranchWeights(NamedTuple):
    """Tensors of a scan branch: C channels, d inner ones, K = 4 directions, N states, R values per step."""

    norm: Tensor | None  # (C), its weight; None: x is normalised already
    norm_bias: Tensor | None  # (C)
    inward: Tensor  # (2d, C), of u, then of z
    convolution: Tensor  # (d, 1, 3, 3)
    convolution_bias: Tensor  # (d)
    projection: Tensor  # (K, R + 2N, d)
    step: Tensor  # (K, d, R)
    step_bias: Tensor  # (K, d)
    A_logs: Tensor  # (K*d, N)
    D: Tensor  # (K*d)
    inner_norm: Tensor  # (d)
    inner_norm_bias: Tensor  # (d)
    outward: Tensor  # (C, d)


def in_half_precision(x: Tensor, weights: BranchWeights, half: torch.dtype, eps: float) -> Tensor:
    """A scan block: (M, H, W, C) -> (M, H, W, C), outside of autocast.

    Args:
        half: the type of what it keeps and of its result. The scan and its step sizes have that of `A_logs`.
        eps: of the norms.
    """
    result: Tensor = _InHalfPrecision.apply(x, *weights, half, eps)
    return result


class _HalfWeights(NamedTuple):
    """Those of the `BranchWeights` that half precision computes with, cast once for both passes."""

    norm: Tensor | None
    norm_bias: Tensor | None
    inward: Tensor
    convolution: Tensor
    convolution_bias: Tensor
    inner_norm: Tensor
    inner_norm_bias: Tensor
    outward: Tensor


def _halved(w: BranchWeights, half: torch.dtype) -> _HalfWeights:
    tensors = [getattr(w, name) for name in _HalfWeights._fields]
    halves: list[Any] = [None if tensor is None else tensor.to(half) for tensor in tensors]
    return _HalfWeights(*halves)


class _InHalfPrecision(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, *arguments):  # type: ignore[no-untyped-def]
        *tensors, half, eps = arguments
        w = BranchWeights(*tensors)
        full = w.A_logs.dtype
        ctx.type, ctx.half, ctx.full = x.dtype, half, full

        normal, deviation = (x.to(half), None) if w.norm is None else _normalised(x.to(full), half, eps)
        h = _halved(w, half)
        u, z = _inward(_affine(normal, h.norm, h.norm_bias), h.inward)
        c = _convolved(u, h.convolution, h.convolution_bias)
        del u
        active = F.silu(c.to(full))
        y, states = scan_forward(_problem(active, _projected(active, w), w), gradients=True)
        inner, inner_deviation = _normalised(y.view(active.shape), half, eps)
        del y, active
        ctx.save_for_backward(normal, deviation, c, inner, inner_deviation, states, *h, *w)
        return F.linear(_affine(inner, h.inner_norm, h.inner_norm_bias) * F.silu(z), h.outward)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        normal, deviation, c, inner, inner_deviation, states, *tensors = ctx.saved_tensors
        h, w = _HalfWeights(*tensors[:8]), BranchWeights(*tensors[8:])
        half, full = ctx.half, ctx.full
        x = _affine(normal, h.norm, h.norm_bias)
        u, z = _inward(x, h.inward)

        # the linear map outward, the gate, the norm of the scan's result
        grad, gate, affine = grad.to(half), F.silu(z), _affine(inner, h.inner_norm, h.inner_norm_bias)
        d_outward = _weight_gradient(grad, affine * gate)
        d_gated = grad @ h.outward
        d_z = aten.silu_backward(d_gated * affine, z)
        d_affine = d_gated * gate
        del affine, z, gate, d_gated
        d_y, d_inner_norm, d_inner_norm_bias = _norm_backward(
            d_affine.to(full), inner, inner_deviation, w.inner_norm, w.inner_norm_bias
        )
        del d_affine

        # the scan and its inputs
        c = c.to(full)
        active = F.silu(c)
        problem = _problem(active, _projected(active, w), w)
        d_active, d_step, d_A, d_B, d_C, d_D, d_bias, d_widening = scan_backward(
            d_y.view(problem.x.shape), states, problem
        )
        d_A_logs = d_A.view(w.A_logs.shape) * problem.A.view(w.A_logs.shape)  # A = -exp(A_logs)
        del problem, d_y
        d_projected = torch.cat((d_step, d_B, d_C), dim=-1).flatten(0, 1).flatten(1)  # (MHW, K * (R + 2N))
        del d_step, d_B, d_C
        d_projection = _weight_gradient(d_projected, active).view(w.projection.shape)
        d_active = torch.addmm(d_active.flatten(0, -2), d_projected, w.projection.flatten(0, 1))
        del d_projected
        d_c = aten.silu_backward(d_active.view(c.shape), c).to(half)
        del d_active, active, c

        # the convolution, the linear maps inward, the first norm
        d_u, d_convolution, d_convolution_bias = _convolution_backward(d_c, u, h.convolution)
        del d_c, u
        d_inward = torch.cat((_weight_gradient(d_u, x), _weight_gradient(d_z, x)))
        to_u, to_z = h.inward.chunk(2)
        d_x = torch.addmm((d_u @ to_u).flatten(0, -2), d_z.flatten(0, -2), to_z).view(normal.shape)
        d_norm = d_norm_bias = None
        if w.norm is not None and w.norm_bias is not None:
            d_x, d_norm, d_norm_bias = _norm_backward(d_x.to(full), normal, deviation, w.norm, w.norm_bias)
        gradients = BranchWeights(
            d_norm,
            d_norm_bias,
            d_inward.to(full),
            d_convolution.to(full),
            d_convolution_bias.to(full),
            d_projection,
            d_widening,
            d_bias,
            d_A_logs,
            d_D.view(w.D.shape),
            d_inner_norm,
            d_inner_norm_bias,
            d_outward.to(full),
        )
        return d_x.to(ctx.type), *gradients, None, None


def _normalised(x: Tensor, kept: torch.dtype, eps: float) -> tuple[Tensor, Tensor]:
    """The map with mean 0 and variance 1 over its channels, and 1 / deviation (…, 1)."""
    normal, _, deviation = torch.native_layer_norm(x, x.shape[-1:], None, None, eps)
    return normal.to(kept), deviation


def _affine(normal: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """A normalised map with the norm's weight and bias."""
    if weight is None or bias is None:
        return normal
    return torch.addcmul(bias, normal, weight)


def _norm_backward(
    grad: Tensor, normal: Tensor, deviation: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of what `_normalised` was given, of weight and of bias; all in the type of `grad`."""
    zeros, ones = torch.zeros_like(deviation), torch.ones_like(deviation)
    d_x, d_weight, d_bias = aten.native_layer_norm_backward(
        grad, normal.to(grad.dtype), grad.shape[-1:], zeros, ones, weight, bias, [True, True, True]
    )
    return d_x * deviation, d_weight, d_bias


def _inward(x: Tensor, weight: Tensor) -> list[Tensor]:
    """u and z, (M, H, W, d) each; two products, so that each is contiguous."""
    return [F.linear(x, part) for part in weight.chunk(2)]


def _convolved(u: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    c = F.conv2d(u.permute(0, 3, 1, 2), weight, bias, padding=1, groups=u.shape[-1])
    return c.permute(0, 2, 3, 1).contiguous()


def _convolution_backward(grad: Tensor, u: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of u, of the weight and of the bias."""
    channels, ones = u.shape[-1], [1, 1]
    grad, u = grad.permute(0, 3, 1, 2), u.permute(0, 3, 1, 2)
    d_u, d_weight, d_bias = aten.convolution_backward(
        grad, u, weight, [channels], ones, ones, ones, False, [0, 0], channels, [True, True, True]
    )
    return d_u.permute(0, 2, 3, 1).contiguous(), d_weight, d_bias


def _projected(x: Tensor, w: BranchWeights) -> Tensor:
    """Step, B and C of each pixel and direction: (M, H, W, d) -> (M, H, W, K, R + 2N)."""
    return F.linear(x, w.projection.flatten(0, 1)).unflatten(-1, w.projection.shape[:2])


def _problem(x: Tensor, projected: Tensor, w: BranchWeights) -> Problem:
    (K, d, R), N = w.step.shape, w.A_logs.shape[1]
    step, B, C = projected.split((R, N, N), dim=-1)
    return cross_scan_problem(
        x, step, -w.A_logs.exp().view(K, d, N), B, C, w.D.view(K, d), w.step_bias, delta_weight=w.step
    )


def _weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """Of a linear map's weight (out, in), from (…, out) and (…, in)."""
    return grad.flatten(0, -2).T @ x.flatten(0, -2)
