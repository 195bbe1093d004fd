"""The scan by mamba-ssm's CUDA kernel, where the user has installed mamba-ssm with it (an optional package).

The kernel takes (B, channels, L), from the first step to the last. The directions of a cross scan are
gathered into groups of its channels, each in its own order, and the results are gathered back.
"""

import torch
from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
from torch import Tensor

from .problem import Gradients, Problem
from .reference import pixel_orders

DEVICES = ("cuda",)


def describe() -> str:
    return "mamba-ssm's CUDA kernel"


class _Sequences:
    """A problem in the kernel's layout: u, delta (B, K d, L), B, C (B, K, N, L), float32."""

    def __init__(self, problem: Problem) -> None:
        x, delta, A, B, C, D, delta_bias, map_width, delta_softplus, _ = problem
        pixels, directions = delta.shape[1:3]
        self.shape, self.x_copies = delta.shape, x.shape[2]
        order = pixel_orders(pixels // map_width, map_width, problem.is_cross_scan, x.device)
        order = order.expand(directions, -1)
        self.order, self.inverse = order.t(), order.argsort(1).t()
        self.each = torch.arange(directions, device=x.device)
        u, delta = (self.by_step(t.expand(self.shape)).flatten(1, 2) for t in (x, delta))
        A, D, delta_bias = (t.float().flatten(0, 1).contiguous() for t in (A, D, delta_bias))
        self.tensors = (u, delta, A, self.by_step(B), self.by_step(C), D, delta_bias)
        self.delta_softplus = delta_softplus

    def scan(
        self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor
    ) -> Tensor:
        """y, (B, K d, L)."""
        y: Tensor = selective_scan_fn(u, delta, A, B, C, D, None, bias, self.delta_softplus)
        return y

    def by_step(self, tensor: Tensor) -> Tensor:
        """From (B, P, K, c) in pixel order to (B, K, c, L) in step order."""
        return tensor.float()[:, self.order, self.each].permute(0, 2, 3, 1).contiguous()

    def by_pixel(self, tensor: Tensor) -> Tensor:
        """From (B, K, c, L) to (B, P, K, c)."""
        return tensor.permute(0, 3, 1, 2)[:, self.inverse, self.each]

    def as_x(self, tensor: Tensor) -> Tensor:
        """From (B, K d, L) to x's shape; summed over the directions in a cross scan."""
        pixels = self.by_pixel(tensor.unflatten(1, self.shape[2:]))
        return pixels if self.x_copies == self.shape[2] else pixels.sum(2, keepdim=True)


def forward(problem: Problem, save_states: bool = False) -> tuple[Tensor, None]:
    """y, computed in float32 whatever the inputs' floating-point type; saves no states."""
    p = _Sequences(problem)
    with torch.no_grad():
        y = p.scan(*p.tensors)
    return p.as_x(y).to(problem.x.dtype), None


def backward(grad: Tensor, problem: Problem, saved_states: Tensor | None = None) -> Gradients:
    """The gradients of the problem's first seven tensors; the forward pass is computed again."""
    x, delta, A, B, C, D, delta_bias, *_ = problem
    p = _Sequences(problem)
    dy = p.by_step(grad.expand(p.shape)).flatten(1, 2)
    inputs = [t.detach().requires_grad_() for t in p.tensors]
    with torch.enable_grad():
        y = p.scan(*inputs)
    du, ddelta, dA, dB, dC, dD, dbias = torch.autograd.grad(y, inputs, dy)
    return (
        p.as_x(du).to(x.dtype),
        p.by_pixel(ddelta.unflatten(1, p.shape[2:])).to(delta.dtype),
        dA.view_as(A).to(A.dtype),
        p.by_pixel(dB).to(B.dtype),
        p.by_pixel(dC).to(C.dtype),
        dD.view_as(D).to(D.dtype),
        dbias.view_as(delta_bias).to(delta_bias.dtype),
    )
