"""Mamba's selective scan of a sequence, and VMamba's cross scan of a feature map, on CPUs and GPUs.

`selective_scan` and `cross_scan` are PyTorch operators with gradients; `torch.compile` accepts them.
`active_backend` names the backend that computes them on a device. See `docs/scan.md`.

`scan_forward` and `scan_backward` are the two passes of a `Problem`, without autograd.
"""

from .dispatch import active_backend
from .problem import Problem
from .scan import cross_scan, cross_scan_problem, scan_backward, scan_forward, selective_scan

__all__ = [
    "Problem",
    "active_backend",
    "cross_scan",
    "cross_scan_problem",
    "scan_backward",
    "scan_forward",
    "selective_scan",
]
