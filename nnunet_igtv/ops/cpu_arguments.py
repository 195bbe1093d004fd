"""The arguments of the CPU kernels, by name, for the code that calls a kernel and for the kernel itself.

One call computes one image and a range of its channels. Channels are dense and padded to a multiple of
`LANES`; `d` counts the padding. N is the number of states, K of directions, P of pixels. Tensors are float32
unless stated otherwise. The address of a tensor with channels is that of the range's first channel.

Strides are in bytes: a pixel stride leads from a pixel to the next one, a direction stride from a direction
to the next one. A direction stride is 0 where all directions share the memory.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

Number = TypeVar("Number")  # int where a kernel is called, `codegen.Integer` in the kernel


@dataclass(frozen=True, kw_only=True)
class ScanArguments(Generic[Number]):
    """What the forward and the backward pass read."""

    x: Number  # (P, 1 or K, d)
    delta: Number  # (P, K, d); or (P, K, R), where the forward pass projects it with `delta_weight`
    A: Number  # (K, N, d), times log2(e)
    B: Number  # (P, K, N)
    C: Number  # (P, K, N)
    D: Number  # (K, d)
    delta_bias: Number  # (K, d)
    order: Number  # (K, P) int32: the pixel of each step; SEGMENT readable indices precede and follow it
    pixels: Number
    channel_blocks: Number  # blocks of LANES channels in the range
    directions: Number
    overwriting_directions: Number  # these first directions write y, or dx; the others add to it
    row_bytes: Number  # of d floats
    x_pixel_stride: Number  # of y, dy and dx, too
    x_direction_stride: Number  # of y, dy and dx, too
    delta_pixel_stride: Number
    delta_direction_stride: Number
    B_pixel_stride: Number
    B_direction_stride: Number
    C_pixel_stride: Number
    C_direction_stride: Number
    order_direction_stride: Number
    scratch: Number  # working memory of the pass, `scratch_bytes` long


@dataclass(frozen=True, kw_only=True)
class ForwardArguments(ScanArguments[Number]):
    """The forward pass: writes y and `saved_states`."""

    delta_weight: Number  # (K, R, d), not read where R is 0
    delta_rank: Number  # R
    y: Number  # as x
    saved_states: Number  # (K, segments, N, d): the state before every SEGMENT steps
    saved_blocks: Number  # 0, where no states are to be saved; else as `channel_blocks`


@dataclass(frozen=True, kw_only=True)
class BackwardArguments(ScanArguments[Number]):
    """The backward pass: writes dx, ddelta, dB and dC; adds to dA, dD and ddelta_bias."""

    dy: Number  # as x
    saved_states: Number  # as `ForwardArguments.saved_states`
    dx: Number  # as x
    ddelta: Number  # (P, K, d), contiguous
    dA: Number  # (K, N, d)
    dB: Number  # (P, K, N), contiguous: this range's part of the sum over all channels
    dC: Number  # likewise
    dD: Number  # (K, d)
    ddelta_bias: Number  # (K, d)
