"""Mamba's selective scan of a sequence, and VMamba's cross scan of a feature map, on CPUs and GPUs.

`selective_scan` and `cross_scan` are PyTorch operators with gradients; `torch.compile` accepts them.
`active_backend` names the backend that computes them on a device. See `docs/scan.md`.
"""

from .dispatch import active_backend
from .scan import cross_scan, selective_scan

__all__ = ["active_backend", "cross_scan", "selective_scan"]
