"""What torch.compile costs at the start of a training, and what it leaves to start in each step.

    python benchmarks/compiling.py [--presets nano tiny] [--modes eager regions whole]

No GPU is needed: the inductor compiles for the CPU, with one process and without its cache. Each row is a
process of its own: a training step (forward and backward) and a validation step of 2 stacks of 3x96x96 under
autocast (bfloat16), then both again. Seconds are CPU seconds: `Python` of this process, which traces and
writes the kernels, and `g++` of the compiler that it starts; on a GPU, Triton takes its place, in several
processes. A launch is a kernel of the compiler, or an operator outside of its graphs that computes. Writes
results/compiling.csv.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from launches import OWN
from record import write
from torch._dynamo.utils import counters
from torch.profiler import ProfilerActivity, profile

from nnunet_igtv.architectures.compiling import compile_regions
from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.architectures.presets import PRESETS

SHAPE = (2, 2, 3, 96, 96)
# what operators inside may start, if anything: those that give a view or memory, and those that call others
TRANSPARENT = frozenset(
    f"aten::{name}"
    for name in (
        *("as_strided", "as_strided_", "view", "_reshape_alias", "_unsafe_view", "alias", "detach"),
        *("expand", "t", "transpose", "permute", "select", "slice", "narrow", "split"),
        *("split_with_sizes", "chunk", "unflatten", "squeeze", "unsqueeze", "mT", "numpy_T"),
        *("flatten", "reshape", "unbind", "resolve_conj", "view_as", "empty", "empty_like"),
        *("empty_strided", "new_empty", "resize_", "promote_types", "result_type", "item"),
        *("_local_scalar_dense", "to", "_to_copy", "contiguous", "clone", "zeros", "zeros_like"),
        *("new_zeros", "ones_like", "linear", "matmul", "conv1d", "conv2d", "conv3d", "convolution"),
        *("_convolution", "layer_norm", "batch_norm", "_batch_norm_impl_index", "pad"),
        *("new_empty_strided",),
    )
)


def cpu_seconds() -> tuple[float, float]:
    """Of this process, and of those that it has waited for."""
    times = os.times()
    return times.user + times.system, times.children_user + times.children_system


def started(events: Iterable[Any]) -> int:
    """Kernels that these events and those inside them start."""
    found = 0
    for event in events:
        if event.name in OWN:
            found += OWN[event.name]
        elif "cpp_fused" in event.name or (event.name.startswith("aten::") and event.name not in TRANSPARENT):
            found += 1
        else:
            found += started(event.cpu_children)
    return found


def launches(call: Callable[[], None]) -> int:
    """Kernels of the compiler, and operators outside of its graphs that compute."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        call()
    return started(event for event in profiled.events() if event.cpu_parent is None)


def measured(preset: str, mode: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch._inductor.config.compile_threads = 1
    torch._inductor.config.cpp.enable_kernel_profile = True
    net = IGTVNet(2, 2, **PRESETS[preset].kwargs())
    x, network = torch.randn(SHAPE), net

    def forward(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return network(images)

    def train() -> None:
        net.train().zero_grad(set_to_none=True)
        forward(x).float().square().mean().backward()

    def validate() -> None:
        net.eval()
        with torch.no_grad():
            forward(x)

    train()  # the scan's kernels
    if mode == "whole":
        network = torch.compile(net)
    elif mode == "regions":
        compile_regions(net)
    row: dict[str, Any] = {"preset": preset, "mode": mode}
    for name, call in (("training", train), ("validation", validate)):
        start = cpu_seconds()
        call()
        for what, before, after in zip(("Python", "g++"), start, cpu_seconds(), strict=True):
            row[f"first {name}, {what} s"] = round(after - before, 1)
    row["graphs"] = counters["stats"]["unique_graphs"]
    for name, call in (("training", train), ("validation", validate)):
        start = cpu_seconds()
        for _ in range(3):
            call()
        row[f"{name}, s"] = round((cpu_seconds()[0] - start[0]) / 3, 3)
        row[f"{name}, launches"] = launches(call)
    row["graphs made again"] = counters["stats"]["unique_graphs"] - row["graphs"]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", nargs="+", default=["nano", "tiny"])
    parser.add_argument("--modes", nargs="+", default=["eager", "regions", "whole"])
    parser.add_argument("--one", action="store_true", help="in this process, the row as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.presets[0], options.modes[0])))
        return
    rows = []
    for preset in options.presets:
        for mode in options.modes:
            words = [sys.executable, __file__, "--one", "--presets", preset, "--modes", mode]
            environment = {**os.environ, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
            done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
    write("compiling", rows, "cpu")


if __name__ == "__main__":
    main()
