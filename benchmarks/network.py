"""What the network costs: parameters, multiply-adds, time, memory; the share of the slice interaction.

    python benchmarks/network.py presets    table: parameters, MACs, times, memory by the formula
    python benchmarks/network.py sim        parameters and time of the slice interactions, as shares
    python benchmarks/network.py times      training time of many shapes, and a line fitted to it
    python benchmarks/network.py memory     training memory of many shapes, and the fit of the formula
    python benchmarks/network.py half       the same under autocast, as on a GPU

Each writes results/network-NAME.csv. Memory is that of all live tensors, counted allocation by allocation
in a training step traced with fake tensors: exact for tensors on any device, without the scratch space
inside kernels and an allocator's fragmentation. Times are CPU seconds of one thread, the least of several
runs.
"""

import argparse
import contextlib
import csv
import math
import platform
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linprog, nnls
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from nnunet_igtv.architectures import build_network, memory
from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.architectures.mixers import MIXERS
from nnunet_igtv.architectures.presets import PRESETS
from nnunet_igtv.architectures.slice_interactions import DEFAULT, SLICE_INTERACTIONS
from nnunet_igtv.ops import active_backend

RESULTS = Path(__file__).parent / "results"
PATCH = (3, 128, 128)  # slices, rows, columns


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of all storages that operators make inside the context, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self.sizes.pop(key)


@contextlib.contextmanager
def norms_as_on_gpu() -> Iterator[None]:
    """Layer norms in float32 under autocast, which is autocast's rule on a GPU and not on a CPU."""
    layer_norm = F.layer_norm

    def in_float32(x: Tensor, *arguments: Any) -> Tensor:
        return layer_norm(x.float() if torch.is_autocast_enabled("cpu") else x, *arguments)

    with mock.patch.object(F, "layer_norm", in_float32):
        yield


def training_peak(fields: dict[str, Any], shape: tuple[int, int, int, int], half: bool = False) -> int:
    """Bytes at the peak of a training step with AdamW on a batch (B, S, H, W); `half`: under autocast."""
    B, S, H, W = shape
    fake, live = FakeTensorMode(), LiveTensors()
    with fake:
        net = IGTVNet(2, 2, **fields).train()
        x, target = torch.empty(B, 2, S, H, W), torch.zeros(B, S, H, W, dtype=torch.long)
    with norms_as_on_gpu(), fake, live:
        with torch.autocast("cpu", dtype=torch.float16, enabled=half):
            logits = net(x)
        F.cross_entropy(logits.float(), target).backward()
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    return 3 * weights + live.peak  # AdamW keeps two moments; gradients are among the live tensors


def macs_per_slice(fields: dict[str, Any], slices: int, height: int, width: int) -> float:
    """Multiply-adds of the forward pass, per slice, from a trace with fake tensors."""
    scan = torch.ops.nnunet_igtv.scan

    def scan_flops(x: Any, delta: Any, A: Any, *rest: Any, out_shape: Any = None, **_: Any) -> int:
        # per direction, pixel, channel and state: delta * A, its exponential, delta * x * B, decay and sum, C
        # where delta has fewer numbers than channels, the scan widens it, by a multiply-add each
        *positions, given = delta
        _, channels, states = A
        widening = 2 * given if given != channels else 0
        return math.prod(positions) * channels * (9 * states + 1 + widening)

    counter = FlopCounterMode(display=False, custom_mapping={scan: scan_flops})
    with FakeTensorMode(), torch.no_grad():
        net, x = IGTVNet(2, 2, **fields).eval(), torch.zeros(1, 2, slices, height, width)
        with counter:
            net(x)
    return counter.get_total_flops() / 2 / slices


def cpu_seconds(call: Callable[[], Any], repeats: int) -> float:
    """The least CPU time of a call, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def training_step(net: torch.nn.Module, x: Tensor) -> Callable[[], None]:
    return lambda: net(x).square().mean().backward()


def presets(repeats: int) -> list[dict[str, Any]]:
    rows = []
    for name, preset in PRESETS.items():
        net = build_network(name, 2)
        x = torch.randn(1, 2, *PATCH)
        training = cpu_seconds(training_step(net.train(), x), repeats) / PATCH[0]
        rows.append(
            {
                "preset": name,
                "parameters (M)": round(sum(p.numel() for p in net.parameters()) / 1e6, 1),
                "GMACs per slice": round(macs_per_slice(preset.kwargs(), *PATCH) / 1e9, 2),
                "inference, CPU s per slice": round(inference_seconds(net, x, repeats), 3),
                "training, CPU s per slice": round(training, 3),
                "training GB, 2 stacks": round(memory.training_bytes(preset.kwargs(), 2, *PATCH) / 1e9, 2),
            }
        )
        print(rows[-1], flush=True)
    return rows


def inference_seconds(net: torch.nn.Module, x: Tensor, repeats: int) -> float:
    net.eval()
    with torch.no_grad():
        return cpu_seconds(lambda: net(x), repeats) / x.shape[2]


def sim(repeats: int) -> list[dict[str, Any]]:
    """Each slice interaction in turn on two stacks of 3x256x256; the least CPU time counts."""
    x = torch.randn(2, 2, 3, 256, 256)
    rows = []
    for preset in ("nano", "tiny"):
        nets = {name: build_network(preset, 2, name) for name in SLICE_INTERACTIONS}
        least = {(name, what): math.inf for name in nets for what in ("inference", "training")}
        for _ in tqdm(range(repeats), desc=preset):
            for name, net in nets.items():
                seconds = {
                    "inference": inference_seconds(net, x, 1),
                    "training": cpu_seconds(training_step(net.train(), x), 1),
                }
                for what, value in seconds.items():
                    least[name, what] = min(least[name, what], value)
        for name, net in nets.items():
            own = sum(p.numel() for p in net.slice_interaction.parameters())
            shares = {
                f"{what} time, more than without": round(least[name, what] / least["none", what] - 1, 3)
                for what in ("inference", "training")
            }
            share = {"share of parameters": round(own / sum(p.numel() for p in net.parameters()), 4)}
            rows.append({"preset": preset, "slice interaction": name} | share | shares)
    return rows


def times(repeats: int) -> list[dict[str, Any]]:
    """Training time of many shapes, and a line through it: fixed seconds + seconds per megapixel."""
    shapes = [(2, 1, 96, 96), (2, 3, 96, 96), (2, 3, 128, 128), (4, 3, 128, 128), (2, 3, 192, 160)]
    rows = []
    for name in ("nano", "tiny"):
        net = build_network(name, 2).train()
        mine = []
        for B, S, H, W in tqdm(shapes, desc=name):
            seconds = cpu_seconds(training_step(net, torch.randn(B, 2, S, H, W)), repeats)
            mine.append(
                {"preset": name, "shape (B, S, H, W)": f"{B}x{S}x{H}x{W}", "CPU s": round(seconds, 3)}
            )
        pixels = np.array([math.prod(shape) / 1e6 for shape in shapes])
        seconds = np.array([row["CPU s"] for row in mine])
        (fixed, rate), _ = nnls(
            np.stack([np.ones_like(pixels), pixels], 1) / seconds[:, None], np.ones(len(pixels))
        )
        for row, predicted in zip(mine, fixed + rate * pixels, strict=True):
            row |= {"predicted CPU s": round(predicted, 3), "error": round(predicted / row["CPU s"] - 1, 3)}
        print(f"{name}: {fixed:.3f} s + {rate:.2f} s per megapixel (stacks x slices x H x W)")
        rows += mine
    return rows


def half(repeats: int) -> list[dict[str, Any]]:
    """Measured and predicted training memory under a GPU's autocast; prints multiples fitted anew.

    Plans rely on them, so they are the least that are below no measurement, and not those of the least error.
    """
    smallest, middle, usual, large = (2, 3, 96, 96), (2, 3, 320, 320), (2, 3, 512, 512), (4, 3, 512, 512)
    shapes = {
        "nano": [smallest, (2, 3, 128, 192), middle, (2, 12, 320, 320), (2, 1, 512, 512), usual, large],
        "tiny": [
            *(smallest, (2, 3, 128, 192), middle, (2, 1, 192, 192)),
            *((4, 5, 384, 384), usual, large, (2, 12, 512, 512)),
        ],
        "small": [smallest, middle, large],
        "base": [(2, 3, 256, 256), large],
    }
    twins = {
        "nano": [smallest, middle, usual, large],
        "tiny": [smallest, (2, 3, 192, 192), (4, 3, 320, 320), usual],
        "small": [middle],
    }
    others = {"nano": middle, "tiny": usual}
    cases = [
        *((name, "scan", DEFAULT, shape) for name in shapes for shape in shapes[name]),
        *((name, "convolution", DEFAULT, shape) for name in twins for shape in twins[name]),
        *(
            (name, "scan", kind, others[name])
            for name in others
            for kind in SLICE_INTERACTIONS
            if kind != DEFAULT
        ),
    ]
    rows, terms, measured = [], [], []
    for name, mixer, interaction, shape in tqdm(cases):
        fields = PRESETS[name].kwargs() | {"mixer": mixer, "slice_interaction": interaction}
        peak = training_peak(fields, shape, half=True)
        predicted = memory.training_bytes(fields, *shape, half=True)
        weights, maps, *shared, own = memory.elements(fields, *shape)
        of_blocks = [term * (mixer == kind) for kind in MIXERS for term in (weights, maps)]
        terms.append([*of_blocks, *shared, own * SLICE_INTERACTIONS[interaction].stored])
        measured.append(peak / memory.ELEMENT)
        rows.append(
            {
                "preset": name,
                "mixer": mixer,
                "slice interaction": interaction,
                "shape (B, S, H, W)": "x".join(map(str, shape)),
                "measured GB": round(peak / 1e9, 3),
                "predicted GB": round(predicted / 1e9, 3),
                "error": round(predicted / peak - 1, 4),
            }
        )
    A = np.array(terms) / np.array(measured)[:, None]
    least = linprog(A.sum(0), A_ub=-A, b_ub=-np.ones(len(A))).x
    errors = np.array([row["error"] for row in rows])
    print(f"half precision: {errors.min():+.1%} to {errors.max():+.1%}; the least multiples never below,")
    print(f"  of the blocks of {[*MIXERS]}, `memory.HALF`, slice interaction: {least.round(3).tolist()}")
    return rows


def fit(repeats: int, only: str | None = None) -> list[dict[str, Any]]:
    """Measured and predicted training memory; prints multiples fitted anew to the relative errors.

    With `only` the networks with that slice interaction are measured, and the others' measurements are those
    of the results file.
    """
    shapes = [(2, 3, 128, 192), (2, 3, 320, 320), (2, 3, 512, 512)]
    small_shapes = [(1, 1, 128, 128), (2, 3, 96, 96), (1, 5, 192, 160), (4, 3, 256, 256)]
    cases = [
        (name, checkpointing, interaction, shape)
        for checkpointing in (False, True)
        for interaction in ([only] if only else SLICE_INTERACTIONS)
        for name in PRESETS
        for shape in [*shapes, *(small_shapes if interaction == DEFAULT and only is None else ())]
    ]
    measured = {} if only is None else _measured_before(only)
    for name, checkpointing, interaction, shape in tqdm(cases):
        fields = PRESETS[name].kwargs() | {"checkpointing": checkpointing, "slice_interaction": interaction}
        measured[name, checkpointing, interaction, shape] = round(training_peak(fields, shape) / 1e9, 3)
    rows, terms = [], []
    for (name, checkpointing, interaction, shape), gigabytes in sorted(measured.items(), key=str):
        fields = PRESETS[name].kwargs() | {"checkpointing": checkpointing, "slice_interaction": interaction}
        predicted = memory.training_bytes(fields, *shape)
        *shared, _, own = memory.elements(fields, *shape)
        terms.append([*shared, *(own * (interaction == kind) for kind in SLICE_INTERACTIONS)])
        rows.append(
            {
                "preset": name,
                "checkpointing": checkpointing,
                "slice interaction": interaction,
                "shape (B, S, H, W)": "x".join(map(str, shape)),
                "measured GB": gigabytes,
                "predicted GB": round(predicted / 1e9, 3),
                "error": round(predicted / gigabytes / 1e9 - 1, 4),
            }
        )
    for checkpointing in (False, True):
        chosen = [i for i, row in enumerate(rows) if row["checkpointing"] is checkpointing]
        measured = np.array([rows[i]["measured GB"] * 1e9 / memory.ELEMENT for i in chosen])
        multiples, _ = nnls(np.array([terms[i] for i in chosen]) / measured[:, None], np.ones(len(chosen)))
        errors = np.array([rows[i]["error"] for i in chosen])
        largest, typical = abs(errors).max(), (errors**2).mean() ** 0.5
        print(f"checkpointing {checkpointing}: errors at most {largest:.1%}, root mean square {typical:.1%};")
        print(f"  multiples fitted anew: {multiples.round(2).tolist()}, the last of {[*SLICE_INTERACTIONS]}")
    return rows


def _measured_before(only: str) -> dict[tuple[str, bool, str, tuple[int, int, int, int]], float]:
    """GB of the results file, without those of one slice interaction."""
    with (RESULTS / "network-memory.csv").open(newline="") as file:
        return {
            (
                row["preset"],
                row["checkpointing"] == "True",
                row["slice interaction"],
                tuple(map(int, row["shape (B, S, H, W)"].split("x"))),  # type: ignore[misc]
            ): float(row["measured GB"])
            for row in csv.DictReader(file)
            if row["slice interaction"] != only
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("presets", "sim", "times", "half", "memory"))
    parser.add_argument("--repeats", type=int, default=3, help="runs per timing; the least counts")
    parser.add_argument(
        "--only",
        choices=SLICE_INTERACTIONS,
        help="memory: measure the networks with this slice interaction; the others' stay as measured",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, torch {torch.__version__}, scan: {active_backend('cpu')}")
    functions = {
        "presets": presets,
        "sim": sim,
        "times": times,
        "half": half,
        "memory": partial(fit, only=arguments.only),
    }
    rows = functions[arguments.what](arguments.repeats)
    with open(RESULTS / f"network-{arguments.what}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print("  ".join(f"{key}: {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
