"""The scan as a torch operator, and the two functions that the networks call.

A network makes delta from few numbers a pixel: given a delta_weight, the forward pass need not write the
largest of all tensors (the CPU's kernel never does) and autograd need not keep it.
"""

import torch
from torch import Tensor

from . import dispatch
from .problem import Gradients, Problem


@torch.library.custom_op("nnunet_igtv::scan", mutates_args=())
def _scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    delta_weight: Tensor | None,
    width: int,
    delta_softplus: bool,
    backend: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """y, and what the backend keeps for its backward pass: nothing, unless it does so and `keep` is set."""
    chosen = dispatch.choose(x.device, x.dtype, backend, backwards=keep)
    if delta_weight is not None and not chosen.widens:
        delta, delta_weight = _widened(delta, delta_weight), None
    problem = Problem(x, delta, A, B, C, D, delta_bias, width, delta_softplus, delta_weight)
    y, states = chosen.forward(problem, keep)
    return y.contiguous(), x.new_empty(0) if states is None else states


def _widened(delta: Tensor, weight: Tensor) -> Tensor:
    """(B, P, K, R) and (K, d, R) to (B, P, K, d), by one matrix product per direction."""
    weight = weight.to(torch.promote_types(weight.dtype, delta.dtype))
    products = torch.bmm(delta.to(weight.dtype).flatten(0, 1).transpose(0, 1), weight.transpose(1, 2))
    return products.transpose(0, 1).unflatten(0, delta.shape[:2])


@_scan.register_fake
def _(x, delta, A, B, C, D, delta_bias, delta_weight, width, delta_softplus, backend, keep):  # type: ignore[no-untyped-def]
    return torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(0)


@torch.library.custom_op("nnunet_igtv::scan_backward", mutates_args=())
def _scan_backward(
    grad: Tensor,
    states: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    width: int,
    delta_softplus: bool,
    backend: str,
) -> Gradients:
    backward = dispatch.choose(x.device, x.dtype, backend, backwards=True).backward
    problem = Problem(x, delta, A, B, C, D, delta_bias, width, delta_softplus)
    dx, ddelta, dA, dB, dC, dD, dbias = (
        t.contiguous() for t in backward(grad, problem, states if states.numel() else None)
    )
    return dx, ddelta, dA, dB, dC, dD, dbias


@_scan_backward.register_fake
def _(grad, states, x, delta, A, B, C, D, delta_bias, width, delta_softplus, backend):  # type: ignore[no-untyped-def]
    inputs = (x, delta, A, B, C, D, delta_bias)
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in inputs)


def _keep(ctx, inputs, output):  # type: ignore[no-untyped-def]
    states = output[1]
    ctx.mark_non_differentiable(states)
    ctx.save_for_backward(*inputs[:8], states)
    ctx.options = inputs[8:11]


def _differentiate(ctx, grad, _):  # type: ignore[no-untyped-def]
    x, delta, *others, weight, states = ctx.saved_tensors
    if weight is None:
        gradients = _scan_backward(grad, states, x, delta, *others, *ctx.options)
        return *gradients, None, None, None, None, None
    widened = _widened(delta, weight)
    dx, dwidened, *gradients = _scan_backward(grad, states, x, widened, *others, *ctx.options)
    each = dwidened.flatten(0, 1).transpose(0, 1)  # (K, BP, d)
    ddelta = torch.bmm(each, weight.to(each.dtype)).transpose(0, 1).unflatten(0, delta.shape[:2])
    dweight = torch.bmm(each.transpose(1, 2), delta.to(each.dtype).flatten(0, 1).transpose(0, 1))
    return dx, ddelta, *gradients, dweight, None, None, None, None


_scan.register_autograd(_differentiate, setup_context=_keep)
for _device in ("cpu", "cuda"):
    # the state is a running sum over thousands of steps: never in half precision
    torch.library.register_autocast("nnunet_igtv::scan", _device, torch.float32)


def _computed(problem: Problem, backend: str | None) -> Tensor:
    *tensors, width, delta_softplus, delta_weight = problem
    differentiated = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (*tensors, delta_weight)
    )
    # a compiler wants to know what the operator returns before a backend is chosen
    keep = differentiated and not torch.compiler.is_compiling()
    return _scan(*tensors, delta_weight, width, delta_softplus, backend or "", keep)[0]


def _check(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    backend: str | None = None,
) -> Tensor:
    """Mamba-1's selective scan along a sequence, with mamba-ssm's shapes and meaning.

    Channels come in G groups of D/G neighbours that share B and C.

    Args:
        u, delta: (B, D, L).
        A: (D, N).
        B, C: (B, G, N, L).
        D, delta_bias: (D), or None for zeros.
        delta_softplus: apply softplus to delta + delta_bias.
        backend: name of the backend; None leaves the choice to `active_backend`.

    Returns:
        (B, D, L), in u's type; the state is float32 (float64 for float64 inputs).

    Raises:
        ValueError: shapes that do not fit, or a backend that is unknown or does not run on this device.
    """
    batch, channels, length = u.shape
    groups, state = B.shape[1], A.shape[1]
    _check("delta", delta, (batch, channels, length))
    _check("A", A, (channels, state))
    _check("B", B, (batch, groups, state, length))
    _check("C", C, (batch, groups, state, length))
    if channels % groups:
        raise ValueError(f"{channels} channels cannot be cut into {groups} groups")
    width = channels // groups
    zeros = A.new_zeros(channels)
    problem = Problem(
        u.transpose(1, 2).unflatten(2, (groups, width)),
        delta.transpose(1, 2).unflatten(2, (groups, width)),
        A.unflatten(0, (groups, width)),
        B.permute(0, 3, 1, 2),
        C.permute(0, 3, 1, 2),
        (zeros if D is None else D).unflatten(0, (groups, width)),
        (zeros if delta_bias is None else delta_bias).unflatten(0, (groups, width)),
        length,
        delta_softplus,
    )
    return _computed(problem, backend).flatten(2).transpose(1, 2)


def cross_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    delta_softplus: bool = True,
    delta_weight: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """VMamba's four-directional scan of a feature map: the sum, at each pixel, of four selective scans.

    Direction 0 walks row by row, 1 column by column, 2 and 3 are the reverses of 0 and 1.

    Args:
        x: (B, H, W, d), channels last.
        delta: (B, H, W, 4, d) in pixel order, before bias and softplus.
        A: (4, d, N).
        B, C: (B, H, W, 4, N) in pixel order.
        D, delta_bias: (4, d).
        delta_softplus: apply softplus to delta + delta_bias.
        delta_weight: (4, d, R), or None; where given, delta is (B, H, W, 4, R), and this widens it.
        backend: name of the backend; None leaves the choice to `active_backend`.

    Returns:
        (B, H, W, d), in x's type; the state is float32 (float64 for float64 inputs).

    Raises:
        ValueError: shapes that do not fit, or a backend that is unknown or does not run on this device.
    """
    batch, height, width, channels = x.shape
    state = A.shape[2]
    rank = channels if delta_weight is None else delta_weight.shape[2]
    _check("delta", delta, (batch, height, width, 4, rank))
    _check("A", A, (4, channels, state))
    _check("B", B, (batch, height, width, 4, state))
    _check("C", C, (batch, height, width, 4, state))
    _check("D", D, (4, channels))
    _check("delta_bias", delta_bias, (4, channels))
    if delta_weight is not None:
        _check("delta_weight", delta_weight, (4, channels, rank))
    problem = Problem(
        x.flatten(1, 2).unsqueeze(2),
        delta.flatten(1, 2),
        A,
        B.flatten(1, 2),
        C.flatten(1, 2),
        D,
        delta_bias,
        width,
        delta_softplus,
        delta_weight,
    )
    return _computed(problem, backend).view(batch, height, width, channels)
