"""The scan's backends on a GPU, and the CUDA kernels' resources, which take no GPU to know."""

import argparse
import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from statistics import median

import torch
from scan_inputs import Row, feature_map, pass_over, write
from torch import Tensor

from nnunet_igtv.ops import active_backend, cross_scan


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
        for name in ("triton", "mamba_ssm", "cuda"):

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


def resources(arguments: argparse.Namespace) -> None:
    """Registers, spills and shared memory of the CUDA kernels, for N = 16 and 4 as in the networks."""
    import triton

    from nnunet_igtv.ops import cuda
    from nnunet_igtv.ops.cuda.compiler import compile_cubin

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    rows: list[Row] = []
    variants = [(4, 4, 6), (8, 2, 6), (16, 1, 6), (16, 1, 48), (2, 2, 6), (4, 1, 6)]
    for architecture, (lanes, states, rank) in product(
        ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"), variants
    ):
        variant = cuda.Variant(lanes, states, rank, softplus=True, four_directions=True)
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compile_cubin(cuda.source(), variant.options, architecture))
            file.flush()
            command = [tool, "--dump-resource-usage", file.name]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = re.findall(r"Function (\w+):\s+REG:(\d+) STACK:(\d+)", text)
        row: Row = {"GPU": architecture, "lanes, states, R": f"{lanes}, {states}, {rank}"}
        for kernel, registers, stack in sorted(found, reverse=True):
            row |= {f"{kernel} registers": int(registers), f"{kernel} stack bytes": int(stack)}
        row |= {"forward shared bytes": variant.shared_bytes(True)}
        row |= {"backward shared bytes": variant.shared_bytes(False)}
        rows.append(row)
    notes = [
        "`lanes` threads share a channel, each has so many `states`; delta is projected from R values.",
        "Stack bytes are registers that are spilled to local memory. A block has 128 threads.",
    ]
    write("cuda-resources", rows, notes)
