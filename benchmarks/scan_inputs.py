"""What the benchmarks of the scan share: inputs, times, and tables of results."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def machine() -> str:
    """Processor, threads and versions; nothing that names the computer."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next(
            (line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line),
            cpu,
        )
    from nnunet_igtv.ops.codegen import processor

    text = f"{cpu} ({processor()[0]}), {os.cpu_count()} cores, torch {torch.__version__}"
    if "OMP_WAIT_POLICY" in os.environ:
        text += f", OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}"
    if torch.cuda.is_available():
        text += f", {torch.cuda.get_device_name()}"
    return text


def write(part: str, rows: list[Row], notes: list[str]) -> None:
    """Writes results/scan-<part>.json and .md, and prints the latter."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [f"# The scan: {part}", ""]
    lines += [f"`python benchmarks/scan.py {' '.join(sys.argv[1:])}`, {date.today()}, {machine()}."]
    if hasattr(os, "getloadavg"):
        lines += [f"Load of the machine at the end: {os.getloadavg()[0]:.1f}."]
    lines += ["", *notes, "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = (row.get(column, "") for column in columns)
        lines.append("| " + " | ".join(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells) + " |")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"scan-{part}.md").write_text("\n".join(lines) + "\n")
    report = {"command": sys.argv[1:], "date": str(date.today()), "machine": machine(), "rows": rows}
    (RESULTS / f"scan-{part}.json").write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(lines))


def timed(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median CPU and wall milliseconds of each candidate; the candidates take turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, candidate in candidates.items():
            candidate()
            cpu, wall = time.process_time(), time.perf_counter()
            candidate()
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: (1e3 * median(c for c, _ in t), 1e3 * median(w for _, w in t)) for name, t in times.items()}


def sequence(batch: int, channels: int, length: int, states: int) -> list[Tensor]:
    """Inputs of `selective_scan`, channels last in memory, as the networks have them."""
    torch.manual_seed(0)
    u, delta = (torch.randn(batch, length, channels).transpose(1, 2) for _ in range(2))
    A = -torch.arange(1.0, states + 1).repeat(channels, 1)
    B, C = (torch.randn(batch, length, 1, states).permute(0, 2, 3, 1) for _ in range(2))
    return [t.requires_grad_() for t in (u, delta, A, B, C, torch.randn(channels), torch.randn(channels) - 2)]


def feature_map(
    batch: int, height: int, width: int, channels: int, states: int, device: str = "cpu"
) -> list[Tensor]:
    """Inputs of `cross_scan`."""
    torch.manual_seed(0)
    pixels = (batch, height, width)
    A = -torch.arange(1.0, states + 1).repeat(4, channels, 1)
    tensors = [torch.randn(*pixels, channels), torch.randn(*pixels, 4, channels), A]
    tensors += [torch.randn(*pixels, 4, states) for _ in range(2)]
    tensors += [torch.randn(4, channels), torch.randn(4, channels) - 2]
    return [t.to(device).requires_grad_() for t in tensors]


def pass_over(scan: Callable[..., Tensor], tensors: list[Tensor], backwards: bool) -> Callable[[], object]:
    gradient = torch.rand_like(scan(*tensors)) if backwards else None

    def both() -> object:
        return torch.autograd.grad(scan(*tensors), tensors, gradient)

    def forwards() -> object:
        with torch.no_grad():
            return scan(*tensors)

    return both if backwards else forwards
