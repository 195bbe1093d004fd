"""The scan on a GPU in Triton, forward and backward: any CUDA build of PyTorch brings what it takes.

A program walks one direction of one image for a few channels, a chunk of steps at a time: the chunk's
states are a tile (steps, N, channels) in registers, computed with an associative scan along the steps.
Directions are four ways to count the same pixels; what several programs add to (y and dx of the four
directions, dB and dC of the channels) is added atomically, so that runs may differ in the last bit. The
backward pass keeps the state at the start of each chunk and computes the chunk again. The state is float32
whatever the inputs are.
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .problem import Gradients, Problem

DEVICES = ("cpu",) if triton.knobs.runtime.interpret else ("cuda",)


def describe() -> str:
    return f"kernels compiled by Triton {triton.__version__}"


@triton.jit
def _then(decay_1, state_1, decay_2, state_2):  # type: ignore[no-untyped-def]
    """Two stretches of steps, the first and then the second, as one."""
    return decay_1 * decay_2, state_1 * decay_2 + state_2


@triton.jit
def _pixel(t, k, height, width, CROSSED: tl.constexpr):  # type: ignore[no-untyped-def]
    """The pixel that direction k reads at step t."""
    pixel = t
    if CROSSED:
        forwards = tl.where(k >= 2, height * width - 1 - t, t)
        pixel = tl.where(k % 2 == 1, forwards % height * width + forwards // height, forwards)
    return pixel


@triton.jit
def _step(raw, SOFTPLUS: tl.constexpr):  # type: ignore[no-untyped-def]
    """softplus(raw), accurate for steps far below 1 too, and its derivative."""
    if SOFTPLUS:
        small = tl.exp(-tl.abs(raw))
        one = 1.0 + small
        beyond = one == 1.0  # too small to count: log(1 + small) is small
        log1p = tl.where(beyond, small, tl.log(one) * (small / tl.where(beyond, 1.0, one - 1.0)))
        return tl.maximum(raw, 0.0) + log1p, tl.where(raw > 0, 1.0, small) / one
    return raw, tl.full(raw.shape, 1.0, tl.float32)


@triton.jit
def _scan_forward(  # type: ignore[no-untyped-def]
    x, delta, A, B, C, D, bias, y, starts,
    height, width, directions, channels, x_step, x_turn, delta_image, delta_step, delta_turn,
    CROSSED: tl.constexpr, SOFTPLUS: tl.constexpr, KEEP: tl.constexpr,
    N: tl.constexpr, STATES: tl.constexpr, CHUNK: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Adds to y, or (KEEP) writes the states at the starts of the chunks `(B, K, chunks, N, d)`."""
    k, image = tl.program_id(1) % directions, (tl.program_id(1) // directions).to(tl.int64)
    pixels = height * width
    chunks = tl.cdiv(pixels, CHUNK)
    c = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    n, steps = tl.arange(0, STATES), tl.arange(0, CHUNK)
    some, states = c < channels, n < N
    plane = n[:, None] * channels + c[None, :]
    both = states[:, None] & some[None, :]
    rate = tl.load(A + k * N * channels + plane, both, 0.0)
    shift = tl.load(bias + k * channels + c, some, 0.0).to(tl.float32)
    skip = tl.load(D + k * channels + c, some, 0.0).to(tl.float32)
    h = tl.zeros((STATES, CHANNELS), tl.float32)
    for i in range(0, chunks):
        t = i * CHUNK + steps
        inside = t < pixels
        tile = inside[:, None] & some[None, :]
        pixel = _pixel(t, k, height, width, CROSSED).to(tl.int64)
        at_x = (image * pixels + pixel)[:, None] * x_step + k * x_turn + c[None, :]
        at_delta = (
            image * delta_image + pixel[:, None] * delta_step + k.to(tl.int64) * delta_turn + c[None, :]
        )
        at_b = ((image * pixels + pixel) * directions + k)[:, None] * N + n[None, :]
        few = inside[:, None] & states[None, :]
        value = tl.load(x + at_x, tile, 0.0).to(tl.float32)
        step, _ = _step(tl.load(delta + at_delta, tile, 0.0).to(tl.float32) + shift[None, :], SOFTPLUS)
        step = tl.where(tile, step, 0.0)
        b = tl.load(B + at_b, few, 0.0).to(tl.float32)
        decay = tl.exp2(step[:, None, :] * rate[None, :, :])
        drive = (step * value)[:, None, :] * b[:, :, None]
        decays, states_ = tl.associative_scan((decay, drive), 0, _then)
        if KEEP:
            tl.store(starts + (tl.program_id(1) * chunks + i).to(tl.int64) * N * channels + plane, h, both)
        states_ += decays * h[None, :, :]
        if not KEEP:
            out = tl.load(C + at_b, few, 0.0).to(tl.float32)
            total = tl.sum(states_ * out[:, :, None], 1) + skip[None, :] * value
            tl.atomic_add(y + at_x, total, tile)
        h = tl.sum(tl.where((steps == CHUNK - 1)[:, None, None], states_, 0.0), 0)


@triton.jit
def _scan_backward(  # type: ignore[no-untyped-def]
    dy, x, delta, A, B, C, D, bias, starts, dx, ddelta, dA, dB, dC, dD, dbias,
    height, width, directions, channels, x_step, x_turn, delta_image, delta_step, delta_turn,
    CROSSED: tl.constexpr, SOFTPLUS: tl.constexpr,
    N: tl.constexpr, STATES: tl.constexpr, CHUNK: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Adds to dx, dB and dC; writes ddelta `(B, P, K, d)`, and for each image dA `(K, N, d)`, dD, dbias."""
    k, image = tl.program_id(1) % directions, (tl.program_id(1) // directions).to(tl.int64)
    pixels = height * width
    chunks = tl.cdiv(pixels, CHUNK)
    c = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    n, steps = tl.arange(0, STATES), tl.arange(0, CHUNK)
    some, states = c < channels, n < N
    plane = n[:, None] * channels + c[None, :]
    both = states[:, None] & some[None, :]
    rate = tl.load(A + k * N * channels + plane, both, 0.0)
    shift = tl.load(bias + k * channels + c, some, 0.0).to(tl.float32)
    skip = tl.load(D + k * channels + c, some, 0.0).to(tl.float32)
    later = tl.zeros((STATES, CHANNELS), tl.float32)  # dLoss/dh at the first step of the chunk after
    rate_grad = tl.zeros((STATES, CHANNELS), tl.float32)
    skip_grad = tl.zeros((CHANNELS,), tl.float32)
    shift_grad = tl.zeros((CHANNELS,), tl.float32)
    for back in range(0, chunks):
        i = chunks - 1 - back
        t = i * CHUNK + steps
        inside = t < pixels
        tile = inside[:, None] & some[None, :]
        pixel = _pixel(t, k, height, width, CROSSED).to(tl.int64)
        at_x = (image * pixels + pixel)[:, None] * x_step + k * x_turn + c[None, :]
        base = image * delta_image + k.to(tl.int64) * delta_turn + c[None, :]
        at_b = ((image * pixels + pixel) * directions + k)[:, None] * N + n[None, :]
        few = inside[:, None] & states[None, :]
        value = tl.load(x + at_x, tile, 0.0).to(tl.float32)
        grad = tl.load(dy + at_x, tile, 0.0).to(tl.float32)
        raw = tl.load(delta + base + pixel[:, None] * delta_step, tile, 0.0).to(tl.float32)
        step, slope = _step(raw + shift[None, :], SOFTPLUS)
        step = tl.where(tile, step, 0.0)
        tile_next = (t + 1 < pixels)[:, None] & some[None, :]
        pixel_next = _pixel(tl.where(t + 1 < pixels, t + 1, 0), k, height, width, CROSSED).to(tl.int64)
        raw_next = tl.load(delta + base + pixel_next[:, None] * delta_step, tile_next, 0.0).to(tl.float32)
        step_next, _ = _step(raw_next + shift[None, :], SOFTPLUS)
        step_next = tl.where(tile_next, step_next, 0.0)
        b = tl.load(B + at_b, few, 0.0).to(tl.float32)
        out = tl.load(C + at_b, few, 0.0).to(tl.float32)
        h = tl.load(starts + (tl.program_id(1) * chunks + i).to(tl.int64) * N * channels + plane, both, 0.0)

        decay = tl.exp2(step[:, None, :] * rate[None, :, :])
        drive = (step * value)[:, None, :] * b[:, :, None]
        decays, states_ = tl.associative_scan((decay, drive), 0, _then)
        states_ += decays * h[None, :, :]
        decay_next = tl.exp2(step_next[:, None, :] * rate[None, :, :])
        from_y = grad[:, None, :] * out[:, :, None]
        decays, g = tl.associative_scan((decay_next, from_y), 0, _then, reverse=True)
        g += decays * later[None, :, :]
        later = tl.sum(tl.where((steps == 0)[:, None, None], g, 0.0), 0)

        tl.atomic_add(dC + at_b, tl.sum(states_ * grad[:, None, :], 2), few)
        tl.atomic_add(dB + at_b, tl.sum(g * (step * value)[:, None, :], 2), few)
        to_input = tl.sum(g * b[:, :, None], 1)
        to_decay = (states_ - drive) * g
        to_step = tl.sum(to_decay * rate[None, :, :], 1) * 0.6931471805599453 + to_input * value
        rate_grad += tl.sum(to_decay * step[:, None, :], 0)
        tl.atomic_add(dx + at_x, step * to_input + skip[None, :] * grad, tile)
        to_step = tl.where(tile, to_step * slope, 0.0)
        at_ddelta = ((image * pixels + pixel) * directions + k)[:, None] * channels + c[None, :]
        tl.store(ddelta + at_ddelta, to_step, tile)
        skip_grad += tl.sum(grad * value, 0)
        shift_grad += tl.sum(to_step, 0)
    row = tl.program_id(1) * channels + c
    tl.store(dA + tl.program_id(1) * N * channels + plane, rate_grad, both)
    tl.store(dD + row, skip_grad, some)
    tl.store(dbias + row, shift_grad, some)


class _Launch:
    """A problem as the kernels take it, and how the work is cut up."""

    def __init__(self, problem: Problem) -> None:
        x, delta, A, B, C, D, delta_bias, width, delta_softplus, _ = problem
        self.batch, pixels, self.directions, channels = delta.shape
        states, shared = A.shape[2], x.shape[2]
        delta = delta if delta.stride(3) == 1 else delta.contiguous()
        rates = (A.float() * math.log2(math.e)).transpose(1, 2).contiguous()
        x, B, C, D, delta_bias = (t.contiguous() for t in (x, B, C, D, delta_bias))
        self.tensors = (x, delta, rates, B, C, D, delta_bias)
        x_turn = 0 if shared == 1 else channels
        sizes = (pixels // width, width, self.directions, channels, shared * channels, x_turn)
        self.sizes = (*sizes, *delta.stride()[:3])
        # a tile of 1024 (N = 4) or 2048 values (N = 16) leaves the backward pass within a Hopper's registers
        padded = triton.next_power_of_2(states)
        width_of_tile = min(16, triton.next_power_of_2(channels))
        chunk = max(4, min(16, 2048 // (padded * width_of_tile), triton.next_power_of_2(pixels)))
        self.chunks = triton.cdiv(pixels, chunk)
        self.options: dict[str, Any] = {
            "CROSSED": problem.crossed,
            "SOFTPLUS": delta_softplus,
            "N": states,
            "STATES": padded,
            "CHUNK": chunk,
            "CHANNELS": width_of_tile,
        }
        self.grid = (triton.cdiv(channels, width_of_tile), self.batch * self.directions)

    def walk(self, y: Tensor, starts: Tensor, keep: bool) -> None:
        _scan_forward[self.grid](*self.tensors, y, starts, *self.sizes, KEEP=keep, **self.options)


def forward(problem: Problem, keep: bool = False) -> tuple[Tensor, None]:
    """y, in any floating-point type up to float32; keeps nothing."""
    p, x = _Launch(problem), problem.x
    y = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    with torch.cuda.device_of(x):
        p.walk(y, y, keep=False)
    return y.to(x.dtype), None


def backward(grad: Tensor, problem: Problem, states: Tensor | None = None) -> Gradients:
    """The gradients of the problem's first seven tensors."""
    x, delta, A, B, C, D, delta_bias, *_ = problem
    p = _Launch(problem)
    K, channels, N = A.shape

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=x.device)

    starts = empty(p.batch, K, p.chunks, N, channels)
    dx, dB, dC = (torch.zeros(t.shape, dtype=torch.float32, device=x.device) for t in (x, B, C))
    ddelta = torch.empty(delta.shape, dtype=delta.dtype, device=x.device)
    dA, dD, dbias = (
        empty(p.batch, K, N, channels),
        empty(p.batch, K, channels),
        empty(p.batch, K, channels),
    )
    with torch.cuda.device_of(x):
        p.walk(dx, starts, keep=True)
        _scan_backward[p.grid](
            grad.contiguous(), *p.tensors, starts, dx, ddelta, dA, dB, dC, dD, dbias, *p.sizes, **p.options
        )
    return (
        dx.to(x.dtype),
        ddelta,
        dA.sum(0).transpose(1, 2).to(A.dtype),
        dB.to(B.dtype),
        dC.to(C.dtype),
        dD.sum(0).to(D.dtype),
        dbias.sum(0).to(delta_bias.dtype),
    )
