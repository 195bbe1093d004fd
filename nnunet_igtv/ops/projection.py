"""The projection of delta from R values a pixel, for backends whose kernels do not compute it themselves."""

import torch
from torch import Tensor

from .problem import Gradients, Problem


def projected(problem: Problem) -> Problem:
    """The same problem with delta given for all channels, by one matrix product for each direction."""
    delta, weight = problem.delta, problem.delta_weight
    if weight is None:
        return problem
    weight = weight.to(torch.promote_types(weight.dtype, delta.dtype))
    products = torch.bmm(delta.to(weight.dtype).flatten(0, 1).transpose(0, 1), weight.transpose(1, 2))
    return problem._replace(delta=products.transpose(0, 1).unflatten(0, delta.shape[:2]), delta_weight=None)


def with_projection_gradients(gradients: Gradients, problem: Problem) -> tuple[Tensor, ...]:
    """The gradients of a projected problem's tensors, as those of the problem itself and of its weight."""
    delta, weight = problem.delta, problem.delta_weight
    if weight is None:
        return gradients
    dx, dprojected, *others = gradients
    by_direction = dprojected.flatten(0, 1).transpose(0, 1)  # (K, BP, d)
    ddelta = torch.bmm(by_direction, weight.to(by_direction.dtype)).transpose(0, 1)
    rows = delta.to(by_direction.dtype).flatten(0, 1).transpose(0, 1)  # (K, BP, R)
    dweight = torch.bmm(by_direction.transpose(1, 2), rows)
    ddelta = ddelta.unflatten(0, delta.shape[:2]).to(delta.dtype)
    return dx, ddelta, *others, dweight.to(weight.dtype)
