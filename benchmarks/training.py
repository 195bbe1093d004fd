"""Seconds and memory of a training step: ours beside nnU-Net's own networks, on data of one size, in one run.

    python benchmarks/training.py --matrix 96 --slices 24 --device cpu

Each network has the patch that its plan says and a batch that holds the same number of slices for all. A
step is forward, Dice + cross-entropy, backward and the optimiser; seconds are CPU seconds on a CPU, the
least of the steps. Each network runs in a process of its own; memory is the growth of that process's peak
(CPU) or PyTorch's peak of allocated memory (GPU). Writes results/training-DEVICE.csv.
"""

import argparse
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from planning import MODELS, model
from record import write
from tqdm import tqdm

SLICES_PER_BATCH = 12
DEFAULT = [row for row in MODELS if "3d" not in row]


def peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(row: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row of the table; runs in a fresh process."""
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    _, plan, network = model(row, options.slices, options.matrix, (options.spacing, 1.0, 1.0))
    patch = list(plan.patch_size)
    depth = patch[0] if len(patch) == 3 else 1
    batch = max(1, round(SLICES_PER_BATCH / depth))
    network = network.to(device).train()
    loss_function = DC_and_CE_loss({"batch_dice": True, "do_bg": False, "smooth": 1e-5, "ddp": False}, {})
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    data = torch.randn(batch, 2, *patch, device=device)
    target = (torch.rand(batch, 1, *patch, device=device) > 0.9).float()
    before = peak_bytes(device) if device.type == "cpu" else 0
    seconds = []
    for _ in range(options.steps + 2):  # the first two warm up
        began = time.process_time() if device.type == "cpu" else time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", enabled=device.type == "cuda"):
            loss = loss_function(network(data), target)
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.process_time() if device.type == "cpu" else time.perf_counter()
        seconds.append(now - began)
    best = min(seconds[2:])
    return {
        "network": row,
        "parameters_M": round(sum(p.numel() for p in network.parameters()) / 1e6, 2),
        "patch": "x".join(map(str, patch)),
        "batch": batch,
        "seconds_per_step": round(best, 3),
        "seconds_per_slice": round(best / (batch * depth), 4),
        "peak_GB": round((peak_bytes(device) - before) / 1e9, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--matrix", type=int, default=96, help="pixels per edge of a slice")
    parser.add_argument("--slices", type=int, default=24)
    parser.add_argument("--spacing", type=float, default=3.0, help="of the slices, in pixels")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=DEFAULT, choices=list(MODELS))
    options = parser.parse_args()
    rows = []
    for row in tqdm(options.models):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            rows.append(process.submit(measure, row, options).result())
    write(f"training-{options.device}", rows, options.device)


if __name__ == "__main__":
    main()
