"""The scan on the CPU: `cpu_kernels` over images and runs of channels, in threads that survive a fork.

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

from . import cpu_kernels as kernels
from .lanes import FLOAT, LANES, WIDE, compiled, processor
from .reference import pixel_orders

DEVICES = ("cpu",)
WIDENS = True
_LONGEST_RUN = 24
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
    """The channel blocks of an image cut into as few runs as share a batch evenly among the threads.

    A run has no more than `_LONGEST_RUN` blocks, which bounds the working memory of the backward pass.
    """
    count = max(threads // math.gcd(batch, threads), -(-blocks // _LONGEST_RUN))
    count = max(1, min(count, blocks, most))
    edges = [round(i * blocks / count) for i in range(count + 1)]
    return list(pairwise(edges))


@cache
def _forward_kernel(states: int, *options: bool) -> Callable[..., None]:
    return compiled(kernels.forward(states, *options), kernels.FORWARD_ARGUMENTS)


@cache
def _backward_kernel(states: int, *options: bool) -> Callable[..., None]:
    return compiled(kernels.backward(states, *options), kernels.BACKWARD_ARGUMENTS)


@lru_cache(maxsize=64)
def _order(height: int, width: int, crossed: bool) -> Tensor:
    """The directions' pixels one after the other, and some more, any, before them and after them."""
    orders = pixel_orders(height, width, crossed).to(torch.int32)
    return F.pad(orders.flatten(), (kernels.FARTHEST, kernels.FARTHEST))


class _Problem:
    """The operator's arguments as the kernels want them: float32, channels dense and in whole blocks."""

    def __init__(
        self,
        x: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        delta_bias: Tensor,
        width: int,
        delta_softplus: bool,
        delta_weight: Tensor | None = None,
    ) -> None:
        self.batch, self.pixels, self.directions = delta.shape[:3]
        self.channels, self.states = A.shape[1:]
        self.missing = -self.channels % LANES
        self.blocks = (self.channels + self.missing) // LANES
        self.x, self.D, self.bias = (self.dense(t) for t in (x, D, delta_bias))
        self.A = self.dense(A.transpose(1, 2) * math.log2(math.e))
        # the narrow tensors are read where a projection left them
        self.B, self.C = (self.dense_last(t) for t in (B, C))
        self.rank, self.weight = 0, self.bias
        if delta_weight is not None:
            self.rank, self.weight = delta.shape[3], self.dense(delta_weight.transpose(1, 2))
        whole = delta_weight is None and self.missing
        self.delta = self.dense(delta) if whole else self.dense_last(delta)
        lowest, highest = (float(bound) for bound in self.A.aminmax())
        decaying = delta_softplus and lowest >= -kernels.BOUND and highest <= 0.0
        self.options = (delta_softplus, decaying)
        shared = x.shape[2]
        crossed = shared != self.directions
        self.order = _order(self.pixels // width, width, crossed)
        row = self.blocks * WIDE
        x_turn, order_turn = 0 if shared == 1 else row, 4 * self.pixels if crossed else 0
        distances = (FLOAT * t.stride(axis) for t in (self.delta, self.B, self.C) for axis in (1, 2))
        self.fresh = 1 if crossed else self.directions
        self.sizes = (row, *distances, shared * row, x_turn, order_turn)
        work = self.batch * self.pixels * self.directions * self.channels * self.states
        self.threads = torch.get_num_threads() if work >= _WORTH_A_THREAD else 1

    def inputs(self, image: int, at: int) -> tuple[int, ...]:
        """Addresses of an image's inputs, `at` bytes after the first channel."""
        delta = self.delta[image].data_ptr() + (0 if self.rank else at)
        places = (self.B[image].data_ptr(), self.C[image].data_ptr())
        order = self.order.data_ptr() + 4 * kernels.FARTHEST
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


def forward(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    width: int,
    delta_softplus: bool,
    delta_weight: Tensor | None = None,
) -> Tensor:
    """The scan; arguments as in `nnunet_igtv.ops.scan`, in any floating-point type, computed in float32."""
    p = _Problem(x, delta, A, B, C, D, delta_bias, width, delta_softplus, delta_weight)
    kernel = _forward_kernel(p.states, *p.options, delta_weight is not None)
    y = torch.empty_like(p.x)

    def task(image: int, first: int, last: int) -> Callable[[], None]:
        def run() -> None:
            at = first * WIDE
            scratch = torch.empty(kernels.forward_scratch(p.states, last - first), dtype=torch.uint8)
            kernel(
                *p.inputs(image, at),
                p.weight.data_ptr() + at,
                y[image].data_ptr() + at,
                scratch.data_ptr(),
                p.pixels,
                last - first,
                p.directions,
                p.fresh,
                p.rank,
                *p.sizes,
            )

        return run

    runs = _runs(p.batch, p.blocks, p.threads, p.blocks)
    _run([task(image, *run) for image in range(p.batch) for run in runs], p.threads)
    return p.trimmed(y, x.dtype)


def backward(
    grad: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    width: int,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of `forward`'s seven tensors."""
    p = _Problem(x, delta, A, B, C, D, delta_bias, width, delta_softplus)
    kernel = _backward_kernel(p.states, *p.options)
    dy, dx = p.dense(grad), torch.empty_like(p.x)
    ddelta = torch.empty(p.batch, p.pixels, p.directions, p.channels + p.missing)
    dA, dD, dbias = (t.new_zeros(p.batch, *t.shape) for t in (p.A, p.D, p.bias))
    # each run of channels has its share of dB and dC: no more runs than keep these smaller than delta
    runs = _runs(p.batch, p.blocks, p.threads, p.channels // (2 * p.states))
    dB, dC = (torch.empty(len(runs), *t.shape) for t in (p.B, p.C))

    def task(image: int, share: int, first: int, last: int) -> Callable[[], None]:
        def run() -> None:
            at, chunks = first * WIDE, -(-p.pixels // kernels.CHUNK_BACK)
            size = kernels.backward_scratch(p.states, last - first, chunks)
            scratch = torch.empty(size, dtype=torch.uint8)
            kernel(
                dy[image].data_ptr() + at,
                *p.inputs(image, at),
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
        p.trimmed(dx, x.dtype),
        p.trimmed(ddelta, delta.dtype),
        p.trimmed(dA.sum(0), A.dtype).transpose(1, 2),
        dB.sum(0).to(B.dtype) if len(runs) > 1 else dB[0].to(B.dtype),
        dC.sum(0).to(C.dtype) if len(runs) > 1 else dC[0].to(C.dtype),
        p.trimmed(dD.sum(0), D.dtype),
        p.trimmed(dbias.sum(0), delta_bias.dtype),
    )
