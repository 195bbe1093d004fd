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
import warnings
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from . import reference
from .problem import Gradients, Problem
from .projection import projected, with_projection_gradients

VARIABLE = "nnUNet_igtv_scan"
NAMES = ("cpu", "cuda", "mamba_ssm", "reference")
_BEST_FIRST = {"cpu": ("cpu", "reference"), "cuda": ("cuda", "mamba_ssm", "reference")}
_TOLERANCE = 1e-3  # of the largest value of a result, or of 1


@dataclass(frozen=True)
class Backend:
    """A backend on a device. `str` gives its name and the reason for the choice."""

    name: str
    module: ModuleType
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"

    def forward(self, problem: Problem, save_states: bool) -> tuple[Tensor, Tensor | None]:
        """y, and the states that the backward pass takes, or None."""
        if not getattr(self.module, "PROJECTS_DELTA", False):
            problem = projected(problem)
        result: tuple[Tensor, Tensor | None] = self.module.forward(problem, save_states)
        return result

    def backward(self, grad: Tensor, problem: Problem, saved_states: Tensor | None) -> tuple[Tensor, ...]:
        """The gradients of the problem's first seven tensors, and of delta_weight where it is given."""
        if getattr(self.module, "PROJECTS_GRADIENTS", False):
            gradients: tuple[Tensor, ...] = self.module.backward(grad, problem, saved_states)
            return gradients
        projected_gradients: Gradients = self.module.backward(grad, projected(problem), saved_states)
        return with_projection_gradients(projected_gradients, problem)


class UnavailableError(RuntimeError):
    """A backend cannot be used on a device; the text gives the reason."""


def _small_problem(
    images: int, height: int, width: int, device: torch.device, longest_step: float = 1.0
) -> tuple[Problem, Tensor]:
    """A cross scan of 20 channels and 4 states, delta projected from 2 values, and a gradient of y."""
    pixels = (images, height * width, 4)
    shapes = [(images, height * width, 1, 20), (*pixels, 2), (4, 20, 4), (*pixels, 4), (*pixels, 4)]
    return _waves([*shapes, (4, 20), (4, 20), (4, 20, 2)], width, longest_step, device)


def _small_sequence(length: int, device: torch.device) -> tuple[Problem, Tensor]:
    """A selective scan of 20 channels and 4 states, and a gradient of y."""
    pixels = (1, length, 1)
    shapes = [(*pixels, 20), (*pixels, 20), (1, 20, 4), (*pixels, 4), (*pixels, 4), (1, 20), (1, 20)]
    return _waves(shapes, length, 1.0, device)


def _waves(
    shapes: list[tuple[int, ...]], width: int, longest_step: float, device: torch.device
) -> tuple[Problem, Tensor]:
    waves = [
        torch.arange(float(torch.Size(shape).numel())).mul(i + 1).sin().view(shape).to(device)
        for i, shape in enumerate(shapes)
    ]
    x, delta, A, B, C, D, delta_bias, *weight = waves
    problem = Problem(x, longest_step * delta, -0.1 - A.abs(), B, C, D, delta_bias, width, True, *weight)
    return problem, x.cos()


def _small_problems(device: torch.device) -> list[tuple[Problem, Tensor]]:
    """A map, one of a single pixel, windows, a map where most states decay to 0 in one step, a sequence.

    Where states decay, a gradient that is computed as a difference of nearly equal numbers is visibly wrong:
    the rounding error is multiplied by the length of the steps. The sequence has several chunks of steps.
    """
    return [
        _small_problem(1, 2, 8, device),
        _small_problem(1, 1, 1, device),
        _small_problem(1, 1, 3, device, longest_step=1e4),
        _small_problem(3, 4, 4, device),
        _small_sequence(70, device),
    ]


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
        backend, definition = Backend(name, module, module.describe()), Backend("", reference, "")
        for problem, grad in _small_problems(device):
            y, saved_states = backend.forward(problem, gradients)
            if not _agrees(y, definition.forward(problem, False)[0]):
                return UnavailableError("it computes a small problem wrongly here")
            if not gradients:
                continue
            found = backend.backward(grad, problem, saved_states)
            if not all(map(_agrees, found, definition.backward(grad, problem, None))):
                return UnavailableError("it computes the gradients of a small problem wrongly here")
    except Exception as error:  # whatever a missing package, driver or compiler raises
        lines = str(error).splitlines() or ["no reason given"]
        return UnavailableError(f"{type(error).__name__}: {lines[0]}")
    return backend


def _asked_for(name: str) -> str:
    """The backend asked for by name or by the variable; empty, where none is.

    Raises:
        ValueError: no backend has this name.
    """
    asked = name or os.environ.get(VARIABLE, "")
    if asked and asked not in NAMES:
        known = ", ".join(NAMES)
        raise ValueError(f"{asked!r} is no backend of the scan ({VARIABLE} or backend=): {known}")
    return asked


def _first_available(
    candidates: tuple[str, ...], device: torch.device, gradients: bool
) -> tuple[Backend, tuple[str, ...]]:
    """The first backend that runs on a device, and why each one before it does not."""
    passed_over: tuple[str, ...] = ()
    for name in candidates:
        found = _probed(name, device, gradients)
        if isinstance(found, Backend):
            return found, passed_over
        passed_over += (f"{name} does not run: {found}",)
    raise UnavailableError(f"the scan's backend {candidates[0]!r} does not run on {device}: {found}")


@cache
def _warn_once(device: torch.device, chosen: Backend, passed_over: tuple[str, ...]) -> None:
    text = f"the scan on {device} uses {chosen.name}, a slower backend: {'; '.join(passed_over)}"
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def choose(device: torch.device, dtype: torch.dtype, name: str = "", gradients: bool = False) -> Backend:
    """The backend for tensors of a device and a type. Warns once where it is not the best one for the device.

    Args:
        device, dtype: those of the tensors. float64 is computed by the definition only.
        name: the backend; if empty, the one that the variable nnUNet_igtv_scan names; if that is not set, the
            first available one.
        gradients: whether the backend must compute gradients.

    Raises:
        ValueError: no backend has this name, or the one asked for does not compute in this type.
        UnavailableError: the backend asked for cannot be used on this device.
    """
    asked = _asked_for(name)
    if dtype == torch.float64 and asked not in ("", "reference"):
        raise ValueError(f"{asked!r} computes the scan in float32; float64 inputs need 'reference'")
    candidates = (asked,) if asked else _BEST_FIRST.get(device.type, ("reference",))
    if dtype == torch.float64:
        candidates = ("reference",)
    chosen, passed_over = _first_available(candidates, device, gradients)
    if passed_over:
        _warn_once(device, chosen, passed_over)
    return chosen


def active_backend(device: torch.device | str) -> Backend:
    """The backend used for training on a device. `str` of it gives the name and the reasons for the choice.

    Raises:
        ValueError: the variable nnUNet_igtv_scan has no backend's name.
        UnavailableError: the backend that it names cannot be used on this device.
    """
    device = torch.device(device)
    asked = _asked_for("")
    candidates = (asked,) if asked else _BEST_FIRST.get(device.type, ("reference",))
    chosen, reasons = _first_available(candidates, device, gradients=True)
    if asked:
        reasons = (f"{VARIABLE} asks for it",)
    return replace(chosen, reason="; ".join([chosen.reason, *reasons]))
