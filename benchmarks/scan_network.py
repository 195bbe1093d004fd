"""A network's time with our scan, without it, and with a scalar one: `python benchmarks/scan.py network`."""

import argparse
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from scan_inputs import Row, timed, write
from torch import Tensor

from nnunet_igtv.ops import cross_scan, selective_scan
from nnunet_igtv.ops.reference import pixel_orders


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
    from nnunet_igtv.architectures.mixers import scan

    with mock.patch.object(scan, "cross_scan", crossed), mock.patch.object(scan, "selective_scan", along):
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
