"""Seconds per slice of nnU-Net's sliding window: ours beside nnU-Net's own networks, for growing volumes.

    python benchmarks/inference.py --matrix 96 --slices 20 100 400 --device cpu

Random preprocessed volumes of (2, slices, matrix, matrix), step 0.5, without mirroring unless --mirror. Each
network and size runs in a process of its own; seconds are CPU seconds on a CPU; memory is the growth of that
process's peak (CPU) or PyTorch's peak of allocated memory (GPU), of which volume_GB is what no network can
save: the volume, its logits and their weights. Writes results/inference-DEVICE.csv.
"""

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from planning import MODELS, model
from record import write
from tqdm import tqdm
from training import peak_bytes

DEFAULT = [row for row in MODELS if "ResEnc" not in row]
OWN_AXES = {2: (0, 1), 3: (0, 1, 2)}  # that nnU-Net mirrors, by the length of the patch


def measure(row: str, slices: int, options: argparse.Namespace) -> dict[str, Any]:
    """One row of the table; runs in a fresh process."""
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    manager, plan, network = model(row, options.planned, options.matrix, (options.spacing, 1.0, 1.0))
    axes = (1, 2) if row.startswith("ours") else OWN_AXES[len(plan.patch_size)]
    predictor = nnUNetPredictor(
        use_mirroring=options.mirror, device=device, allow_tqdm=False, perform_everything_on_device=True
    )
    description = {"labels": {"background": 0, "tumour": 1}}
    predictor.manual_initialization(
        network.to(device).eval(), manager, plan, [network.state_dict()], description, "benchmark", axes
    )
    volume = torch.randn(2, slices, options.matrix, options.matrix)
    before = peak_bytes(device) if device.type == "cpu" else 0
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    depth = plan.patch_size[0] if len(plan.patch_size) == 3 else 1
    calls = []
    predictor.predict_sliding_window_return_logits(volume[:, :depth])  # warms up
    network.register_forward_hook(lambda *_: calls.append(1))
    began = clock()
    predictor.predict_sliding_window_return_logits(volume)
    seconds = clock() - began
    return {
        "network": row,
        "slices": slices,
        "patch": "x".join(map(str, plan.patch_size)),
        "mirrored": options.mirror,
        "calls": len(calls),
        "seconds": round(seconds, 2),
        "seconds_per_slice": round(seconds / slices, 4),
        "peak_GB": round((peak_bytes(device) - before) / 1e9, 3),
        "volume_GB": round(volume[0].numel() * (2 * 4 + 3 * 2) / 1e9, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--matrix", type=int, default=96, help="pixels per edge of a slice")
    parser.add_argument("--slices", type=int, nargs="+", default=[20, 100, 400])
    parser.add_argument("--planned", type=int, default=100, help="slices of the cases that were planned for")
    parser.add_argument("--spacing", type=float, default=3.0, help="of the slices, in pixels")
    parser.add_argument("--mirror", action="store_true", help="as nnUNetv2_predict does by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=DEFAULT, choices=list(MODELS))
    options = parser.parse_args()
    rows = []
    for row, slices in tqdm([(row, slices) for row in options.models for slices in options.slices]):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            rows.append(process.submit(measure, row, slices, options).result())
    write(f"inference-{options.device}", rows, options.device)


if __name__ == "__main__":
    main()
