"""The scan on a GPU in Triton, forward and backward. Every CUDA build of PyTorch includes Triton.

A program computes one direction of one image for a few channels, in chunks of steps. The states of a chunk
are a tile (steps, N, channels) in registers, computed by an associative scan over the steps. The directions
differ only in the order of their pixels. Sums over directions (y, dx) and over channels (dB, dC) are atomic
additions of several programs, so repeated runs may differ in the last bits. The backward pass first saves
the state at the start of each chunk, then recomputes the chunks from the last to the first. States are
float32 for all types of inputs.
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
def _compose(decay_1, state_1, decay_2, state_2):  # type: ignore[no-untyped-def]
    """Two consecutive ranges of steps as one: the product of decays, and the state from a state of zero."""
    return decay_1 * decay_2, state_1 * decay_2 + state_2


@triton.jit
def _pixel(t, k, height, width, FOUR_DIRECTIONS: tl.constexpr):  # type: ignore[no-untyped-def]
    """The pixel that direction k reads at step t."""
    pixel = t
    if FOUR_DIRECTIONS:
        forwards = tl.where(k >= 2, height * width - 1 - t, t)
        pixel = tl.where(k % 2 == 1, forwards % height * width + forwards // height, forwards)
    return pixel.to(tl.int64)


@triton.jit
def _softplus(raw):  # type: ignore[no-untyped-def]
    """softplus(raw), accurate also far below 1, and its derivative."""
    small = tl.exp(-tl.abs(raw))
    one = 1.0 + small
    negligible = one == 1.0  # log(1 + small) is small
    log1p = tl.where(negligible, small, tl.log(one) * (small / tl.where(negligible, 1.0, one - 1.0)))
    return tl.maximum(raw, 0.0) + log1p, tl.where(raw > 0, 1.0, small) / one


@triton.jit
def _program(directions, channels, N: tl.constexpr, STATES: tl.constexpr, CHANNELS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Direction, image, channels, states and offsets of (N, d) with their mask, of this program."""
    k, image = tl.program_id(1) % directions, (tl.program_id(1) // directions).to(tl.int64)
    c, n = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATES)
    at_states = n[:, None] * channels + c[None, :]
    return k, image, c, n, at_states, (n < N)[:, None] & (c < channels)[None, :]


@triton.jit
def _load_steps(  # type: ignore[no-untyped-def]
    delta, bias, t, first, image, k, c, height, width, channels, delta_image, delta_pixel, delta_direction,
    FOUR_DIRECTIONS: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    """delta after bias and softplus, (steps, channels), and the derivative; 0 outside [first, pixels)."""
    mask = ((t >= first) & (t < height * width))[:, None] & (c < channels)[None, :]
    pixel = _pixel(tl.where(t < 0, 0, t), k, height, width, FOUR_DIRECTIONS)
    at = image * delta_image + pixel[:, None] * delta_pixel + k.to(tl.int64) * delta_direction + c[None, :]
    step = tl.load(delta + at, mask, 0.0).to(tl.float32) + bias[None, :]
    slope = tl.full(step.shape, 1.0, tl.float32)
    if SOFTPLUS:
        step, slope = _softplus(step)
    return tl.where(mask, step, 0.0), tl.where(mask, slope, 0.0)


@triton.jit
def _load_pixels(  # type: ignore[no-untyped-def]
    tensor, t, offset, image, k, c, height, width, channels, stride, FOUR_DIRECTIONS: tl.constexpr
):
    """A tensor's values at the steps t, as float32, with their offsets and their mask; 0 outside the map.

    Args:
        tensor: (B, P, stride). The values `offset + c` of each pixel are read, for c below `channels`.
    """
    pixels = height * width
    pixel = _pixel(tl.where(t < 0, 0, t), k, height, width, FOUR_DIRECTIONS)
    at = (image * pixels + pixel)[:, None] * stride + offset + c[None, :]
    mask = ((t >= 0) & (t < pixels))[:, None] & (c < channels)[None, :]
    return tl.load(tensor + at, mask, 0.0).to(tl.float32), at, mask


@triton.jit
def _scan_forward(  # type: ignore[no-untyped-def]
    x, delta, A, B, C, D, bias, y, saved_states,
    height, width, directions, channels, x_stride, x_direction, delta_image, delta_pixel, delta_direction,
    FOUR_DIRECTIONS: tl.constexpr, SOFTPLUS: tl.constexpr, SAVE_STATES: tl.constexpr,
    N: tl.constexpr, STATES: tl.constexpr, CHUNK: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Adds to y, or (SAVE_STATES) writes the states at the starts of the chunks `(B, K, chunks, N, d)`."""
    k, image, c, n, at_states, states_mask = _program(directions, channels, N, STATES, CHANNELS)
    chunks = tl.cdiv(height * width, CHUNK)
    some = c < channels
    rate = tl.load(A + k * N * channels + at_states, states_mask, 0.0)
    shift = tl.load(bias + k * channels + c, some, 0.0).to(tl.float32)
    skip = tl.load(D + k * channels + c, some, 0.0).to(tl.float32)
    steps = tl.arange(0, CHUNK)
    h = tl.zeros((STATES, CHANNELS), tl.float32)
    for i in range(0, chunks):
        t = i * CHUNK + steps
        step, _ = _load_steps(
            delta, shift, t, 0, image, k, c, height, width, channels, delta_image, delta_pixel,
            delta_direction, FOUR_DIRECTIONS, SOFTPLUS,
        )  # fmt: skip
        value, at_x, tile = _load_pixels(
            x, t, k * x_direction, image, k, c, height, width, channels, x_stride, FOUR_DIRECTIONS
        )
        b, _, _ = _load_pixels(B, t, k * N, image, k, n, height, width, N, directions * N, FOUR_DIRECTIONS)
        decay = tl.exp2(step[:, None, :] * rate[None, :, :])
        drive = (step * value)[:, None, :] * b[:, :, None]
        decays, states = tl.associative_scan((decay, drive), 0, _compose)
        if SAVE_STATES:
            chunk = (tl.program_id(1) * chunks + i).to(tl.int64)
            tl.store(saved_states + chunk * N * channels + at_states, h, states_mask)
        states += decays * h[None, :, :]
        if not SAVE_STATES:
            out, _, _ = _load_pixels(
                C, t, k * N, image, k, n, height, width, N, directions * N, FOUR_DIRECTIONS
            )
            total = tl.sum(states * out[:, :, None], 1) + skip[None, :] * value
            tl.atomic_add(y + at_x, total, tile)
        h = tl.sum(tl.where((steps == CHUNK - 1)[:, None, None], states, 0.0), 0)


@triton.jit
def _scan_backward(  # type: ignore[no-untyped-def]
    dy, x, delta, A, B, C, D, bias, saved_states, dx, ddelta, dA, dB, dC, dD, dbias,
    height, width, directions, channels, x_stride, x_direction, delta_image, delta_pixel, delta_direction,
    FOUR_DIRECTIONS: tl.constexpr, SOFTPLUS: tl.constexpr,
    N: tl.constexpr, STATES: tl.constexpr, CHUNK: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Adds to dx, dB and dC; writes ddelta `(B, P, K, d)`, and for each image dA `(K, N, d)`, dD, dbias."""
    k, image, c, n, at_states, states_mask = _program(directions, channels, N, STATES, CHANNELS)
    pixels = height * width
    chunks = tl.cdiv(pixels, CHUNK)
    some = c < channels
    rate = tl.load(A + k * N * channels + at_states, states_mask, 0.0)
    shift = tl.load(bias + k * channels + c, some, 0.0).to(tl.float32)
    skip = tl.load(D + k * channels + c, some, 0.0).to(tl.float32)
    steps = tl.arange(0, CHUNK)
    next_g = tl.zeros(
        (STATES, CHANNELS), tl.float32
    )  # dLoss/dh at the first step of the chunk after this one
    rate_grad = tl.zeros((STATES, CHANNELS), tl.float32)
    skip_grad = tl.zeros((CHANNELS,), tl.float32)
    shift_grad = tl.zeros((CHANNELS,), tl.float32)
    for back in range(0, chunks):
        i = chunks - 1 - back
        t = i * CHUNK + steps
        value, at_x, tile = _load_pixels(
            x, t, k * x_direction, image, k, c, height, width, channels, x_stride, FOUR_DIRECTIONS
        )
        grad, _, _ = _load_pixels(
            dy, t, k * x_direction, image, k, c, height, width, channels, x_stride, FOUR_DIRECTIONS
        )
        step, slope = _load_steps(
            delta, shift, t, 0, image, k, c, height, width, channels, delta_image, delta_pixel,
            delta_direction, FOUR_DIRECTIONS, SOFTPLUS,
        )  # fmt: skip
        next_step, _ = _load_steps(
            delta, shift, t + 1, 0, image, k, c, height, width, channels, delta_image, delta_pixel,
            delta_direction, FOUR_DIRECTIONS, SOFTPLUS,
        )  # fmt: skip
        b, at_b, few = _load_pixels(
            B, t, k * N, image, k, n, height, width, N, directions * N, FOUR_DIRECTIONS
        )
        out, _, _ = _load_pixels(C, t, k * N, image, k, n, height, width, N, directions * N, FOUR_DIRECTIONS)
        chunk = (tl.program_id(1) * chunks + i).to(tl.int64)
        h = tl.load(saved_states + chunk * N * channels + at_states, states_mask, 0.0)

        # The state before each step: a scan of the chunk's steps, each moved by one. decay * before is never
        # computed as states - drive: a GPU fuses the products with the sums, so the difference would keep the
        # rounding error of the drive, which is far larger than a state that has decayed.
        before_value, _, _ = _load_pixels(
            x, t - 1, k * x_direction, image, k, c, height, width, channels, x_stride, FOUR_DIRECTIONS
        )
        before_b, _, _ = _load_pixels(
            B, t - 1, k * N, image, k, n, height, width, N, directions * N, FOUR_DIRECTIONS
        )
        before_step, _ = _load_steps(
            delta, shift, t - 1, i * CHUNK, image, k, c, height, width, channels, delta_image, delta_pixel,
            delta_direction, FOUR_DIRECTIONS, SOFTPLUS,
        )  # fmt: skip
        decays, before = tl.associative_scan(
            (
                tl.exp2(before_step[:, None, :] * rate[None, :, :]),
                (before_step * before_value)[:, None, :] * before_b[:, :, None],
            ),
            0,
            _compose,
        )
        before += decays * h[None, :, :]
        decayed = tl.exp2(step[:, None, :] * rate[None, :, :]) * before
        states = decayed + (step * value)[:, None, :] * b[:, :, None]

        next_decay = tl.exp2(next_step[:, None, :] * rate[None, :, :])
        from_y = grad[:, None, :] * out[:, :, None]
        decays, g = tl.associative_scan((next_decay, from_y), 0, _compose, reverse=True)
        g += decays * next_g[None, :, :]
        next_g = tl.sum(tl.where((steps == 0)[:, None, None], g, 0.0), 0)

        tl.atomic_add(dC + at_b, tl.sum(states * grad[:, None, :], 2), few)
        tl.atomic_add(dB + at_b, tl.sum(g * (step * value)[:, None, :], 2), few)
        input_grad = tl.sum(g * b[:, :, None], 1)
        exponent_grad = decayed * g
        step_grad = tl.sum(exponent_grad * rate[None, :, :], 1) * 0.6931471805599453 + input_grad * value
        rate_grad += tl.sum(exponent_grad * step[:, None, :], 0)
        tl.atomic_add(dx + at_x, step * input_grad + skip[None, :] * grad, tile)
        step_grad *= slope
        row = (image * pixels + _pixel(t, k, height, width, FOUR_DIRECTIONS)) * directions + k
        tl.store(ddelta + row[:, None] * channels + c[None, :], step_grad, tile)
        skip_grad += tl.sum(grad * value, 0)
        shift_grad += tl.sum(step_grad, 0)
    tl.store(dA + tl.program_id(1) * N * channels + at_states, rate_grad, states_mask)
    tl.store(dD + tl.program_id(1) * channels + c, skip_grad, some)
    tl.store(dbias + tl.program_id(1) * channels + c, shift_grad, some)


class _Launch:
    """The kernels' arguments for a problem, and the grid of programs."""

    def __init__(self, problem: Problem) -> None:
        x, delta, A, B, C, D, delta_bias, map_width, delta_softplus, _ = problem
        self.batch, pixels, self.directions, channels = delta.shape
        states, x_copies = A.shape[2], x.shape[2]
        delta = delta if delta.stride(3) == 1 else delta.contiguous()
        rates = (A.float() * math.log2(math.e)).transpose(1, 2).contiguous()
        x, B, C, D, delta_bias = (t.contiguous() for t in (x, B, C, D, delta_bias))
        self.tensors = (x, delta, rates, B, C, D, delta_bias)
        x_direction = 0 if x_copies == 1 else channels
        map_size = (pixels // map_width, map_width)
        self.sizes = (
            *map_size,
            self.directions,
            channels,
            x_copies * channels,
            x_direction,
            *delta.stride()[:3],
        )
        # tiles of 1024 (N = 4) or 2048 values (N = 16): larger ones do not fit into a Hopper's registers
        padded_states = triton.next_power_of_2(states)
        tile_channels = min(16, triton.next_power_of_2(channels))
        chunk = max(4, min(16, 2048 // (padded_states * tile_channels), triton.next_power_of_2(pixels)))
        self.chunks = triton.cdiv(pixels, chunk)
        self.options: dict[str, Any] = {
            "FOUR_DIRECTIONS": problem.is_cross_scan,
            "SOFTPLUS": delta_softplus,
            "N": states,
            "STATES": padded_states,
            "CHUNK": chunk,
            "CHANNELS": tile_channels,
        }
        self.grid = (triton.cdiv(channels, tile_channels), self.batch * self.directions)

    def run_forward(self, y: Tensor, saved_states: Tensor, save_states: bool) -> None:
        _scan_forward[self.grid](
            *self.tensors, y, saved_states, *self.sizes, SAVE_STATES=save_states, **self.options
        )


def forward(problem: Problem, save_states: bool = False) -> tuple[Tensor, None]:
    """y, in any floating-point type up to float32; saves no states."""
    p, x = _Launch(problem), problem.x
    y = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    with torch.cuda.device_of(x):
        p.run_forward(y, y, save_states=False)
    return y.to(x.dtype), None


def backward(grad: Tensor, problem: Problem, saved_states: Tensor | None = None) -> Gradients:
    """The gradients of the problem's first seven tensors; the states are computed again."""
    x, delta, A, B, C, D, delta_bias, *_ = problem
    p = _Launch(problem)
    K, channels, N = A.shape

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=x.device)

    chunk_states = empty(p.batch, K, p.chunks, N, channels)
    dx, dB, dC = (torch.zeros(t.shape, dtype=torch.float32, device=x.device) for t in (x, B, C))
    ddelta = torch.empty(delta.shape, dtype=delta.dtype, device=x.device)
    dA, dD, dbias = (
        empty(p.batch, K, N, channels),
        empty(p.batch, K, channels),
        empty(p.batch, K, channels),
    )
    with torch.cuda.device_of(x):
        p.run_forward(dx, chunk_states, save_states=True)
        outputs = (dx, ddelta, dA, dB, dC, dD, dbias)
        _scan_backward[p.grid](grad.contiguous(), *p.tensors, chunk_states, *outputs, *p.sizes, **p.options)
    return (
        dx.to(x.dtype),
        ddelta,
        dA.sum(0).transpose(1, 2).to(A.dtype),
        dB.to(B.dtype),
        dC.to(C.dtype),
        dD.sum(0).to(D.dtype),
        dbias.sum(0).to(delta_bias.dtype),
    )
