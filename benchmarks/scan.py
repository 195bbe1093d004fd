"""How fast the selective scan is, side by side in one run.

    python benchmarks/scan.py kernels   the CPU's kernels, mambapy, the definition, the machine's exp floor
    python benchmarks/scan.py start     import, first call and peak memory, each in a fresh process
    python benchmarks/scan.py network   the tiny network: our scan, no scan, unfused scalar numba code
    python benchmarks/scan.py gpu       Triton, mamba-ssm under copied directions, the bandwidth floor

Each round runs every candidate twice and times the second run, which finds its own memory and caches;
whatever else loads the machine loads all of them; medians are over the rounds. CPU times are those of the
process, all threads together: with more than one thread, set OMP_WAIT_POLICY=passive, or they count how long
PyTorch's threads wait. The floor is what the kernel's own exp takes for batch x channels x L x N values that
lie in the first-level cache.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, Generic
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_igtv.ops import active_backend, cross_scan, selective_scan
from nnunet_igtv.ops.cpu_arguments import Number
from nnunet_igtv.ops.reference import pixel_orders

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
    """results/scan-<part>.json and .md, printed too."""
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
    """Median CPU and wall milliseconds of each candidate, taken in turn."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, candidate in candidates.items():
            candidate()
            cpu, wall = time.process_time(), time.perf_counter()
            candidate()
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: (1e3 * median(c for c, _ in t), 1e3 * median(w for _, w in t)) for name, t in times.items()}


@dataclass(frozen=True, kw_only=True)
class ExpArguments(Generic[Number]):
    source: Number
    target: Number
    times: Number


def exp_floor(values: int) -> Callable[[], None]:
    """The kernel's own exp of so many values, 4096 at a time."""
    from nnunet_igtv.ops.codegen import VECTOR_BYTES, Integer, Trace, compiled
    from nnunet_igtv.ops.vector_math import exp2

    def kernel(trace: Trace, p: ExpArguments[Integer]) -> None:
        def once(_: Integer) -> None:
            trace.repeat(
                trace.integer(256),
                lambda i: trace.store(
                    exp2(trace.load(p.source + i * VECTOR_BYTES), 1.0, True), p.target + i * VECTOR_BYTES
                ),
            )

        trace.repeat(p.times, once)

    call, source = compiled(kernel, ExpArguments), -20 * torch.rand(4096)
    target = torch.empty_like(source)
    arguments = ExpArguments(source=source.data_ptr(), target=target.data_ptr(), times=values // 4096)
    return lambda: call(arguments)


def sequence(batch: int, channels: int, length: int, states: int) -> list[Tensor]:
    """Inputs of `selective_scan` as channels-last networks have them."""
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


def mambapy_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor
) -> Tensor:
    """mambapy's scan, as its Mamba block calls it, on `selective_scan`'s inputs."""
    from mambapy.pscan import pscan

    x, step = u.transpose(1, 2), F.softplus(delta.transpose(1, 2) + bias)
    drive = step.unsqueeze(-1) * B[:, 0].transpose(1, 2).unsqueeze(2) * x.unsqueeze(-1)
    states = pscan(torch.exp(step.unsqueeze(-1) * A), drive)
    y = (states @ C[:, 0].transpose(1, 2).unsqueeze(-1)).squeeze(3) + D * x
    return y.transpose(1, 2)


def pass_over(scan: Callable[..., Tensor], tensors: list[Tensor], backwards: bool) -> Callable[[], object]:
    gradient = torch.rand_like(scan(*tensors)) if backwards else None

    def both() -> object:
        return torch.autograd.grad(scan(*tensors), tensors, gradient)

    def forwards() -> object:
        with torch.no_grad():
            return scan(*tensors)

    return both if backwards else forwards


def kernels(arguments: argparse.Namespace) -> None:
    def ours(*tensors: Tensor) -> Tensor:
        return selective_scan(*tensors, delta_softplus=True, backend="cpu")

    def definition(*tensors: Tensor) -> Tensor:
        return selective_scan(*tensors, delta_softplus=True, backend="reference")

    rows: list[Row] = []
    shapes = [
        (1, 1536, 256, 16),
        (4, 1536, 256, 16),
        (1, 768, 1024, 16),
        (1, 768, 4096, 16),
        (1, 768, 4096, 4),
    ]
    for (batch, channels, length, states), threads, backwards in product(
        shapes, arguments.threads, (False, True)
    ):
        torch.set_num_threads(threads)
        tensors = sequence(batch, channels, length, states)
        side = int(length**0.5)
        crossed = feature_map(batch, side, side, channels // 4, states)
        candidates = {
            "floor": exp_floor(batch * channels * length * states),
            "ours": pass_over(ours, tensors, backwards),
            "cross": pass_over(cross_scan, crossed, backwards),
            "mambapy": pass_over(mambapy_scan, tensors, backwards),
        }
        if length == 256 and batch == 1:
            candidates["definition"] = pass_over(definition, tensors, backwards)
        found = timed(candidates, arguments.rounds)
        cpu = {name: times[0] for name, times in found.items()}
        row: Row = {
            "batch, channels, L, N": f"{batch}, {channels}, {length}, {states}",
            "threads": threads,
            "pass": "forward+backward" if backwards else "forward",
        }
        row |= {f"{name} CPU ms": cpu[name] for name in cpu}
        row |= {"ours wall ms": found["ours"][1], "cross wall ms": found["cross"][1]}
        row |= {"mambapy / ours": cpu["mambapy"] / cpu["ours"], "ours / floor": cpu["ours"] / cpu["floor"]}
        row |= {"cross / floor": cpu["cross"] / cpu["floor"]}
        rows.append(row)
        print(row, file=sys.stderr)
    notes = [
        "`ours` is `selective_scan`, `cross` is `cross_scan` of a quarter of the channels: as many values.",
        "Softplus is part of every candidate but the floor.",
    ]
    write("kernels", rows, notes)


START = """
import sys, time, torch, torch._dynamo
start = time.process_time()
import nnunet_igtv.ops as ops
imported = time.process_time()
torch.set_num_threads(1)
a = [torch.randn(1, 8, 8, 192), torch.randn(1, 8, 8, 4, 192), -torch.ones(4, 192, 16)]
a += [torch.randn(1, 8, 8, 4, 16), torch.randn(1, 8, 8, 4, 16), torch.randn(4, 192), torch.randn(4, 192)]
a = [t.requires_grad_() for t in a]
before = time.process_time()
with torch.set_grad_enabled(sys.argv[1] == "training"):
    y = ops.cross_scan(*a)
forward = time.process_time()
if sys.argv[1] == "training":
    y.sum().backward()
print(imported - start, forward - before, time.process_time() - forward)
"""

PEAK = """
import sys, torch
from pathlib import Path
from benchmarks.scan import feature_map, sequence
from nnunet_igtv.ops import cross_scan, selective_scan
torch.set_num_threads(1)
def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024
crossed, backwards = sys.argv[1] == "cross", sys.argv[2] == "True"
def scan(*tensors):
    return cross_scan(*tensors) if crossed else selective_scan(*tensors, delta_softplus=True)
def inputs(size):
    return feature_map(1, size, size, 192, 16) if crossed else sequence(1, 1536, size * size, 16)
def go(tensors):
    if backwards:
        return torch.autograd.grad(scan(*tensors).sum(), tensors)
    with torch.no_grad():
        return scan(*tensors)
go(inputs(8))
empty = status("VmRSS")
tensors = inputs(128 if crossed else 64)
Path("/proc/self/clear_refs").write_text("5")
go(tensors)
print((status("VmHWM") - empty) / sum(t.nbytes for t in tensors))
"""


def start(arguments: argparse.Namespace) -> None:
    def fresh(program: str, *options: str) -> list[float]:
        home = Path(__file__).parent.parent
        command = [sys.executable, "-c", program, *options]
        # glibc then gives back at once what is freed, so that resident pages are live ones
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
        result = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=home, env=environment
        )
        return [float(word) for word in result.stdout.split()]

    predicting, training = (
        list(zip(*(fresh(START, use) for _ in range(arguments.rounds)), strict=True))
        for use in ("prediction", "training")
    )
    times = {
        "import beyond torch": predicting[0],
        "first call, predicting": predicting[1],
        "first forward pass, training": training[1],
        "first backward pass": training[2],
    }
    rows: list[Row] = [{"what": f"{name}, CPU s", "median": median(t)} for name, t in times.items()]
    for kind, backwards in product(("cross", "sequence"), (False, True)):
        what = f"{kind}, {'forward+backward' if backwards else 'forward'}: peak memory / inputs"
        rows.append({"what": what, "median": median(fresh(PEAK, kind, str(backwards)) for _ in range(3))[0]})
    notes = [
        "First calls load llvmlite, compile, and check the result: nothing is cached between processes.",
        "In training the first forward pass does this for both passes.",
        "torch._dynamo, which PyTorch imports at any custom operator's first call, is imported before: 1 s.",
        "Peak memory counts the inputs, the outputs and everything between (resident pages).",
    ]
    write("start", rows, notes)


def scalar_numba() -> Callable[..., Tensor]:
    """A plain 1D scan in numba, one channel at a time, under four copied directions: what fusing replaces."""
    import numba
    import numpy as np

    @numba.njit(cache=False, fastmath=True)
    def scan(u, delta, A, B, C, D, bias, y):  # type: ignore[no-untyped-def]
        groups = A.shape[0] // B.shape[1]
        for i in range(u.shape[0]):
            for c in range(u.shape[1]):
                h = np.zeros(A.shape[1], np.float32)
                for t in range(u.shape[2]):
                    raw = delta[i, c, t] + bias[c]
                    step = raw if raw > 20 else np.log1p(np.exp(raw))
                    total = D[c] * u[i, c, t]
                    for n in range(A.shape[1]):
                        drive = step * B[i, c // groups, n, t] * u[i, c, t]
                        h[n] = np.exp(step * A[c, n]) * h[n] + drive
                        total += C[i, c // groups, n, t] * h[n]
                    y[i, c, t] = total

    def crossed(
        x: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        bias: Tensor,
        delta_weight: Tensor,
    ) -> Tensor:
        batch, height, width, channels = x.shape
        delta = widened(delta, delta_weight)
        order = pixel_orders(height, width, True)

        def walked(tensor: Tensor) -> Tensor:
            pixels = tensor.flatten(1, 2)
            copies = [pixels[:, order[k], k] if tensor.dim() == 5 else pixels[:, order[k]] for k in range(4)]
            return torch.stack(copies, 1).transpose(2, 3).contiguous()

        u, step, B, C = (walked(t.detach()) for t in (x, delta, B, C))
        y = torch.empty_like(u).flatten(1, 2)
        parameters = (t.detach().flatten(0, 1).numpy() for t in (A, D, bias))
        rates, skip, shift = parameters
        scan(
            u.flatten(1, 2).numpy(),
            step.flatten(1, 2).numpy(),
            rates,
            B.numpy(),
            C.numpy(),
            skip,
            shift,
            y.numpy(),
        )
        y = y.view(batch, 4, channels, -1)
        back = sum(y[:, k][:, :, order[k].argsort()] for k in range(4))
        return back.transpose(1, 2).reshape(batch, height, width, channels)

    return crossed


def widened(delta: Tensor, weight: Tensor) -> Tensor:
    """The steps of all channels, as a network without our kernel computes them: a product per direction."""
    products = torch.bmm(delta.flatten(0, 2).transpose(0, 1), weight.transpose(1, 2))
    return products.transpose(0, 1).unflatten(0, delta.shape[:3])


@contextmanager
def scanning_with(crossed: Callable[..., Tensor], along: Callable[..., Tensor]) -> Any:
    """The network's layers with other scans in the place of ours."""
    from nnunet_igtv.architectures import vss

    with mock.patch.object(vss, "cross_scan", crossed), mock.patch.object(vss, "selective_scan", along):
        yield


def network(arguments: argparse.Namespace) -> None:
    from nnunet_igtv.architectures import build_network

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = build_network(arguments.preset, 2).eval()
    image = torch.randn(1, 2, 1, arguments.size, arguments.size)

    def run(crossed: Callable[..., Tensor], along: Callable[..., Tensor]) -> Callable[[], Tensor]:
        def forward() -> Tensor:
            with scanning_with(crossed, along), torch.inference_mode():
                return net(image)

        return forward

    def left_out(x: Tensor, delta: Tensor, *others: Tensor, delta_weight: Tensor) -> Tensor:
        widened(delta, delta_weight)
        return x

    def along(u: Tensor, *others: Tensor, **options: bool) -> Tensor:
        return u

    candidates = {
        "ours": run(cross_scan, selective_scan),
        "left out": run(left_out, along),
        "left out, and the steps' widening": run(lambda x, *others, **options: x, along),
        "scalar numba": run(scalar_numba(), selective_scan),
    }
    difference = (candidates["ours"]() - candidates["scalar numba"]()).abs().max()
    print(f"largest difference between ours and scalar numba: {float(difference):.2g}", file=sys.stderr)
    found = timed(candidates, arguments.rounds)
    rows: list[Row] = [
        {"scan": name, "CPU s": cpu / 1e3, "over the scan left out": cpu / found["left out"][0]}
        for name, (cpu, _) in found.items()
    ]
    rows[0]["of scalar numba"] = found["ours"][0] / found["scalar numba"][0]
    notes = [
        f"`{arguments.preset}`, one CT/PET slice of {arguments.size} x {arguments.size}, forward, 1 thread.",
        "Steps are widened to all channels by a matrix product per direction; in ours the kernel does it.",
        f"Largest difference of the logits between ours and scalar numba: {float(difference):.2g}.",
    ]
    write("network", rows, notes)


def gpu(arguments: argparse.Namespace) -> None:
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device: nothing to time")
    properties = torch.cuda.get_device_properties(0)
    bandwidth = 2 * properties.memory_clock_rate * 1e3 * properties.memory_bus_width / 8
    rows: list[Row] = []
    shapes = [(128, 192), (64, 384), (32, 768), (16, 1536)]
    for (side, channels), states, backwards in product(shapes, (16, 4), (False, True)):
        tensors = feature_map(arguments.batch, side, side, channels, states, "cuda")
        moved = sum(t.nbytes for t in tensors) + tensors[0].nbytes
        moved += (sum(t.nbytes for t in tensors) * 2 + tensors[0].nbytes) if backwards else 0
        row: Row = {
            "H = W, d, N": f"{side}, {channels}, {states}",
            "pass": "forward+backward" if backwards else "forward",
            "floor ms": 1e3 * moved / bandwidth,
        }
        for name in ("triton", "mamba_ssm"):

            def scan(*inputs: Tensor, name: str = name) -> Tensor:
                return cross_scan(*inputs, backend=name)

            once = pass_over(scan, tensors, backwards)
            try:
                once()
            except RuntimeError as error:
                row[f"{name} ms"] = str(error).splitlines()[0]
                continue
            torch.cuda.reset_peak_memory_stats()
            before, times = torch.cuda.memory_allocated(), []
            for _ in range(arguments.rounds):
                first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                first.record()
                once()
                last.record()
                torch.cuda.synchronize()
                times.append(first.elapsed_time(last))
            row[f"{name} ms"] = median(times)
            row[f"{name} MB"] = (torch.cuda.max_memory_allocated() - before) / 1e6
        rows.append(row)
        print(row, file=sys.stderr)
    notes = [
        f"Cross scan, batch {arguments.batch}, float32; mamba-ssm under four copied directions.",
        f"Chosen here: {active_backend('cuda')}.",
        "The floor reads every input and writes every output once at the card's bandwidth.",
    ]
    write("gpu", rows, notes)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["kernels", "start", "network", "gpu"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of the CPU's kernels")
    parser.add_argument("--preset", default="tiny", help="of the network")
    parser.add_argument("--size", type=int, default=512, help="pixels of the network's slice")
    parser.add_argument("--batch", type=int, default=12, help="on the GPU")
    arguments = parser.parse_args()
    {"kernels": kernels, "start": start, "network": network, "gpu": gpu}[arguments.part](arguments)


if __name__ == "__main__":
    main()
