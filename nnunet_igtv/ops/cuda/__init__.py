"""The scan on a GPU in CUDA C++, forward and backward, compiled by NVRTC at the first call.

The kernels are in the `.cuh` files. They read x, B, C and delta in place and in their own type, for all
directions, and project delta themselves, so that neither it nor its gradient is written for all channels. All
sums are float32. The forward pass saves no states. Where a sequence is split into segments (`segments.cuh`),
a pass writes the state before each segment and frees it at its end.

Sums over directions and over blocks are atomic additions: repeated runs may differ in the last bits. Under
`torch.use_deterministic_algorithms(True)`, every addend gets its own memory, and runs are equal.
"""

import torch
from torch import Tensor

from ..problem import Problem
from . import compiler
from .arguments import Arguments
from .variant import divide

DEVICES = ("cuda",)
PROJECTS_DELTA = True
PROJECTS_GRADIENTS = True
_HALVES = (torch.float16, torch.bfloat16)


def describe() -> str:
    return "our kernels, compiled by NVRTC"


def _separates_sums() -> bool:
    """Whether the user asked for equal results in repeated runs."""
    return torch.are_deterministic_algorithms_enabled()


def _in_one_type(*tensors: Tensor) -> list[Tensor]:
    """The tensors themselves, if all have the same half-precision type; else in float32."""
    kinds = {t.dtype for t in tensors}
    return list(tensors) if len(kinds) == 1 and kinds <= set(_HALVES) else [t.float() for t in tensors]


def _last_axis_dense(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


class _Launch:
    """A problem as the kernels of a pass read it, and its blocks."""

    def __init__(self, problem: Problem, grad: Tensor | None) -> None:
        x, dy = _in_one_type(problem.x, problem.x if grad is None else grad)
        delta, B, C = _in_one_type(problem.delta, problem.B, problem.C)
        problem = problem._replace(x=x.contiguous(), delta=delta, B=B, C=C)
        self.device, self.shape, self.is_cross_scan = x.device, x.shape, problem.is_cross_scan
        self.images, self.pixels, self.directions = delta.shape[:3]
        self.channels, self.states = problem.A.shape[1:]
        height = self.pixels // problem.map_width
        values = [delta.shape[1] * delta.stride(1), *(t.shape[1] * t.stride(1) for t in (B, C))]
        values += [self.pixels * self.directions * max(self.channels, self.states), self.pixels * height // 2]
        if max(values) >= 2**31:  # the kernels count within an image in 32 bits
            size = f"{height} x {problem.map_width}"
            raise ValueError(f"a map of {size} pixels is too large for the CUDA kernels")
        self.divided = divide(problem, grad is not None, compiler.multiprocessors(self.device))
        self.separate = _separates_sums()
        self.to_zero: list[Tensor] = []
        weight = problem.delta_weight
        # kept here, for a kernel holds only addresses
        self.inputs = {
            "x": problem.x,
            "delta": _last_axis_dense(delta),
            "B": _last_axis_dense(B),
            "C": _last_axis_dense(C),
            "dy": dy.contiguous(),  # not read by the forward pass
            "A": problem.A.float().contiguous(),
            "D": problem.D.float().contiguous(),
            "delta_bias": problem.delta_bias.float().contiguous(),
            **({} if weight is None else {"delta_weight": weight.float().contiguous()}),
        }
        self.arguments = Arguments(
            **{name: tensor.data_ptr() for name, tensor in self.inputs.items()},
            images=self.images,
            images_per_block=self.divided.images_per_block,
            segments=self.divided.segments,
            segment_chunks=self.divided.segment_chunks,
            pixels=self.pixels,
            height=height,
            width=problem.map_width,
            directions=self.directions,
            channels=self.channels,
            states=self.states,
            rank=self.divided.variant.rank,
            separate=int(self.separate),
            x_pixel_stride=x.shape[2] * self.channels,
            x_direction_stride=0 if self.is_cross_scan else self.channels,
            by_height=0 if height == 1 else -(-(2**32) // height),
            **{
                f"{name}_{axis}_stride": self.inputs[name].stride(i)
                for name in ("delta", "B", "C")
                for i, axis in enumerate(("image", "pixel", "direction"))
            },
        )

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self.device)

    def sums(self, addends: int, *shape: int) -> Tensor:
        """To add to, with an axis of the addends where they are kept separately; `zero_sums` comes before."""
        self.to_zero.append(self.empty(addends if self.separate else 1, *shape))
        return self.to_zero[-1]

    def sums_of_directions(self) -> Tensor:
        """For y or dx: four directions add to it, a single one writes it."""
        return self.sums(4, *self.shape) if self.is_cross_scan else self.empty(1, *self.shape)

    def zero_sums(self) -> None:
        """Fills all sums in one kernel, or a few where they are large: small maps are bound by the host."""
        if self.to_zero:
            torch._foreach_zero_(self.to_zero)  # torch.foreach.zero_ of newer versions

    def run(self, kernel: str, tensors: dict[str, Tensor], grid: tuple[int, int] | None = None) -> None:
        """Starts a kernel with further tensors."""
        for name, tensor in tensors.items():
            setattr(self.arguments, name, tensor.data_ptr())
        d = self.divided
        compiler.launch(
            d.variant.source,
            d.variant.options,
            kernel,
            grid or (d.image_blocks * d.segments * self.directions, d.channel_blocks),
            d.variant.threads,
            d.variant.shared_bytes(kernel, d.segment_chunks),
            self.arguments,
            self.device,
        )

    def between_segments(self) -> dict[str, Tensor]:
        """The state before each segment, and what else `segments.cuh` writes; nothing where none is split."""
        d, K = self.divided, self.directions
        if d.segments == 1:
            return {}
        padded = d.variant.lanes * d.variant.states
        names = ["states_before", *(["gradients_behind"] if d.variant.gradients else [])]
        tensors = {n: self.empty(self.images, K, d.segments, self.channels, padded) for n in names}
        tensors["lengths"] = self.empty(self.images, K, d.segments, self.channels)
        self.run("scan_segments", tensors)
        threads = self.images * K * self.channels * padded
        self.run("scan_carry", {}, (-(-threads // d.variant.threads), 1))
        return tensors


def _added(sums: Tensor) -> Tensor:
    """Without the leading axis of addends."""
    return sums.sum(0) if len(sums) > 1 else sums[0]


def forward(problem: Problem, save_states: bool = False) -> tuple[Tensor, None]:
    """y, in x's type; saves no states."""
    p = _Launch(problem, None)
    kept = p.between_segments()
    y = p.sums_of_directions()
    p.zero_sums()
    p.run("scan_forward", {"y": y, **kept})
    return _added(y).to(problem.x.dtype), None


def backward(grad: Tensor, problem: Problem, saved_states: Tensor | None = None) -> tuple[Tensor, ...]:
    """The gradients of the problem's first seven tensors, and of delta_weight where it is given."""
    p, rank = _Launch(problem, grad), problem.delta.shape[3]
    B, P, K, d, N = p.images, p.pixels, p.directions, p.channels, p.states
    projects = problem.delta_weight is not None
    kept = p.between_segments()
    rows, parameters = p.divided.channel_blocks, p.divided.image_blocks * p.divided.segments
    gradients = {
        "dx": p.sums_of_directions(),
        "ddelta": p.sums(rows, B, P, K, rank) if projects else p.empty(1, B, P, K, d),
        "dA": p.sums(parameters, K, d, N),
        "dB": p.sums(rows, B, P, K, N),
        "dC": p.sums(rows, B, P, K, N),
        "dD": p.sums(parameters, K, d),
        "ddelta_bias": p.sums(parameters, K, d),
        **({"ddelta_weight": p.sums(parameters, K, d, rank)} if projects else {}),
    }
    p.zero_sums()
    p.run("scan_backward", {**kept, **gradients})
    inputs = [*problem[:7], problem.delta_weight]
    pairs = zip(gradients.values(), inputs, strict=False)  # without a projection, the last input is None
    return tuple(_added(g).to(t.dtype) for g, t in pairs if t is not None)
