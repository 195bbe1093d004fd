"""Chooses the backend that computes the scan on a device.

A backend is a module of this package with

    DEVICES                                                   types of devices it runs on; empty for all
    describe() -> str                                         one line for the user
    forward(problem, save_states) -> (y, saved_states)        saved_states: for its backward pass, or None
    backward(grad, problem, saved_states) -> gradients        of the problem's first seven tensors;
                                                              saved_states may be None here, too
    PROJECTS_DELTA                                            optional: `forward` takes a delta_weight
    PROJECTS_GRADIENTS                                        optional: `backward` takes one, and returns its
                                                              gradient after the others

A backend is used on a device only if it computes small problems correctly there. A package that can be
imported may still lack a kernel for the GPU at hand, or compute a gradient wrongly on it. The backward pass
is compiled and tested only where gradients are needed.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module

import torch
from torch import Tensor

from . import reference
from .problem import Problem

VARIABLE = "nnUNet_igtv_scan"
NAMES = ("cpu", "triton", "mamba_ssm", "cuda", "reference")
# mamba-ssm is first on a GPU, where it is installed: forward and backward together, it is faster than Triton.
# "cuda" is used by name only until it has run on a GPU
_BEST_FIRST = {"cpu": ("cpu", "reference"), "cuda": ("mamba_ssm", "triton", "reference")}
_TOLERANCE = 1e-3  # of the largest value of a result, or of 1


@dataclass(frozen=True)
class Backend:
    """A backend on a device. `str` gives its name and the reason for the choice."""

    name: str
    reason: str
    forward: Callable[[Problem, bool], tuple[Tensor, Tensor | None]]
    backward: Callable[[Tensor, Problem, Tensor | None], tuple[Tensor, ...]]
    projects_delta: bool = False
    projects_gradients: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


class UnavailableError(RuntimeError):
    """A backend cannot be used on a device; the text gives the reason."""


def _small_problem(
    height: int, width: int, longest_step: float, device: torch.device
) -> tuple[Problem, Tensor]:
    """A cross scan of 20 channels and 2 states, and a gradient of y; the values are sine waves."""
    pixels = height * width
    shapes = [(1, pixels, 1, 20), (1, pixels, 4, 20), (4, 20, 2), (1, pixels, 4, 2), (1, pixels, 4, 2)]
    shapes += [(4, 20), (4, 20)]
    waves = [
        torch.arange(float(torch.Size(shape).numel())).mul(i + 1).sin().view(shape)
        for i, shape in enumerate(shapes)
    ]
    x, delta, A, B, C, D, delta_bias = (wave.to(device) for wave in waves)
    problem = Problem(x, longest_step * delta, -0.1 - A.abs(), B, C, D, delta_bias, width, True)
    return problem, x.cos()


def _small_problems(device: torch.device) -> list[tuple[Problem, Tensor]]:
    """A map of 16 pixels, one of a single pixel, and one where most states decay to 0 in one step.

    In the last one, a gradient that is computed as a difference of nearly equal numbers is visibly wrong:
    the rounding error is multiplied by the length of the steps.
    """
    sizes = ((2, 8, 1.0), (1, 1, 1.0), (1, 3, 1e4))
    return [_small_problem(height, width, longest, device) for height, width, longest in sizes]


def _agrees(found: Tensor, right: Tensor) -> bool:
    scale = max(1.0, float(right.abs().max()))
    return float((found - right).abs().max()) <= _TOLERANCE * scale  # False for NaN


@cache
def _probed(name: str, device: torch.device, gradients: bool) -> Backend | UnavailableError:
    """The backend, if it computes the small problems as the definition does; else the error."""
    try:
        module = import_module(f"{__package__}.{name}")
        if module.DEVICES and device.type not in module.DEVICES:
            return UnavailableError(f"it computes on {' and '.join(module.DEVICES)} only")
        projects = (getattr(module, name, False) for name in ("PROJECTS_DELTA", "PROJECTS_GRADIENTS"))
        backend = Backend(name, module.describe(), module.forward, module.backward, *projects)
        for problem, grad in _small_problems(device):
            (y, saved_states), (right_y, _) = (
                backend.forward(problem, gradients),
                reference.forward(problem),
            )
            if not _agrees(y, right_y):
                return UnavailableError("it computes a small problem wrongly here")
            if not gradients:
                continue
            found, right = backend.backward(grad, problem, saved_states), reference.backward(grad, problem)
            if not all(map(_agrees, found, right)):
                return UnavailableError("it computes the gradients of a small problem wrongly here")
    except Exception as error:  # whatever a missing package, driver or compiler raises
        lines = str(error).splitlines() or ["no reason given"]
        return UnavailableError(f"{type(error).__name__}: {lines[0]}")
    return backend


def choose(device: torch.device, dtype: torch.dtype, name: str = "", gradients: bool = False) -> Backend:
    """The backend for tensors of a device and a type.

    Args:
        device, dtype: those of the tensors. float64 is computed by the definition only.
        name: the backend; if empty, the one that the variable nnUNet_igtv_scan names; if that is not set, the
            first available one.
        gradients: whether the backend must compute gradients.

    Raises:
        ValueError: no backend has this name, or the one asked for does not compute in this type.
        UnavailableError: the backend asked for cannot be used on this device.
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
        found = _probed(candidate, device, gradients)
        if isinstance(found, Backend):
            return found
    raise UnavailableError(f"the scan's backend {candidates[0]!r} does not run on {device}: {found}")


def active_backend(device: torch.device | str) -> Backend:
    """The backend used for training on a device. `str` of it gives the name and the reasons for the choice.

    Raises:
        ValueError: the variable nnUNet_igtv_scan has no backend's name.
        UnavailableError: the backend that it names cannot be used on this device.
    """
    device = torch.device(device)
    chosen = choose(device, torch.float32, gradients=True)
    if os.environ.get(VARIABLE):
        return replace(chosen, reason=f"{chosen.reason}; {VARIABLE} asks for it")
    passed_over = []
    for name in _BEST_FIRST.get(device.type, ()):
        found = _probed(name, device, True)
        if isinstance(found, Backend):
            break
        passed_over.append(f"{name} does not run: {found}")
    return replace(chosen, reason="; ".join([chosen.reason, *passed_over]))
