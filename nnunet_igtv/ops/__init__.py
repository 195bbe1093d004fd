"""Mamba's selective scan, along a sequence and in four directions over a map, on whatever computes it.

`selective_scan` and `cross_scan` are torch operators with gradients that `torch.compile` takes as they are;
`active_backend` says what computes them on a device and why. See `docs/scan.md`.
"""

from .dispatch import active_backend
from .scan import cross_scan, selective_scan

__all__ = ["active_backend", "cross_scan", "selective_scan"]
