"""The definition of the scan in plain PyTorch. All other backends are tested against it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .problem import Gradients, Problem

DEVICES = ()  # all


def describe() -> str:
    return "the definition in plain PyTorch, slow"


def pixel_orders(
    height: int, width: int, four_directions: bool, device: torch.device | None = None
) -> Tensor:
    """The pixel that each direction reads at each step.

    Args:
        height, width: size of the map.
        four_directions: by rows, by columns, and the reverses of these two, in this order; else by rows only.
        device: of the result.

    Returns:
        (4 or 1, height * width), indices into the map's pixels counted row by row.
    """
    grid = torch.arange(height * width, device=device).view(height, width)
    if not four_directions:
        return grid.view(1, -1)
    rows, columns = grid.flatten(), grid.t().flatten()
    return torch.stack([rows, columns, rows.flip(0), columns.flip(0)])


def _order(problem: Problem) -> tuple[Tensor, Tensor]:
    """A pair of indices that gathers `(B, P, K, ...)` in pixel order into `(B, L, K, ...)` in step order."""
    pixels, directions = problem.delta.shape[1:3]
    device = problem.x.device
    order = pixel_orders(pixels // problem.map_width, problem.map_width, problem.is_cross_scan, device)
    return order.expand(directions, -1).t(), torch.arange(directions, device=device)


def forward(problem: Problem, save_states: bool = False) -> tuple[Tensor, None]:
    """y, step by step, in any floating-point type; saves no states."""
    x, delta, A, B, C, D, delta_bias, _, delta_softplus, _ = problem
    order, each = _order(problem)
    step = delta + delta_bias
    step = F.softplus(step) if delta_softplus else step
    by_step = (t[:, order, each].unbind(1) for t in (x.expand_as(delta), step, B, C))
    h = step.new_zeros(x.shape[0], *A.shape)
    y = []
    for x_t, step_t, B_t, C_t in zip(*by_step, strict=True):
        h = torch.exp(step_t.unsqueeze(-1) * A) * h + (step_t * x_t).unsqueeze(-1) * B_t.unsqueeze(2)
        y.append((h * C_t.unsqueeze(2)).sum(-1) + D * x_t)
    by_pixel = torch.stack(y, 1)[:, order.argsort(0), each]
    return by_pixel.sum(2, keepdim=True) if problem.is_cross_scan else by_pixel, None


def backward(grad: Tensor, problem: Problem, saved_states: Tensor | None = None) -> Gradients:
    """The gradients of the problem's first seven tensors, by the steps from the last to the first.

    With g_t = dLoss/dh_t = C_t dy_t + exp(step_{t+1} A) g_{t+1} and s_t = exp(step_t A) h_{t-1} g_t:
    dC_t = sum_d dy_t h_t, dB_t = sum_d g_t step_t x_t, dx_t = step_t sum_n B_t g_t + D dy_t,
    dstep_t = sum_n (A s_t + B_t g_t x_t), dA = sum_t step_t s_t.
    """
    x, delta, A, B, C, D, delta_bias, _, delta_softplus, _ = problem
    order, each = _order(problem)
    step = delta + delta_bias
    slope = torch.sigmoid(step) if delta_softplus else torch.ones_like(step)
    step = F.softplus(step) if delta_softplus else step
    tensors = (x.expand_as(delta), grad.expand_as(delta), step, B, C)
    steps = list(zip(*(t[:, order, each].unbind(1) for t in tensors), strict=True))
    h = [step.new_zeros(x.shape[0], *A.shape)]
    for x_t, _, step_t, B_t, _ in steps:
        h.append(
            torch.exp(step_t.unsqueeze(-1) * A) * h[-1] + (step_t * x_t).unsqueeze(-1) * B_t.unsqueeze(2)
        )
    dA, dD, next_g = torch.zeros_like(A), torch.zeros_like(D), torch.zeros_like(h[0])
    gradients = []
    for t in range(len(steps) - 1, -1, -1):
        x_t, dy_t, step_t, B_t, C_t = steps[t]
        g = C_t.unsqueeze(2) * dy_t.unsqueeze(-1) + next_g
        next_g = torch.exp(step_t.unsqueeze(-1) * A) * g
        s = next_g * h[t]
        input_grad = (g * B_t.unsqueeze(2)).sum(-1)
        gradients.append(
            (
                step_t * input_grad + D * dy_t,
                (s * A).sum(-1) + input_grad * x_t,
                (g * (step_t * x_t).unsqueeze(-1)).sum(2),
                (h[t + 1] * dy_t.unsqueeze(-1)).sum(2),
            )
        )
        dA += (s * step_t.unsqueeze(-1)).sum(0)
        dD += (dy_t * x_t).sum(0)
    inverse = order.argsort(0)
    by_pixel = (torch.stack(t[::-1], 1)[:, inverse, each] for t in zip(*gradients, strict=True))
    dx, dstep, dB, dC = by_pixel
    if problem.is_cross_scan:
        dx = dx.sum(2, keepdim=True)
    ddelta = dstep * slope
    return dx, ddelta, dA, dB, dC, dD, ddelta.sum((0, 1))
