from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from nnunet_igtv.ops import dispatch


@dataclass(frozen=True)
class Problem:
    """Inputs of `cross_scan`, or of `selective_scan`."""

    tensors: tuple[Tensor, ...]

    def to(self, dtype, device="cpu"):
        return replace(
            self, tensors=tuple(t.detach().to(device, dtype).requires_grad_() for t in self.tensors)
        )


def cross_problem(batch=2, height=5, width=7, channels=6, states=3, seed=0, decay=1.0):
    """A cross scan; decay scales A: 0 forgets nothing, 1000 forgets everything at once."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    pixels = (batch, height, width)
    return Problem(
        (
            normal(*pixels, channels),
            normal(*pixels, 4, channels) - 1,
            -decay * (0.1 + normal(4, channels, states).abs()),
            normal(*pixels, 4, states),
            normal(*pixels, 4, states),
            normal(4, channels),
            normal(4, channels),
        )
    )


def sequence_problem(batch=2, length=11, channels=6, groups=2, states=3, seed=0, decay=1.0):
    """A selective scan along a sequence, with every optional input."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    return Problem(
        (
            normal(batch, channels, length),
            normal(batch, channels, length) - 1,
            -decay * (0.1 + normal(channels, states).abs()),
            normal(batch, groups, states, length),
            normal(batch, groups, states, length),
            normal(channels),
            normal(channels),
        )
    )


def value_and_gradients(function, problem, seed=1, **options):
    """y and the gradients of a random linear function of it, all float64."""
    y = function(*problem.tensors, **options)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gradients = torch.autograd.grad(y, problem.tensors, weight.to(y))
    return [t.detach().cpu().double() for t in (y, *gradients)]


def relative_errors(found, right):
    """Largest difference of each pair over the largest magnitude of the right one."""
    return [
        float((a - b).abs().max() / b.abs().max().clamp(min=1e-6)) for a, b in zip(found, right, strict=True)
    ]


@pytest.fixture(autouse=True)
def nan_in_uninitialised_memory():
    """`torch.empty` and the like return NaN: reading memory before it is written changes a test's result.

    Bytes, the type of the kernels' working memory, are 0xff; read as floats, they are NaN, too.
    """
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    assert torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@pytest.fixture
def scan_tools():
    """What the tests of the scan share: problems, gradients, errors."""
    return SimpleNamespace(
        cross_problem=cross_problem,
        sequence_problem=sequence_problem,
        value_and_gradients=value_and_gradients,
        relative_errors=relative_errors,
    )


@pytest.fixture
def no_choice(monkeypatch):
    """Without the environment's choice of a backend."""
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
