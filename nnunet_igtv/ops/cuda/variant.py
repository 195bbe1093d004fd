"""What a CUDA kernel is compiled for, and how a problem is divided among a GPU's blocks."""

from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

import torch

from ..problem import Problem
from .arguments import DECLARATION

STEPS = 16  # of a chunk
MOST_STATES = 64
_TYPES = {"float32": 0, "float16": 1, "bfloat16": 2}
# A block's shared memory in the backward pass, at most: 4 blocks fit on a multiprocessor of an H100, one
# fits on that of every GPU since compute capability 7.5
_SHARED_BYTES = 56 << 10
_MOST_CHUNKS = 16  # of a segment in the backward pass
_FEWEST_CHUNKS = 2  # of a segment of a split sequence
_BLOCKS_PER_MULTIPROCESSOR = 8  # wanted at least: some wait for memory while others compute
_STEPS_PER_BLOCK = 256  # a block takes several short sequences, to load its parameters once for so many steps
# Instructions for a state and step, relative to those with 4 states in a thread: about the mean of both
# passes at N = 16, compiled for sm_90 (counted by benchmarks/scan_model.py)
_WORK = {4: 1.0, 2: 1.5, 1: 2.9}
_FLOAT = 4  # bytes


@cache
def source(pass_name: str) -> str:
    """The kernels' source for the forward or the backward pass."""
    parts = ("gpu.cuh", "common.cuh", "segments.cuh", f"{pass_name}.cuh")
    return DECLARATION + "\n".join((files(__package__) / part).read_text(encoding="utf-8") for part in parts)


@dataclass(frozen=True)
class Variant:
    """What the kernels of a pass are compiled for."""

    gradients: bool  # the backward pass
    lanes: int  # threads that share a channel
    states: int  # of a channel, in one thread
    rank: int  # 0: delta is given for all channels
    softplus: bool
    four_directions: bool
    x_type: str = "float32"
    projected_type: str = "float32"  # of delta, B and C

    @property
    def source(self) -> str:
        return source("backward" if self.gradients else "forward")

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 64 if self.lanes <= 2 else 128

    @property
    def channels(self) -> int:
        """Channels of a block."""
        return self.threads // self.lanes

    @cached_property
    def options(self) -> tuple[str, ...]:
        """For the compiler."""
        values = {
            "LANES": self.lanes,
            "STATES": self.states,
            "THREADS": self.threads,
            "STEPS": STEPS,
            "RANK_LOADS": -(-STEPS * self.rank // self.threads),
            "X_TYPE": _TYPES[self.x_type],
            "PROJECTED_TYPE": _TYPES[self.projected_type],
            "SOFTPLUS": int(self.softplus),
            "FOUR_DIRECTIONS": int(self.four_directions),
            "SEGMENT_GRADIENTS": int(self.gradients),
            "SEGMENT_BYTES": self._fixed_bytes("scan_segments"),
            "FORWARD_BYTES": self._fixed_bytes("scan_forward"),
            "BACKWARD_BYTES": self._fixed_bytes("scan_backward"),
        }
        return tuple(f"-D{name}={value}" for name, value in values.items())

    def _fixed_bytes(self, kernel: str) -> int:
        """The size of SegmentMemory, ForwardMemory or BackwardMemory."""
        chunk, padded = STEPS * self.channels, self.lanes * self.states
        if kernel != "scan_backward":
            return _FLOAT * (2 * STEPS * padded + 3 * chunk)
        warps = self.threads // 32
        return _FLOAT * (2 * STEPS * padded * (1 + warps) + 5 * chunk + STEPS)

    def shared_bytes(self, kernel: str, chunks: int = 1) -> int:
        """Shared memory of a block that computes segments of so many chunks."""
        if kernel == "scan_carry":
            return 0
        weights = 2 if kernel == "scan_backward" else 1
        projection = STEPS * self.rank + weights * self.rank * (self.channels + 1)
        kept = (chunks - 1) * self.threads * self.states if kernel == "scan_backward" else 0
        return self._fixed_bytes(kernel) + _FLOAT * (projection + kept)

    @property
    def most_chunks(self) -> int:
        """The longest segment of the backward pass; 0, if not even one chunk fits."""
        fitting = [
            n for n in range(1, _MOST_CHUNKS + 1) if self.shared_bytes("scan_backward", n) <= _SHARED_BYTES
        ]
        return max(fitting, default=0)


@dataclass(frozen=True)
class Division:
    """A problem among blocks."""

    variant: Variant
    images_per_block: int
    image_blocks: int
    segments: int
    segment_chunks: int
    channel_blocks: int


def divide(problem: Problem, gradients: bool, multiprocessors: int) -> Division:
    """Divides a problem so that the GPU is full with the fewest instructions.

    Few long sequences are split into segments; many short ones share a block.

    Raises:
        ValueError: more states, or more values to project delta from, than the kernels can hold.
    """
    return _divided(
        problem.delta.shape[:3],
        problem.A.shape[1:],
        0 if problem.delta_weight is None else problem.delta_weight.shape[2],
        (problem.delta_softplus, problem.is_cross_scan, problem.x.dtype, problem.delta.dtype),
        gradients,
        multiprocessors,
    )


@cache  # a network asks for few sizes, in every step
def _divided(
    sequences: tuple[int, ...],
    A: tuple[int, ...],
    rank: int,
    kind: tuple[bool, bool, torch.dtype, torch.dtype],
    gradients: bool,
    multiprocessors: int,
) -> Division:
    images, pixels, directions = sequences
    channels, states = A
    softplus, four_directions, *dtypes = kind
    if states > MOST_STATES:
        raise ValueError(f"the CUDA kernels compute at most {MOST_STATES} states, not {states}")
    padded = 1 << (states - 1).bit_length()
    types = [str(dtype).removeprefix("torch.") for dtype in dtypes]
    variants = [
        Variant(gradients, padded // count, count, rank, softplus, four_directions, *types)
        for count in (4, 2, 1)
        if count <= max(1, padded // 2)
        and padded <= 32 * count  # a thread with all states needs too many registers
    ]
    variants = [v for v in variants if v.most_chunks]
    if not variants:
        raise ValueError(f"the CUDA kernels cannot project delta from as many as {rank} values a pixel")
    chunks, wanted = -(-pixels // STEPS), _BLOCKS_PER_MULTIPROCESSOR * multiprocessors

    def blocks(variant: Variant) -> int:
        return images * directions * -(-channels // variant.channels)

    def work(variant: Variant) -> float:
        return -(-channels // variant.channels) * variant.channels * _WORK[variant.states]

    filling = [v for v in variants if blocks(v) * max(1, chunks // _FEWEST_CHUNKS) >= wanted]
    variant = min(filling, key=work) if filling else max(variants, key=lambda v: blocks(v) * v.threads)
    segment_chunks = max(_FEWEST_CHUNKS, chunks // -(-wanted // blocks(variant)))
    segment_chunks = min(chunks, segment_chunks, variant.most_chunks if gradients else chunks)
    segments = -(-chunks // segment_chunks)
    images_per_block = 1
    if segments == 1:
        most = max(1, blocks(variant) // wanted)
        images_per_block = min(max(1, _STEPS_PER_BLOCK // (chunks * STEPS)), most)
    return Division(
        variant,
        images_per_block,
        -(-images // images_per_block),
        segments,
        segment_chunks,
        -(-channels // variant.channels),
    )
