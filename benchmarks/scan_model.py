"""The CUDA kernels on paper: their resources, and what bounds them by the instructions of the compiled code.

Both need NVRTC and cuobjdump (which Triton includes), and no GPU.
"""

import argparse
import re
import subprocess
import tempfile
from functools import cache
from itertools import product
from pathlib import Path

import torch
from network import LiveTensors
from scan_gpu import MAPS, WINDOWS, Shape
from scan_inputs import Row, write
from torch._subclasses.fake_tensor import FakeTensorMode

from nnunet_igtv.architectures.mixers.scan import SS2D
from nnunet_igtv.ops.cuda.compiler import compile_cubin
from nnunet_igtv.ops.cuda.variant import STEPS, Division, Variant, divide
from nnunet_igtv.ops.problem import Problem

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
LAYOUTS = [(4, 4, 6), (8, 2, 6), (16, 1, 6), (8, 2, 48), (2, 2, 6), (4, 1, 6)]
KERNELS = ("scan_segments", "scan_carry", "scan_forward", "scan_backward")
# An NVIDIA H200: multiprocessors, clock under load (from its measured 4.2e12 exp2 a second), bytes a second
# copied. A multiprocessor issues 4 instructions of a warp per cycle and computes 16 exp2.
MULTIPROCESSORS, HERTZ, BANDWIDTH = 132, 1.98e9, 4.28e12
FLOAT32 = 67e12  # multiply-adds of its data sheet, twice
ISSUED, EXPONENTIALS = 4 * MULTIPROCESSORS * HERTZ, 16 * MULTIPROCESSORS * HERTZ
# Forward and backward ms, and peak MB, of the reference implementation's SS2D part on an H200, with mamba-ssm
REFERENCE_PART = {
    Shape(12, 128, 192, 16): (42.3, 4105),
    Shape(12, 64, 384, 16): (17.6, 1977),
    Shape(12, 32, 768, 16): (8.1, 972),
    Shape(12, 16, 1536, 16): (4.1, 489),
}


def dump(variant: Variant, architecture: str, option: str) -> str:
    """What cuobjdump says of the compiled kernels."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compile_cubin(variant.source, variant.options, architecture))
        file.flush()
        command = [tool, option, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def resources(arguments: argparse.Namespace) -> None:
    """Registers, spills and shared memory of the CUDA kernels, for N = 16 and 4 as in the networks."""
    rows: list[Row] = []
    for architecture, (lanes, states, rank) in product(ARCHITECTURES, LAYOUTS):
        row: Row = {"GPU": architecture, "lanes, states, R": f"{lanes}, {states}, {rank}"}
        for gradients in (False, True):
            variant = Variant(gradients, lanes, states, rank, softplus=True, four_directions=True)
            text = dump(variant, architecture, "--dump-resource-usage")
            suffix = " (backward)" if gradients else ""
            for kernel, registers, stack in re.findall(r"Function (\w+):\s+REG:(\d+) STACK:(\d+)", text):
                if kernel != "scan_carry":
                    row[f"{kernel}{suffix if kernel == 'scan_segments' else ''}"] = f"{registers} / {stack}"
            kernel = "scan_backward" if gradients else "scan_forward"
            row[f"{kernel} bytes"] = variant.shared_bytes(kernel, variant.most_chunks)
        rows.append(row)
    notes = [
        "`lanes` threads share a channel, each has so many `states`; delta is projected from R values.",
        "Cells: registers of a thread / bytes of its stack (registers spilled to local memory).",
        "Bytes: shared memory of a block, in the backward pass of the longest segment.",
    ]
    write("cuda-resources", rows, notes)


def instructions(text: str, states: int) -> dict[str, float]:
    """Instructions that a warp issues for a chunk, per kernel: a lower bound.

    The longest loop of a kernel is that over chunks. A loop within it that computes exponentials of some
    steps runs until all steps are done; any other is counted once.
    """
    found = {}
    for part in re.split(r"Function : ", text)[1:]:
        lines = re.findall(r"^\s+/\*([0-9a-f]{4,})\*/\s+(.*?);", part, re.M)
        code = [(int(address, 16), operation) for address, operation in lines]
        jumps = [(int(m[1], 16), at) for at, op in code if (m := re.search(r"BRA.* 0x([0-9a-f]+)", op))]
        loops = [(first, last) for first, last in jumps if first < last]
        if not loops:
            continue
        start, end = max(loops, key=lambda loop: loop[1] - loop[0])
        total = 0.0
        for at, operation in code:
            if not start <= at <= end or operation.startswith("NOP"):
                continue
            inner = [loop for loop in loops if loop[0] <= at <= loop[1] and loop != (start, end)]
            repeats = 1.0
            if inner:
                first, last = min(inner, key=lambda loop: loop[1] - loop[0])
                exponentials = sum(first <= a <= last and op.startswith("MUFU.EX2") for a, op in code)
                if exponentials and STEPS * states % exponentials == 0:
                    repeats = STEPS * states / exponentials
            total += repeats
        found[part.split()[0]] = total
    return found


def problem_of(shape: Shape) -> tuple[Problem, int]:
    """A problem without values, and the bytes of its tensors."""
    pixels, d, N, rank = shape.side**2, shape.channels, shape.states, max(1, shape.channels // 32)
    sizes = [(shape.images, pixels, 1, d), (shape.images, pixels, 4, rank), (4, d, N)]
    sizes += [(shape.images, pixels, 4, N)] * 2 + [(4, d), (4, d)]
    tensors = [torch.empty(size, device="meta") for size in sizes]
    weight = torch.empty(4, d, rank, device="meta")
    return Problem(*tensors, shape.side, True, weight), sum(t.nbytes for t in tensors)


def warps_and_chunks(divided: Division, shape: Shape) -> float:
    """Chunks that all warps take together."""
    warps = divided.variant.threads // 32 * divided.channel_blocks * 4
    return warps * shape.images * -(-(shape.side**2) // STEPS)


@cache
def issued_by(variant: Variant) -> dict[str, float]:
    """Instructions per chunk of a variant's kernels on an H200."""
    return instructions(dump(variant, "sm_90", "-sass"), variant.states)


def on_paper(shape: Shape, gradients: bool) -> tuple[Division, dict[str, float], float]:
    """How a pass is divided on an H200, its floors in ms, and the bytes that it keeps between its kernels."""
    problem, nbytes = problem_of(shape)
    divided = divide(problem, gradients, MULTIPROCESSORS)
    known, split = issued_by(divided.variant), divided.segments > 1
    own = "scan_backward" if gradients else "scan_forward"
    issued = known[own] + (known["scan_segments"] if split else 0)
    # the backward pass: twice for a chunk, once more forwards through a segment of several
    times = (2 + (divided.segment_chunks > 1) if gradients else 1) + split
    sequences = shape.images * 4 * shape.channels
    kept = 4 * divided.segments * sequences * shape.states * (2 if gradients else 1) if split else 0
    x = problem.x.nbytes
    moved = nbytes + x + (nbytes + x if gradients else 0) + 4 * kept
    floors = {
        "bytes ms": 1e3 * moved / BANDWIDTH,
        "exp2 ms": 1e3 * times * sequences * shape.side**2 * shape.states / EXPONENTIALS,
        "issue ms": 1e3 * issued * warps_and_chunks(divided, shape) / ISSUED,
    }
    return divided, floors, kept


def model(arguments: argparse.Namespace) -> None:
    """Floors of each shape on an H200."""
    rows: list[Row] = []
    for shape, gradients in product([*MAPS, *WINDOWS], (False, True)):
        divided, floors, kept = on_paper(shape, gradients)
        blocks = divided.image_blocks * divided.segments * 4 * divided.channel_blocks
        prototype = 16 * shape.images * shape.channels * shape.states * (shape.side**2 // STEPS)
        rows.append(
            {
                "images, H = W, d, N": f"{shape.images}, {shape.side}, {shape.channels}, {shape.states}",
                "pass": "backward" if gradients else "forward",
                "lanes, states": f"{divided.variant.lanes}, {divided.variant.states}",
                "segments": divided.segments,
                "blocks / multiprocessor": blocks / MULTIPROCESSORS,
                **floors,
                "bound by": max(floors, key=lambda name: floors[name]).removesuffix(" ms"),
                "kept MB": kept / 1e6,
                "prototype's MB": prototype / 1e6 if gradients else "",
            }
        )
    notes = [
        "Lower bounds on an NVIDIA H200 (sm_90), by arithmetic: nothing here was run on a GPU.",
        "bytes: every input read, every output written once. exp2: 16 per cycle and multiprocessor.",
        "issue: instructions of the compiled code, 4 per cycle and multiprocessor; loops over the R values",
        "of the projection are counted once. kept: states between segments, freed at the end of the pass;",
        "the prototype kept one every 16 steps.",
    ]
    write("cuda-model", rows, notes)


def part(arguments: argparse.Namespace) -> None:
    """The SS2D part, forward and backward, against the reference implementation's as measured."""
    rows: list[Row] = []
    for shape, (milliseconds, megabytes) in REFERENCE_PART.items():
        live = LiveTensors()
        with FakeTensorMode():
            mixer = SS2D(shape.channels // 2, shape.states)
            with live:
                x = torch.empty(shape.images, shape.side, shape.side, shape.channels, requires_grad=True)
                y = mixer.mix(x)
                y.backward(torch.empty_like(y))
        passes = [on_paper(shape, gradients) for gradients in (False, True)]
        kernels = sum(max(floors.values()) for _, floors, _ in passes)
        # the projection to steps, B and C: its result, and the gradients of x and of its weight
        linear = 3 * 2e3 * shape.images * shape.side**2 * mixer.x_proj_weight.numel() / FLOAT32
        ours = live.peak / 1e6 + max(kept for *_, kept in passes) / 1e6
        rows.append(
            {
                "images, H = W, d, N": f"{shape.images}, {shape.side}, {shape.channels}, {shape.states}",
                "kernels ms": kernels,
                "projections ms": linear,
                "reference ms": milliseconds,
                "reference / ours": milliseconds / (kernels + linear),
                "ours MB": ours,
                "reference MB": megabytes,
                "ours / reference": ours / megabytes,
            }
        )
    notes = [
        "Ours: lower bounds of the time on an NVIDIA H200 (kernels as in scan-cuda-model.md, projections",
        f"at {FLOAT32 / 1e12:.0f} TFLOP/s in float32), and the memory counted in a traced step, with the",
        "states between segments. Nothing of it was run on a GPU. The reference (four copied directions,",
        "mamba-ssm's kernel) was measured on an H200 with torch 2.11.",
    ]
    write("cuda-part", rows, notes)
