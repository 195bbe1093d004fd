"""Which backend computes the scan on a device, and why."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import torch
from torch import Tensor

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
VARIABLE = "nnUNet_igtv_scan"
_MODULES = {"reference": "reference"}
_PREFERENCE = {"cpu": ("reference",), "cuda": ("reference",)}


@dataclass(frozen=True)
class Backend:
    """What computes the scan on a device: `str` says which and why."""

    name: str
    reason: str
    forward: Callable[..., Tensor]
    backward: Callable[..., Gradients]

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


@cache
def _load(name: str) -> Backend:
    module = import_module(f"{__package__}.{_MODULES[name]}")
    return Backend(name, "the definition, in plain PyTorch", module.forward, module.backward)


def choose(device: torch.device, dtype: torch.dtype, name: str = "") -> Backend:
    """The backend for tensors of this device and type: the one named, or the one the environment variable
    names, or the best that runs."""
    return _load(name or os.environ.get(VARIABLE, "") or "reference")


def active_backend(device: torch.device | str) -> Backend:
    """What computes the scan on a device when nothing else is asked for; its `str` says which and why."""
    return choose(torch.device(device), torch.float32)
