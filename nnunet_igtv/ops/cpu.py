"""The CPU backend: calls the kernels for the images of a batch and ranges of channels, in threads.

nnU-Net forks its workers. A child of a process that has used the threads of GNU OpenMP is killed, or hangs,
when it uses them itself. The kernels are therefore serial and release the interpreter's lock, and a pool of
Python threads calls them; a forked child makes a new pool. `torch.get_num_threads()` is the number of threads
at work; torch's data workers set it to 1.
"""

import math
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from . import cpu_backward, cpu_forward
from .codegen import FLOAT_BYTES, INDEX_BYTES, LANES, VECTOR_BYTES, compiled, processor
from .cpu_arguments import BackwardArguments, ForwardArguments
from .cpu_forward import SEGMENT
from .problem import Gradients, Problem
from .reference import pixel_orders

DEVICES = ("cpu",)
PROJECTS_DELTA = True
_MIN_WORK_FOR_THREADS = 200_000  # exponentials; for fewer, threads cost more time than they save

_pool: ThreadPoolExecutor | None = None


def _drop_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_pool)


def describe() -> str:
    return f"machine code for this {processor()[0]} processor, in torch's number of threads"


def _run_tasks(tasks: list[Callable[[], None]], threads: int) -> None:
    """Runs the tasks in this thread and in up to `threads` - 1 others."""
    global _pool
    queue = deque(tasks)

    def work() -> None:
        while True:
            try:
                task = queue.popleft()
            except IndexError:
                return
            task()

    helpers = []
    if threads > 1 and len(tasks) > 1:
        _pool = _pool or ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "nnunet_igtv_scan")
        helpers = [_pool.submit(work) for _ in range(min(threads, len(tasks)) - 1)]
    work()
    for helper in helpers:
        helper.result()


def _block_ranges(batch: int, blocks: int, threads: int, most: int) -> list[tuple[int, int]]:
    """Ranges of an image's channel blocks: the fewest, up to `most`, that occupy all threads equally."""
    count = max(1, min(threads // math.gcd(batch, threads), blocks, most))
    edges = [round(i * blocks / count) for i in range(count + 1)]
    return list(pairwise(edges))


@cache
def _forward_kernel(states: int, *options: bool) -> Callable[[ForwardArguments[int]], None]:
    return compiled(cpu_forward.forward(states, *options), ForwardArguments)


@cache
def _backward_kernel(states: int, *options: bool) -> Callable[[BackwardArguments[int]], None]:
    return compiled(cpu_backward.backward(states, *options), BackwardArguments)


@lru_cache(maxsize=64)
def _order(height: int, width: int, four_directions: bool) -> Tensor:
    """All directions' pixel orders, one after the other, with SEGMENT zeros before and after."""
    orders = pixel_orders(height, width, four_directions).to(torch.int32)
    return F.pad(orders.flatten(), (SEGMENT, SEGMENT))


def _blocks(channels: int) -> int:
    return -(-channels // LANES)


def states_shape(problem: Problem) -> tuple[int, ...]:
    """Shape of the states that `forward` saves: (B, K, segments, N, d), d padded to whole blocks."""
    batch, pixels, directions = problem.delta.shape[:3]
    channels, states = problem.A.shape[1:]
    return (batch, directions, -(-pixels // SEGMENT), states, _blocks(channels) * LANES)


class _Inputs:
    """A problem's tensors as the kernels read them: float32, channels dense and padded to whole blocks."""

    def __init__(self, problem: Problem) -> None:
        self.batch, self.pixels, self.directions = problem.delta.shape[:3]
        self.channels, self.states = problem.A.shape[1:]
        self.blocks = _blocks(self.channels)
        self.padding = self.blocks * LANES - self.channels
        self.x, self.D, self.bias = (self.dense(t) for t in (problem.x, problem.D, problem.delta_bias))
        self.A = self.dense(problem.A.transpose(1, 2) * math.log2(math.e))
        # these may be slices of one projection's output: they are read in place
        self.B, self.C = (self.last_axis_dense(t) for t in (problem.B, problem.C))
        self.rank, self.weight, delta = 0, self.bias, problem.delta
        if problem.delta_weight is not None:
            self.rank, self.weight = delta.shape[3], self.dense(problem.delta_weight.transpose(1, 2))
        in_place = self.rank or not self.padding
        self.delta = self.last_axis_dense(delta) if in_place else self.dense(delta)
        lowest, highest = (float(bound) for bound in self.A.aminmax())
        decaying = problem.delta_softplus and lowest >= -cpu_forward.MAX_RATE and highest <= 0.0
        self.options = (problem.delta_softplus, decaying)
        self.is_cross_scan = problem.is_cross_scan
        self.order = _order(self.pixels // problem.map_width, problem.map_width, self.is_cross_scan)
        work = self.batch * self.pixels * self.directions * self.channels * self.states
        self.threads = torch.get_num_threads() if work >= _MIN_WORK_FOR_THREADS else 1

    def arguments(self, image: int, first: int, last: int) -> dict[str, int]:
        """The fields of `ScanArguments` (not `scratch`) for channel blocks first ... last - 1 of an image."""
        at, row = first * VECTOR_BYTES, self.blocks * VECTOR_BYTES

        def strides(name: str, tensor: Tensor) -> dict[str, int]:
            pixel, direction = (FLOAT_BYTES * tensor.stride(axis) for axis in (1, 2))
            return {f"{name}_pixel_stride": pixel, f"{name}_direction_stride": direction}

        return {
            "x": self.x[image].data_ptr() + at,
            "delta": self.delta[image].data_ptr() + (0 if self.rank else at),
            "A": self.A.data_ptr() + at,
            "B": self.B[image].data_ptr(),
            "C": self.C[image].data_ptr(),
            "D": self.D.data_ptr() + at,
            "delta_bias": self.bias.data_ptr() + at,
            "order": self.order.data_ptr() + SEGMENT * INDEX_BYTES,
            "pixels": self.pixels,
            "channel_blocks": last - first,
            "directions": self.directions,
            "overwriting_directions": 1 if self.is_cross_scan else self.directions,
            "row_bytes": row,
            "x_pixel_stride": self.x.shape[2] * row,
            "x_direction_stride": 0 if self.is_cross_scan else row,
            "order_direction_stride": self.pixels * INDEX_BYTES if self.is_cross_scan else 0,
            **strides("delta", self.delta),
            **strides("B", self.B),
            **strides("C", self.C),
        }

    @staticmethod
    def last_axis_dense(tensor: Tensor) -> Tensor:
        """Float32, the last axis dense."""
        tensor = tensor.float()
        return tensor if tensor.stride(-1) == 1 else tensor.contiguous()

    def dense(self, tensor: Tensor) -> Tensor:
        """Float32, contiguous, channels (the last axis) padded with zeros."""
        tensor = tensor.float()
        return (F.pad(tensor, (0, self.padding)) if self.padding else tensor).contiguous()

    def without_padding(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        return tensor[..., : self.channels].to(dtype)


def _run_forward(p: _Inputs, y: Tensor, saved_states: Tensor | None) -> None:
    """Writes y and, if given, `saved_states`."""
    kernel = _forward_kernel(p.states, *p.options, p.rank > 0)

    def task(image: int, first: int, last: int) -> Callable[[], None]:
        def run() -> None:
            at = first * VECTOR_BYTES
            scratch = torch.empty(cpu_forward.scratch_bytes(p.states, last - first), dtype=torch.uint8)
            kernel(
                ForwardArguments(
                    **p.arguments(image, first, last),
                    scratch=scratch.data_ptr(),
                    delta_weight=p.weight.data_ptr() + at,
                    delta_rank=p.rank,
                    y=y[image].data_ptr() + at,
                    saved_states=0 if saved_states is None else saved_states[image].data_ptr() + at,
                    saved_blocks=0 if saved_states is None else last - first,
                )
            )

        return run

    ranges = _block_ranges(p.batch, p.blocks, p.threads, p.blocks)
    _run_tasks([task(image, *blocks) for image in range(p.batch) for blocks in ranges], p.threads)


def forward(problem: Problem, save_states: bool) -> tuple[Tensor, Tensor | None]:
    """y, computed in float32 whatever the inputs' floating-point type, and the saved states or None."""
    p = _Inputs(problem)
    y, saved_states = torch.empty_like(p.x), torch.empty(states_shape(problem)) if save_states else None
    _run_forward(p, y, saved_states)
    return p.without_padding(y, problem.x.dtype), saved_states


def backward(grad: Tensor, problem: Problem, saved_states: Tensor | None) -> Gradients:
    """The gradients of the problem's first seven tensors; states that were not saved are computed again."""
    p = _Inputs(problem)
    states = torch.empty(states_shape(problem)) if saved_states is None else saved_states
    if saved_states is None:
        _run_forward(p, torch.empty_like(p.x), states)
    kernel = _backward_kernel(p.states, *p.options)
    dy, dx = p.dense(grad), torch.empty_like(p.x)
    ddelta = torch.empty(p.batch, p.pixels, p.directions, p.channels + p.padding)
    dA, dD, dbias = (t.new_zeros(p.batch, *t.shape) for t in (p.A, p.D, p.bias))
    # each range writes its part of dB and dC; the number of ranges is limited so that these stay below delta
    ranges = _block_ranges(p.batch, p.blocks, p.threads, p.channels // (2 * p.states))
    dB, dC = (torch.empty(len(ranges), *t.shape) for t in (p.B, p.C))

    def task(image: int, part: int, first: int, last: int) -> Callable[[], None]:
        def run() -> None:
            at = first * VECTOR_BYTES
            scratch = torch.empty(cpu_backward.scratch_bytes(p.states, last - first), dtype=torch.uint8)
            kernel(
                BackwardArguments(
                    **p.arguments(image, first, last),
                    scratch=scratch.data_ptr(),
                    dy=dy[image].data_ptr() + at,
                    saved_states=states[image].data_ptr() + at,
                    dx=dx[image].data_ptr() + at,
                    ddelta=ddelta[image].data_ptr() + at,
                    dA=dA[image].data_ptr() + at,
                    dB=dB[part, image].data_ptr(),
                    dC=dC[part, image].data_ptr(),
                    dD=dD[image].data_ptr() + at,
                    ddelta_bias=dbias[image].data_ptr() + at,
                )
            )

        return run

    tasks = [task(image, part, *blocks) for image in range(p.batch) for part, blocks in enumerate(ranges)]
    _run_tasks(tasks, p.threads)
    return (
        p.without_padding(dx, problem.x.dtype),
        p.without_padding(ddelta, problem.delta.dtype),
        p.without_padding(dA.sum(0), problem.A.dtype).transpose(1, 2),
        dB.sum(0).to(problem.B.dtype) if len(ranges) > 1 else dB[0].to(problem.B.dtype),
        dC.sum(0).to(problem.C.dtype) if len(ranges) > 1 else dC[0].to(problem.C.dtype),
        p.without_padding(dD.sum(0), problem.D.dtype),
        p.without_padding(dbias.sum(0), problem.delta_bias.dtype),
    )
