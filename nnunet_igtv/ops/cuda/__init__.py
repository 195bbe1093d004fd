"""The scan on a GPU in CUDA C++, forward and backward, compiled by NVRTC at the first call.

The kernels are in `common.cuh`, `forward.cuh` and `backward.cuh`. They read x, B, C and delta in place for
all directions. They project delta themselves, so that neither it nor its gradient is written for all
channels. The forward pass saves no states: the backward pass first computes the state before every STEPS
steps again, unless the sequences have no more steps than that. All sums are float32.

Sums over directions and over blocks are atomic additions: repeated runs may differ in the last bits.
"""

import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

from ..problem import Problem
from . import compiler
from .arguments import DECLARATION, Arguments

DEVICES = ("cuda",)
PROJECTS_DELTA = True
PROJECTS_GRADIENTS = True

STEPS = 16  # of a chunk
THREADS = 128  # of a block
MOST_STATES = 128
_BLOCKS_PER_MULTIPROCESSOR = (
    8  # that many are wanted at least, so that some wait for memory while others compute
)
_STEPS_PER_BLOCK = 256  # a block takes several short sequences, to load its parameters once for so many steps
_MOST_SHARED_BYTES = 64 << 10  # of a block, on a GPU of compute capability 7.5; newer ones have more
_FLOAT = 4  # bytes


def describe() -> str:
    return "kernels compiled by NVRTC"


@cache
def source() -> str:
    """The kernels' source."""
    parts = ("common.cuh", "forward.cuh", "backward.cuh")
    return DECLARATION + "\n".join((files(__package__) / part).read_text(encoding="utf-8") for part in parts)


@dataclass(frozen=True)
class Variant:
    """What a kernel is compiled for."""

    lanes: int  # threads that share a channel
    states: int  # of a channel, in one thread
    rank: int  # 0: delta is given for all channels
    softplus: bool
    four_directions: bool

    @property
    def channels(self) -> int:
        """Channels of a block."""
        return THREADS // self.lanes

    @property
    def options(self) -> tuple[str, ...]:
        """For the compiler."""
        values = {
            "LANES": self.lanes,
            "STATES": self.states,
            "STEPS": STEPS,
            "RANK_LOADS": -(-STEPS * self.rank // THREADS),
            "SOFTPLUS": int(self.softplus),
            "FOUR_DIRECTIONS": int(self.four_directions),
            "FORWARD_BYTES": self._fixed_bytes(forward=True),
            "BACKWARD_BYTES": self._fixed_bytes(forward=False),
        }
        return tuple(f"-D{name}={value}" for name, value in values.items())

    def _fixed_bytes(self, forward: bool) -> int:
        """The size of ForwardMemory or BackwardMemory."""
        chunk, padded = STEPS * self.channels, self.lanes * self.states
        if forward:
            return _FLOAT * (2 * STEPS * padded + 3 * chunk)
        warps = THREADS // 32
        return _FLOAT * (STEPS * THREADS * self.states + 2 * STEPS * padded * (1 + warps) + 5 * chunk)

    def shared_bytes(self, forward: bool) -> int:
        """Shared memory of a block, with what the projection of delta needs."""
        weights = 1 if forward else 2
        projection = STEPS * self.rank + weights * self.rank * (self.channels + 1)
        return self._fixed_bytes(forward) + _FLOAT * projection


def _variant(problem: Problem, multiprocessors: int) -> Variant:
    """As many states in a thread as leave enough blocks for the GPU."""
    images, _, directions = problem.delta.shape[:3]
    channels, states = problem.A.shape[1:]
    if states > MOST_STATES:
        raise ValueError(f"the CUDA kernels compute at most {MOST_STATES} states, not {states}")
    padded = 1 << (states - 1).bit_length()
    rank = 0 if problem.delta_weight is None else problem.delta_weight.shape[2]
    variants = [
        Variant(padded // count, count, rank, problem.delta_softplus, problem.is_cross_scan)
        for count in (4, 2, 1)
        if count <= padded <= 32 * count
    ]
    variants = [v for v in variants if v.shared_bytes(forward=False) <= _MOST_SHARED_BYTES]
    if not variants:
        raise ValueError(f"the CUDA kernels cannot project delta from as many as {rank} values a pixel")
    for variant in variants:
        blocks = images * directions * -(-channels // variant.channels)
        if blocks >= _BLOCKS_PER_MULTIPROCESSOR * multiprocessors:
            return variant
    return variants[-1]


class _Launch:
    """A problem as the kernels read it, and the grid of blocks."""

    def __init__(self, problem: Problem) -> None:
        x, A, width = problem.x, problem.A, problem.map_width
        self.device, self.x = x.device, x.float().contiguous()
        self.images, self.pixels, self.directions = problem.delta.shape[:3]
        self.channels, self.states = A.shape[1:]
        multiprocessors = compiler.multiprocessors(self.device)
        self.variant = _variant(problem, multiprocessors)
        self.chunks = -(-self.pixels // STEPS)
        height = self.pixels // width
        if self.pixels * height >= 2**32:
            raise ValueError(f"a map of {height} x {width} pixels is too large for the CUDA kernels")
        channel_blocks = -(-self.channels // self.variant.channels)
        blocks = self.images * self.directions * channel_blocks
        images_per_block = min(
            max(1, _STEPS_PER_BLOCK // (self.chunks * STEPS)),
            max(1, blocks // (_BLOCKS_PER_MULTIPROCESSOR * multiprocessors)),
        )
        self.grid = (-(-self.images // images_per_block) * self.directions, channel_blocks)
        weight = problem.delta_weight
        # kept here, for a kernel holds only addresses
        self.inputs = {
            "x": self.x,
            "delta": self._last_axis_dense(problem.delta),
            "A": (A.float() * math.log2(math.e)).contiguous(),
            "B": self._last_axis_dense(problem.B),
            "C": self._last_axis_dense(problem.C),
            "D": problem.D.float().contiguous(),
            "delta_bias": problem.delta_bias.float().contiguous(),
            **({} if weight is None else {"delta_weight": weight.float().contiguous()}),
        }
        self.arguments = Arguments(
            **{name: tensor.data_ptr() for name, tensor in self.inputs.items()},
            images=self.images,
            images_per_block=images_per_block,
            pixels=self.pixels,
            height=height,
            width=width,
            directions=self.directions,
            channels=self.channels,
            states=self.states,
            rank=self.variant.rank,
            x_pixel_stride=self.x.shape[2] * self.channels,
            x_direction_stride=0 if problem.is_cross_scan else self.channels,
            by_height=0 if height == 1 else -(-(2**32) // height),
            **{
                f"{name}_{axis}_stride": self.inputs[name].stride(i)
                for name in ("delta", "B", "C")
                for i, axis in enumerate(("image", "pixel", "direction"))
            },
        )

    @staticmethod
    def _last_axis_dense(tensor: Tensor) -> Tensor:
        tensor = tensor.float()
        return tensor if tensor.stride(-1) == 1 else tensor.contiguous()

    def zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float32, device=self.device)

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self.device)

    def run(self, kernel: str, **tensors: Tensor) -> None:
        """Starts a kernel with further tensors."""
        for name, tensor in tensors.items():
            setattr(self.arguments, name, tensor.data_ptr())
        compiler.launch(
            source(),
            self.variant.options,
            kernel,
            self.grid,
            THREADS,
            self.variant.shared_bytes(forward=kernel != "scan_backward"),
            self.arguments,
            self.device,
        )


def forward(problem: Problem, save_states: bool = False) -> tuple[Tensor, None]:
    """y, computed in float32 whatever the inputs' floating-point type; saves no states."""
    p = _Launch(problem)
    # four directions add to y; a single one writes it
    y = p.zeros(*p.x.shape) if problem.is_cross_scan else p.empty(*p.x.shape)
    p.run("scan_forward", y=y)
    return y.to(problem.x.dtype), None


def backward(grad: Tensor, problem: Problem, saved_states: Tensor | None = None) -> tuple[Tensor, ...]:
    """The gradients of the problem's first seven tensors, and of delta_weight where it is given."""
    p, rank = _Launch(problem), problem.delta.shape[3]
    K, d, N = p.directions, p.channels, p.states
    padded = p.variant.lanes * p.variant.states
    states = p.empty(p.images, K, p.chunks - 1, d, padded)
    if p.chunks > 1:
        p.run("scan_states", saved_states=states)
    dy = grad.float().contiguous()
    make = p.zeros if problem.is_cross_scan else p.empty
    projects = problem.delta_weight is not None
    gradients = {
        "dx": make(*p.x.shape),
        "ddelta": (p.zeros if projects else p.empty)(p.images, p.pixels, K, rank),
        "dA": p.zeros(K, d, N),
        "dB": p.zeros(p.images, p.pixels, K, N),
        "dC": p.zeros(p.images, p.pixels, K, N),
        "dD": p.zeros(K, d),
        "ddelta_bias": p.zeros(K, d),
        **({"ddelta_weight": p.zeros(K, d, rank)} if projects else {}),
    }
    p.run("scan_backward", saved_states=states, dy=dy, **gradients)
    inputs = [*problem[:7], problem.delta_weight]
    return tuple(g.to(t.dtype) for g, t in zip(gradients.values(), inputs, strict=False) if t is not None)
