"""The scan on the CPU: its kernels over images and runs of channels, in threads that survive a fork.

Threads: nnU-Net forks its workers, and a child of a process that has used GNU OpenMP's threads is killed, or
hangs, when it uses them in turn. So the kernels are serial, let go of the interpreter's lock, and are handed
out by a pool of Python threads that a forked child builds anew. As many threads work as
`torch.get_num_threads()` says, which is 1 in torch's own data workers.
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
from .cpu_forward import SPAN
from .lanes import FLOAT, LANES, WIDE, compiled, processor
from .problem import Gradients, Problem
from .reference import pixel_orders

DEVICES = ("cpu",)
WIDENS = True
_WORTH_A_THREAD = 200_000  # exponentials; below, handing work over costs more than it saves

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def describe() -> str:
    return f"machine code for this {processor()[0]} processor, in torch's number of threads"


def _run(tasks: list[Callable[[], None]], threads: int) -> None:
    """Works through the tasks, this thread among the others."""
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


def _runs(batch: int, blocks: int, threads: int, most: int) -> list[tuple[int, int]]:
    """The channel blocks of an image cut into as few runs as share a batch evenly among the threads."""
    count = max(1, min(threads // math.gcd(batch, threads), blocks, most))
    edges = [round(i * blocks / count) for i in range(count + 1)]
    return list(pairwise(edges))


@cache
def _forward_kernel(states: int, *options: bool) -> Callable[..., None]:
    return compiled(cpu_forward.forward(states, *options))


@cache
def _backward_kernel(states: int, *options: bool) -> Callable[..., None]:
    return compiled(cpu_backward.backward(states, *options))


@lru_cache(maxsize=64)
def _order(height: int, width: int, crossed: bool) -> Tensor:
    """The directions' pixels one after the other, and some more, any, before them and after them."""
    orders = pixel_orders(height, width, crossed).to(torch.int32)
    return F.pad(orders.flatten(), (SPAN, SPAN))


def _blocks(channels: int) -> int:
    return -(-channels // LANES)


def states_shape(problem: Problem) -> tuple[int, ...]:
    """Of what `forward` keeps for `backward`: the state before every SPAN steps, (B, K, spans, N, d)."""
    batch, pixels, directions = problem.delta.shape[:3]
    channels, states = problem.A.shape[1:]
    return (batch, directions, -(-pixels // SPAN), states, _blocks(channels) * LANES)


class _Prepared:
    """A problem as the kernels want it: float32, channels dense and in whole blocks."""

    def __init__(self, problem: Problem) -> None:
        self.batch, self.pixels, self.directions = problem.delta.shape[:3]
        self.channels, self.states = problem.A.shape[1:]
        self.blocks = _blocks(self.channels)
        self.missing = self.blocks * LANES - self.channels
        self.x, self.D, self.bias = (self.dense(t) for t in (problem.x, problem.D, problem.delta_bias))
        self.A = self.dense(problem.A.transpose(1, 2) * math.log2(math.e))
        # the narrow tensors are read where a projection left them
        self.B, self.C = (self.dense_last(t) for t in (problem.B, problem.C))
        self.rank, self.weight, delta = 0, self.bias, problem.delta
        if problem.delta_weight is not None:
            self.rank, self.weight = delta.shape[3], self.dense(problem.delta_weight.transpose(1, 2))
        self.delta = self.dense_last(delta) if self.rank or not self.missing else self.dense(delta)
        lowest, highest = (float(bound) for bound in self.A.aminmax())
        decaying = problem.delta_softplus and lowest >= -cpu_forward.BOUND and highest <= 0.0
        self.options = (problem.delta_softplus, decaying)
        self.order = _order(self.pixels // problem.width, problem.width, problem.crossed)
        row, shared = self.blocks * WIDE, problem.x.shape[2]
        x_turn, order_turn = 0 if shared == 1 else row, 4 * self.pixels if problem.crossed else 0
        distances = (FLOAT * t.stride(axis) for t in (self.delta, self.B, self.C) for axis in (1, 2))
        self.fresh = 1 if problem.crossed else self.directions
        self.sizes = (row, *distances, shared * row, x_turn, order_turn)
        work = self.batch * self.pixels * self.directions * self.channels * self.states
        self.threads = torch.get_num_threads() if work >= _WORTH_A_THREAD else 1

    def inputs(self, image: int, at: int) -> tuple[int, ...]:
        """Addresses of an image's inputs, `at` bytes after the first channel."""
        delta = self.delta[image].data_ptr() + (0 if self.rank else at)
        places = (self.B[image].data_ptr(), self.C[image].data_ptr())
        order = self.order.data_ptr() + 4 * SPAN
        first, rates = self.x[image].data_ptr() + at, self.A.data_ptr() + at
        return (first, delta, rates, *places, self.D.data_ptr() + at, self.bias.data_ptr() + at, order)

    @staticmethod
    def dense_last(tensor: Tensor) -> Tensor:
        """Float32, the last axis dense."""
        tensor = tensor.float()
        return tensor if tensor.stride(-1) == 1 else tensor.contiguous()

    def dense(self, tensor: Tensor) -> Tensor:
        """Float32, contiguous, channels (the last axis) padded with zeros."""
        tensor = tensor.float()
        return (F.pad(tensor, (0, self.missing)) if self.missing else tensor).contiguous()

    def trimmed(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """Without the padding, in the caller's type."""
        return tensor[..., : self.channels].to(dtype)


def _advance(p: _Prepared, y: Tensor, states: Tensor | None) -> None:
    """Writes y and, where there is room for them, the states kept."""
    kernel = _forward_kernel(p.states, *p.options, p.rank > 0)

    def task(image: int, first: int, last: int) -> Callable[[], None]:
        def run() -> None:
            at = first * WIDE
            scratch = torch.empty(cpu_forward.scratch_bytes(p.states, last - first), dtype=torch.uint8)
            kernel(
                *p.inputs(image, at),
                p.weight.data_ptr() + at,
                y[image].data_ptr() + at,
                0 if states is None else states[image].data_ptr() + at,
                scratch.data_ptr(),
                p.pixels,
                last - first,
                0 if states is None else last - first,
                p.directions,
                p.fresh,
                p.rank,
                *p.sizes,
            )

        return run

    runs = _runs(p.batch, p.blocks, p.threads, p.blocks)
    _run([task(image, *run) for image in range(p.batch) for run in runs], p.threads)


def forward(problem: Problem, keep: bool) -> tuple[Tensor, Tensor | None]:
    """y, computed in float32 whatever the inputs' floating-point type, and with `keep` the states kept."""
    p = _Prepared(problem)
    y, states = torch.empty_like(p.x), torch.empty(states_shape(problem)) if keep else None
    _advance(p, y, states)
    return p.trimmed(y, problem.x.dtype), states


def backward(grad: Tensor, problem: Problem, states: Tensor | None) -> Gradients:
    """The gradients of the problem's first seven tensors; what `forward` has not kept is computed again."""
    p = _Prepared(problem)
    kept = torch.empty(states_shape(problem)) if states is None else states
    if states is None:
        _advance(p, torch.empty_like(p.x), kept)
    kernel = _backward_kernel(p.states, *p.options)
    dy, dx = p.dense(grad), torch.empty_like(p.x)
    ddelta = torch.empty(p.batch, p.pixels, p.directions, p.channels + p.missing)
    dA, dD, dbias = (t.new_zeros(p.batch, *t.shape) for t in (p.A, p.D, p.bias))
    # each run of channels has its share of dB and dC: no more runs than keep these smaller than delta
    runs = _runs(p.batch, p.blocks, p.threads, p.channels // (2 * p.states))
    dB, dC = (torch.empty(len(runs), *t.shape) for t in (p.B, p.C))

    def task(image: int, share: int, first: int, last: int) -> Callable[[], None]:
        def run() -> None:
            at = first * WIDE
            scratch = torch.empty(cpu_backward.scratch_bytes(p.states, last - first), dtype=torch.uint8)
            kernel(
                dy[image].data_ptr() + at,
                *p.inputs(image, at),
                kept[image].data_ptr() + at,
                dx[image].data_ptr() + at,
                ddelta[image].data_ptr() + at,
                dA[image].data_ptr() + at,
                dB[share, image].data_ptr(),
                dC[share, image].data_ptr(),
                dD[image].data_ptr() + at,
                dbias[image].data_ptr() + at,
                scratch.data_ptr(),
                p.pixels,
                last - first,
                p.directions,
                p.fresh,
                *p.sizes,
            )

        return run

    tasks = [task(image, share, *run) for image in range(p.batch) for share, run in enumerate(runs)]
    _run(tasks, p.threads)
    return (
        p.trimmed(dx, problem.x.dtype),
        p.trimmed(ddelta, problem.delta.dtype),
        p.trimmed(dA.sum(0), problem.A.dtype).transpose(1, 2),
        dB.sum(0).to(problem.B.dtype) if len(runs) > 1 else dB[0].to(problem.B.dtype),
        dC.sum(0).to(problem.C.dtype) if len(runs) > 1 else dC[0].to(problem.C.dtype),
        p.trimmed(dD.sum(0), problem.D.dtype),
        p.trimmed(dbias.sum(0), problem.delta_bias.dtype),
    )
