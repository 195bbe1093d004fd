"""Which backend computes the scan on a device, and why.

A backend is a module with `DEVICES`, `describe()` and

    forward(problem, keep) -> (y, states)            states is what its backward pass wants kept, or None
    backward(grad, problem, states) -> Gradients     states may be None here, too

and `WIDENS` where its `forward` takes a delta_weight. It counts as available on a device only once a small
problem has come out right there: an installed package may have no kernel for this GPU. Who only predicts
waits for no backward pass to compile.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module

import torch
from torch import Tensor

from . import reference
from .problem import Gradients, Problem

VARIABLE = "nnUNet_igtv_scan"
NAMES = ("cpu", "triton", "mamba_ssm", "reference")
# mamba-ssm's kernel first where a user has built it: it is proven on GPUs, ours in Triton's interpreter only
_BEST_FIRST = {"cpu": ("cpu", "reference"), "cuda": ("mamba_ssm", "triton", "reference")}


@dataclass(frozen=True)
class Backend:
    """What computes the scan on a device: `str` says which and why."""

    name: str
    reason: str
    forward: Callable[[Problem, bool], tuple[Tensor, Tensor | None]]
    backward: Callable[[Tensor, Problem, Tensor | None], Gradients]
    widens: bool = False  # whether forward takes a delta_weight

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


class UnavailableError(RuntimeError):
    """A backend does not run on a device; the text says why."""


def _small_problem(device: torch.device) -> tuple[Problem, Tensor]:
    """A cross scan of a 3 x 5 map, 20 channels, 2 states, and a gradient of its result."""
    shapes = ((1, 15, 1, 20), (1, 15, 4, 20), (4, 20, 2), (1, 15, 4, 2), (1, 15, 4, 2), (4, 20), (4, 20))
    waves = [
        torch.arange(float(torch.Size(s).numel())).mul(i + 1).sin().view(s) for i, s in enumerate(shapes)
    ]
    waves[2] = -0.1 - waves[2].abs()
    x, delta, A, B, C, D, delta_bias = (wave.to(device) for wave in waves)
    return Problem(x, delta, A, B, C, D, delta_bias, 5, True), x.cos()


@cache
def _probed(name: str, device: torch.device, backwards: bool) -> Backend | UnavailableError:
    """The backend, where it computes the small problem as the definition does; else what is wrong."""
    try:
        module = import_module(f"{__package__}.{name}")
        if module.DEVICES and device.type not in module.DEVICES:
            return UnavailableError(f"it computes on {' and '.join(module.DEVICES)} only")
        widens = getattr(module, "WIDENS", False)
        backend = Backend(name, module.describe(), module.forward, module.backward, widens)
        problem, grad = _small_problem(device)
        (y, states), (right_y, _) = backend.forward(problem, backwards), reference.forward(problem)
        found, right = [y], [right_y]
        if backwards:
            found += backend.backward(grad, problem, states)
            right += reference.backward(grad, problem)
        if not all(torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(found, right, strict=True)):
            return UnavailableError("it computes a small problem wrongly here")
    except Exception as error:  # whatever a missing package, driver or compiler raises
        lines = str(error).splitlines() or ["no reason given"]
        return UnavailableError(f"{type(error).__name__}: {lines[0]}")
    return backend


def choose(device: torch.device, dtype: torch.dtype, name: str = "", backwards: bool = False) -> Backend:
    """The backend for tensors of this device and type.

    Args:
        device, dtype: what the tensors are; float64 is computed by the definition alone.
        name: the backend; else the one that the variable nnUNet_igtv_scan names; else the best that runs.
        backwards: whether it must compute gradients, too.

    Raises:
        ValueError: no backend has this name, or the one asked for does not compute in this type.
        UnavailableError: the backend asked for does not run on this device.
    """
    asked = name or os.environ.get(VARIABLE, "")
    if asked and asked not in NAMES:
        known = ", ".join(NAMES)
        raise ValueError(f"{asked!r} is no backend of the scan ({VARIABLE} or backend=): {known}")
    if dtype == torch.float64 and asked not in ("", "reference"):
        raise ValueError(f"{asked!r} computes the scan in float32; float64 inputs need 'reference'")
    candidates = (asked,) if asked else _BEST_FIRST.get(device.type, ("reference",))
    if dtype == torch.float64:
        candidates = ("reference",)
    for candidate in candidates:
        found = _probed(candidate, device, backwards)
        if isinstance(found, Backend):
            return found
    raise UnavailableError(f"the scan's backend {candidates[0]!r} does not run on {device}: {found}")


def active_backend(device: torch.device | str) -> Backend:
    """What computes the scan on a device when nothing else is asked for; its `str` says which and why."""
    device = torch.device(device)
    chosen = choose(device, torch.float32, backwards=True)
    if os.environ.get(VARIABLE):
        return replace(chosen, reason=f"{chosen.reason}; {VARIABLE} asks for it")
    passed_over = []
    for name in _BEST_FIRST.get(device.type, ()):
        found = _probed(name, device, True)
        if isinstance(found, Backend):
            break
        passed_over.append(f"{name} does not run: {found}")
    return replace(chosen, reason="; ".join([chosen.reason, *passed_over]))
