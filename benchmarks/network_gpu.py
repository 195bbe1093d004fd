"""Training steps and predictions on a GPU, beside nnU-Net's networks, as CSV. `benchmarks/gpu.sh` calls it.

    python benchmarks/network_gpu.py results.csv               on a GPU
    python benchmarks/network_gpu.py results.csv --smallest    without one: one small size, eager, on the CPU

A step is forward, Dice + cross-entropy, backward, clipping and AdamW under float16 autocast, of 12 slices:
4 stacks of 3 for ours. A window is what a prediction gives the network at once: a slice for nnU-Net's, a
stack for ours. `compiled` is what a training does by default: blocks for ours, the whole network for
nnU-Net's. `graph` replays a captured forward and backward pass; where that fails, its cell says why. Rows are
in the order of their worth, and each is written when it is there.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from scan_gpu import milliseconds
from torch import Tensor, nn

from nnunet_igtv.architectures.compiling import compile_regions
from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.architectures.presets import PRESETS

SLICES, OF_A_STACK = 12, 3
COLUMNS = ("network", "mode", "pixels", "first step s", "step ms", "training GB", "window ms")


@dataclass(frozen=True)
class Row:
    network: str
    mode: str
    pixels: int


ROWS = [
    *(Row(network, "eager", 512) for network in ("nnU-Net 2d", "tiny", "nano")),
    *(Row("nano", mode, 96) for mode in ("eager", "compiled", "graph")),
    Row("tiny", "compiled", 512),
    Row("nnU-Net ResEncM 2d", "eager", 512),
    Row("nnU-Net 2d", "eager", 96),
    Row("nnU-Net 2d", "compiled", 512),
    Row("nano", "compiled", 512),
    Row("tiny", "graph", 512),
    Row("nano", "graph", 512),
]
SMALLEST = [Row("nano", "eager", 32), Row("nnU-Net 2d", "eager", 32)]


def nnunets(name: str, pixels: int) -> nn.Module:
    """nnU-Net's network of a 2d plan with patches of so many pixels, without deep supervision."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

    stages = min(8, pixels.bit_length() - 2)  # down to 4x4, as its planner does
    common: dict[str, Any] = {
        "input_channels": 2,
        "n_stages": stages,
        "features_per_stage": [min(512, 32 * 2**stage) for stage in range(stages)],
        "conv_op": nn.Conv2d,
        "kernel_sizes": 3,
        "strides": [1] + [2] * (stages - 1),
        "num_classes": 2,
        "conv_bias": True,
        "norm_op": nn.InstanceNorm2d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }
    if "ResEnc" in name:
        blocks = [1, 3, 4, 6, 6, 6, 6, 6][:stages]
        return ResidualEncoderUNet(n_blocks_per_stage=blocks, n_conv_per_stage_decoder=1, **common)
    return PlainConvUNet(n_conv_per_stage=2, n_conv_per_stage_decoder=2, **common)


def network_and_batch(row: Row, device: str) -> tuple[nn.Module, Tensor, Tensor]:
    """The network in training, images and classes of a batch."""
    size, ours = (row.pixels, row.pixels), row.network in PRESETS
    shape = (SLICES // OF_A_STACK, OF_A_STACK, *size) if ours else (SLICES, *size)
    network = IGTVNet(2, 2, **PRESETS[row.network].kwargs()) if ours else nnunets(row.network, row.pixels)
    images = torch.randn(shape[0], 2, *shape[1:], device=device)
    return network.to(device).train(), images, torch.randint(2, shape, device=device)


def loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy minus the Dice of the foreground, in float32."""
    logits = logits.float()
    found, wanted = logits.softmax(1)[:, 1], (classes == 1).float()
    dice = 2 * (found * wanted).sum() / (found.sum() + wanted.sum() + 1e-5)
    return F.cross_entropy(logits, classes) - dice


def training_step(
    call: Callable[[Tensor], Tensor], network: nn.Module, images: Tensor, classes: Tensor
) -> Callable[[], object]:
    kind = images.device.type
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)
    scaler = torch.amp.GradScaler(kind, enabled=kind == "cuda")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(kind, enabled=kind == "cuda"):
            value = loss(call(images), classes)
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        if kind == "cuda":
            torch.cuda.synchronize()

    return step


def measure(row: Row, device: str, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    network, images, classes = network_and_batch(row, device)
    call: Callable[[Tensor], Tensor] = network
    if row.mode == "compiled" and row.network in PRESETS:
        compile_regions(network)
    elif row.mode == "compiled":
        call = torch.compile(network)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    cells: dict[str, Any] = {"network": row.network, "mode": row.mode, "pixels": row.pixels}
    begin = time.perf_counter()
    if row.mode == "graph":
        with torch.autocast("cuda", cache_enabled=False):
            call = torch.cuda.make_graphed_callables(network, (images,))
    step = training_step(call, network, images, classes)
    step()
    cells["first step s"] = time.perf_counter() - begin
    step()  # the optimiser's moments and other backward kernels are there now
    cells["step ms"] = milliseconds(step, device, rounds)
    if device == "cuda":
        cells["training GB"] = torch.cuda.max_memory_allocated() / 1e9
    if row.mode != "graph":  # of training, with fixed buffers
        cells["window ms"] = milliseconds(predicting(call, network, images), device, rounds)
    return cells


def predicting(call: Callable[[Tensor], Tensor], network: nn.Module, images: Tensor) -> Callable[[], object]:
    """One window of a prediction, without mirroring."""
    network.eval()
    kind = images.device.type

    def predict() -> None:
        with torch.inference_mode(), torch.autocast(kind, enabled=kind == "cuda"):
            call(images[:1])

    return predict


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="CSV file")
    parser.add_argument("--smallest", action="store_true", help="one small size, eager, on the CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=110, help="no further row is begun after so long")
    arguments = parser.parse_args()
    if not arguments.smallest and not torch.cuda.is_available():
        raise SystemExit("no CUDA device: nothing to time (--smallest runs without one)")
    device = "cpu" if arguments.smallest else "cuda"
    machine = torch.cuda.get_device_name() if device == "cuda" else "a CPU"
    start = time.monotonic()
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "machine", "torch"])
        writer.writeheader()
        for row in SMALLEST if arguments.smallest else ROWS:
            if time.monotonic() - start > arguments.seconds:
                print("out of time: the other rows are left out", file=sys.stderr)
                break
            try:
                cells = measure(row, device, arguments.rounds)
            except (RuntimeError, ImportError) as error:  # out of memory, a capture that fails, not installed
                cells = {**row.__dict__, "step ms": str(error).splitlines()[0]}
            writer.writerow({**cells, "machine": machine, "torch": torch.__version__})
            file.flush()
            print(cells, file=sys.stderr)


if __name__ == "__main__":
    main()
