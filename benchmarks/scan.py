"""Times of the selective scan; all candidates take turns in one process.

    python benchmarks/scan.py kernels     the CPU kernels, mambapy, the definition, the machine's exp floor
    python benchmarks/scan.py start       import, first call and peak memory, each in a fresh process
    python benchmarks/scan.py network     the tiny network: our scan, no scan, scalar numba code
    python benchmarks/scan.py resources   registers, spills and memory of the CUDA kernels; needs no GPU
    python benchmarks/scan.py model       what bounds the CUDA kernels, by their instructions; needs no GPU
    python benchmarks/scan.py part        the SS2D part with them, against the reference; needs no GPU

Each round runs every candidate twice and times the second run. Medians are over the rounds, so that another
load of the machine affects all candidates alike. CPU times are sums over the threads of the process. With
several threads, set OMP_WAIT_POLICY=passive; otherwise they include the active waiting of PyTorch's threads.
The floor is the time of the kernel's exp for batch x channels x L x N values in the first-level cache.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Generic

import scan_model
import scan_network
import torch
import torch.nn.functional as F
from scan_inputs import Row, feature_map, pass_over, sequence, timed, write
from torch import Tensor

from nnunet_igtv.ops import cross_scan, selective_scan
from nnunet_igtv.ops.cpu_arguments import Number


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

    def run() -> None:
        call(ExpArguments(source=source.data_ptr(), target=target.data_ptr(), times=values // 4096))

    return run


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
from benchmarks.scan_inputs import feature_map, sequence
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


PARTS = {
    "kernels": kernels,
    "start": start,
    "network": scan_network.network,
    "resources": scan_model.resources,
    "model": scan_model.model,
    "part": scan_model.part,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of the CPU kernels")
    parser.add_argument("--preset", default="tiny", help="of the network")
    parser.add_argument("--size", type=int, default=512, help="pixels of the network's slice")
    arguments = parser.parse_args()
    PARTS[arguments.part](arguments)


if __name__ == "__main__":
    main()
