"""The scan as a PyTorch operator, and the two functions that the networks call.

A network computes delta from R values a pixel by a linear projection (Mamba's `dt_proj`). Given its weight as
`delta_weight`, a backend can project within its kernel. The projected delta, the largest of all tensors, is
then not written, and autograd saves the R values only.
"""

import torch
from torch import Tensor

from . import dispatch
from .problem import Problem


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
    map_width: int,
    delta_softplus: bool,
    backend: str,
    save_states: bool,
) -> tuple[Tensor, Tensor]:
    """y, and the states that the backend saves for its backward pass; empty, where it saves none."""
    chosen = dispatch.choose(x.device, x.dtype, backend, gradients=save_states)
    problem = Problem(x, delta, A, B, C, D, delta_bias, map_width, delta_softplus, delta_weight)
    y, saved_states = chosen.forward(problem, save_states)
    return y.contiguous(), x.new_empty(0) if saved_states is None else saved_states


@_scan.register_fake
def _(x, *others):  # type: ignore[no-untyped-def]
    return torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(0)


@torch.library.custom_op("nnunet_igtv::scan_backward", mutates_args=())
def _scan_backward(
    grad: Tensor,
    saved_states: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    delta_weight: Tensor | None,
    map_width: int,
    delta_softplus: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of the tensors; that of delta_weight is empty, where there is none."""
    chosen = dispatch.choose(x.device, x.dtype, backend, gradients=True)
    states = saved_states if saved_states.numel() else None
    problem = Problem(x, delta, A, B, C, D, delta_bias, map_width, delta_softplus, delta_weight)
    gradients = chosen.backward(grad, problem, states)
    if delta_weight is None:
        gradients = *gradients, x.new_empty(0)
    dx, ddelta, dA, dB, dC, dD, dbias, dweight = (t.contiguous() for t in gradients)
    return dx, ddelta, dA, dB, dC, dD, dbias, dweight


@_scan_backward.register_fake
def _(grad, saved_states, *inputs):  # type: ignore[no-untyped-def]
    x, weight = inputs[0], inputs[7]
    given = [*inputs[:7], x.new_empty(0) if weight is None else weight]
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in given)


def _save_for_backward(ctx, inputs, output):  # type: ignore[no-untyped-def]
    saved_states = output[1]
    ctx.mark_non_differentiable(saved_states)
    ctx.save_for_backward(*inputs[:8], saved_states)
    ctx.options = inputs[8:11]


def _differentiate(ctx, grad, _):  # type: ignore[no-untyped-def]
    *inputs, weight, saved_states = ctx.saved_tensors
    *gradients, dweight = _scan_backward(grad, saved_states, *inputs, weight, *ctx.options)
    return *gradients, None if weight is None else dweight, None, None, None, None


_scan.register_autograd(_differentiate, setup_context=_save_for_backward)
for _device in ("cpu", "cuda"):
    # a state is a running sum over thousands of steps, which half precision cannot hold
    torch.library.register_autocast("nnunet_igtv::scan", _device, torch.float32)


def scan_forward(
    problem: Problem, backend: str | None = None, gradients: bool = False
) -> tuple[Tensor, Tensor]:
    """y, and what the backend saves for its backward pass, without autograd.

    Args:
        gradients: whether `scan_backward` is to follow.
    """
    *tensors, map_width, delta_softplus, delta_weight = problem
    # the shape of the saved states depends on the backend, which is unknown while a graph is compiled
    save_states = gradients and not torch.compiler.is_compiling()
    y, saved_states = _scan(*tensors, delta_weight, map_width, delta_softplus, backend or "", save_states)
    return y, saved_states


def scan_backward(grad: Tensor, saved_states: Tensor, problem: Problem) -> tuple[Tensor, ...]:
    """The gradients of the problem's first seven tensors, then of delta_weight; empty where it has none."""
    *tensors, map_width, delta_softplus, delta_weight = problem
    gradients: tuple[Tensor, ...] = _scan_backward(
        grad,
        saved_states,
        *tensors,
        delta_weight,
        map_width,
        delta_softplus,
        "",  # the backend that is active
    )
    return gradients


def _scan_of(problem: Problem, backend: str | None) -> Tensor:
    tensors = [*problem[:7], problem.delta_weight]
    gradients = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    return scan_forward(problem, backend, gradients)[0]


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
    """Mamba-1's selective scan of a sequence (Gu & Dao 2023), with the arguments of mamba-ssm's function.

    The channels are G groups of D / G consecutive channels; a group shares B and C.

    Args:
        u, delta: (B, D, L).
        A: (D, N).
        B, C: (B, G, N, L).
        D, delta_bias: (D), or None for zeros.
        delta_softplus: apply softplus to delta + delta_bias.
        backend: name of the backend; None for the one that `active_backend` names.

    Returns:
        (B, D, L), in u's type. The state is float32 (float64 for float64 inputs).

    Raises:
        ValueError: shapes that do not match, or an unknown backend.
        RuntimeError: the backend asked for cannot be used on this device.
    """
    batch, channels, length = u.shape
    groups, state = B.shape[1], A.shape[1]
    _check("delta", delta, (batch, channels, length))
    _check("A", A, (channels, state))
    _check("B", B, (batch, groups, state, length))
    _check("C", C, (batch, groups, state, length))
    if channels % groups:
        raise ValueError(f"{channels} channels cannot be cut into {groups} groups")
    group_size = channels // groups
    zeros = A.new_zeros(channels)
    problem = Problem(
        u.transpose(1, 2).unflatten(2, (groups, group_size)),
        delta.transpose(1, 2).unflatten(2, (groups, group_size)),
        A.unflatten(0, (groups, group_size)),
        B.permute(0, 3, 1, 2),
        C.permute(0, 3, 1, 2),
        (zeros if D is None else D).unflatten(0, (groups, group_size)),
        (zeros if delta_bias is None else delta_bias).unflatten(0, (groups, group_size)),
        length,
        delta_softplus,
    )
    return _scan_of(problem, backend).flatten(2).transpose(1, 2)


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
    """VMamba's cross scan of a feature map: at each pixel, the sum of four selective scans (Liu et al. 2024).

    Direction 0 visits the pixels row by row, 1 column by column; 2 and 3 are the reverses of 0 and 1.

    Args:
        x: (B, H, W, d), channels last.
        delta: (B, H, W, 4, d) in pixel order, before bias and softplus.
        A: (4, d, N).
        B, C: (B, H, W, 4, N) in pixel order.
        D, delta_bias: (4, d).
        delta_softplus: apply softplus to delta + delta_bias.
        delta_weight: (4, d, R) or None. If given, delta is (B, H, W, 4, R), which it projects to d channels.
        backend: name of the backend; None for the one that `active_backend` names.

    Returns:
        (B, H, W, d), in x's type. The state is float32 (float64 for float64 inputs).

    Raises:
        ValueError: shapes that do not match, or an unknown backend.
        RuntimeError: the backend asked for cannot be used on this device.
    """
    problem = cross_scan_problem(x, delta, A, B, C, D, delta_bias, delta_softplus, delta_weight)
    return _scan_of(problem, backend).view(x.shape)


def cross_scan_problem(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    delta_softplus: bool = True,
    delta_weight: Tensor | None = None,
) -> Problem:
    """The problem of a cross scan, from the arguments of `cross_scan`.

    Raises:
        ValueError: shapes that do not match.
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
    return Problem(
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
