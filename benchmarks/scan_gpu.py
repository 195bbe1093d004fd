"""The scan's backends on a GPU: times, memory and floors as CSV. `benchmarks/gpu.sh` calls it.

    python benchmarks/scan_gpu.py results.csv               on a GPU
    python benchmarks/scan_gpu.py results.csv --smallest    without one: one small map, emulated

Inputs are those of a network: float32, delta projected from d / 32 values a pixel by the scan itself.
"""

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from nnunet_igtv.ops import cross_scan, dispatch


@dataclass(frozen=True)
class Shape:
    images: int
    side: int
    channels: int
    states: int


MAPS = [
    Shape(12, *map_, states)
    for states, map_ in product((16, 4), ((128, 192), (64, 384), (32, 768), (16, 1536)))
]
WINDOWS = [Shape(12288, 4, 192, 16)]  # the DCIM's first stage: 12 slices of 512 x 512
SMALLEST = [Shape(2, 4, 8, 4)]


def inputs(shape: Shape, device: str) -> list[Tensor]:
    """x, delta's values, A, B, C, D, bias and the projection's weight."""
    torch.manual_seed(0)
    rank, pixels = max(1, shape.channels // 32), (shape.images, shape.side, shape.side)
    d, N = shape.channels, shape.states
    tensors = [
        torch.randn(*pixels, d, device=device),
        torch.randn(*pixels, 4, rank, device=device),
        -torch.arange(1.0, N + 1, device=device).repeat(4, d, 1),
        torch.randn(*pixels, 4, N, device=device),
        torch.randn(*pixels, 4, N, device=device),
        torch.randn(4, d, device=device),
        torch.randn(4, d, device=device) - 2,
        torch.randn(4, d, rank, device=device) / rank**0.5,
    ]
    return [t.requires_grad_() for t in tensors]


def bare_mamba(shape: Shape) -> tuple[Callable[[], Tensor], list[Tensor]] | None:
    """mamba-ssm's kernel alone, one order, nothing gathered: the call and its tensors; None without it."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None

    B, L, D, N = shape.images, shape.side**2, 4 * shape.channels, shape.states
    sizes = [(B, D, L), (B, D, L), (D, N), (B, 4, N, L), (B, 4, N, L), (D,), (D,)]
    tensors = [torch.randn(size, device="cuda") for size in sizes]
    tensors[2] = -tensors[2].abs()
    u, delta, A, b, c, skip, bias = (t.requires_grad_() for t in tensors)
    return lambda: selective_scan_fn(u, delta, A, b, c, skip, None, bias, True), tensors


def milliseconds(once: Callable[[], object], device: str, rounds: int) -> float:
    """Median time after a first run."""
    once()
    times = []
    for _ in range(rounds):
        if device == "cuda":
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            once()
            last.record()
            torch.cuda.synchronize()
            times.append(first.elapsed_time(last))
        else:
            start = time.perf_counter()
            once()
            times.append(1e3 * (time.perf_counter() - start))
    return median(times)


def passes(scan: Callable[[], Tensor], tensors: list[Tensor], backwards: bool) -> Callable[[], object]:
    def both() -> object:
        y = scan()
        return torch.autograd.grad(y, tensors, torch.ones_like(y))

    def forwards() -> object:
        with torch.no_grad():
            return scan()

    return both if backwards else forwards


def measure(shape: Shape, backwards: bool, device: str, backends: list[str], rounds: int) -> dict[str, Any]:
    """A row: the time of each backend, and of copying the tensors, which no kernel can beat."""
    tensors = inputs(shape, device)
    row: dict[str, Any] = {
        "images": shape.images,
        "height": shape.side,
        "channels": shape.channels,
        "states": shape.states,
        "pass": "forward+backward" if backwards else "forward",
    }
    copied = [tensors[0], *tensors, *(tensors if backwards else [])]
    row["copy ms"] = milliseconds(lambda: [t.detach().clone() for t in copied], device, rounds)
    for name in backends:

        def scan(name: str = name) -> Tensor:
            x, delta, A, B, C, D, bias, weight = tensors
            return cross_scan(x, delta, A, B, C, D, bias, delta_weight=weight, backend=name)

        try:
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            row[f"{name} ms"] = milliseconds(passes(scan, tensors, backwards), device, rounds)
            if device == "cuda":
                row[f"{name} MB"] = (torch.cuda.max_memory_allocated() - before) / 1e6
        except RuntimeError as error:
            row[f"{name} ms"] = str(error).splitlines()[0]
    bare = bare_mamba(shape) if device == "cuda" else None
    if bare:
        row["mamba-ssm kernel alone ms"] = milliseconds(passes(*bare, backwards), device, rounds)
    return row


def emulate(folder: Path) -> None:
    """Puts the tests' emulation in place of the GPU."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from ops.cuda_emulation import Emulator

    from nnunet_igtv.ops import cuda

    cuda.compiler = Emulator(folder, 1)  # type: ignore[assignment]
    cuda.DEVICES = ("cpu",)  # type: ignore[assignment]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="CSV file")
    parser.add_argument("--smallest", action="store_true", help="one small map, emulated on the CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=150, help="no further row is begun after so long")
    arguments = parser.parse_args()
    if not arguments.smallest and not torch.cuda.is_available():
        raise SystemExit("no CUDA device: nothing to time (--smallest runs without one)")
    device = "cpu" if arguments.smallest else "cuda"
    shapes = SMALLEST if arguments.smallest else [*MAPS, *WINDOWS]
    rows: list[dict[str, Any]] = []
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.smallest:
            emulate(Path(folder))
        backends = ["cuda", "cpu"] if arguments.smallest else ["cuda", "mamba_ssm"]
        for shape, backwards in product(shapes, (False, True)):
            if time.monotonic() - start > arguments.seconds:
                print("out of time: the other shapes are left out", file=sys.stderr)
                break
            rows.append(measure(shape, backwards, device, backends, arguments.rounds))
            print(rows[-1], file=sys.stderr)
        print(dispatch.active_backend(device))
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*columns, "machine", "torch"])
        writer.writeheader()
        machine = torch.cuda.get_device_name() if device == "cuda" else "emulated on a CPU"
        writer.writerows({**row, "machine": machine, "torch": torch.__version__} for row in rows)


if __name__ == "__main__":
    main()
