"""The way to mamba-ssm's kernel, without a GPU: a stand-in with the signature of its `selective_scan_fn`."""

import importlib
import sys
from types import ModuleType

import pytest
import torch

from nnunet_igtv.ops import cross_scan, dispatch, reference, selective_scan
from nnunet_igtv.ops.problem import Problem


class StandIn(torch.autograd.Function):
    """u, delta (B, D, L), A (D, N), B, C (B, G, N, L), D, delta_bias (D): what the kernel takes."""

    @staticmethod
    def forward(ctx, *tensors_and_softplus):
        *tensors, ctx.softplus = tensors_and_softplus
        assert all(t.is_contiguous() and t.dtype == torch.float32 for t in tensors)
        ctx.save_for_backward(*tensors)
        return StandIn.channels_first(reference.forward(StandIn.problem(tensors, ctx.softplus))[0])

    @staticmethod
    def backward(ctx, dy):
        groups = ctx.saved_tensors[3].shape[1]
        grad = dy.transpose(1, 2).unflatten(2, (groups, -1))
        problem = StandIn.problem(ctx.saved_tensors, ctx.softplus)
        du, ddelta, dA, dB, dC, dD, dbias = reference.backward(grad, problem)
        du, ddelta = StandIn.channels_first(du), StandIn.channels_first(ddelta)
        dB, dC = (t.permute(0, 2, 3, 1) for t in (dB, dC))
        return du, ddelta, dA.flatten(0, 1), dB, dC, dD.flatten(), dbias.flatten(), None

    @staticmethod
    def problem(tensors, softplus):
        u, delta, A, B, C, D, delta_bias = tensors
        groups = B.shape[1]
        u, delta = (t.transpose(1, 2).unflatten(2, (groups, -1)) for t in (u, delta))
        A, D, delta_bias = (t.unflatten(0, (groups, -1)) for t in (A, D, delta_bias))
        B, C = (t.permute(0, 3, 1, 2) for t in (B, C))
        return Problem(u, delta, A, B, C, D, delta_bias, u.shape[1], softplus)

    @staticmethod
    def channels_first(tensor):
        return tensor.flatten(2).transpose(1, 2)


def selective_scan_fn(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
):
    assert z is None
    assert not return_last_state
    return StandIn.apply(u, delta, A, B, C, D, delta_bias, delta_softplus)


@pytest.fixture
def kernel(monkeypatch):
    """The backend over the stand-in, which computes on a CPU."""
    interface = ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = selective_scan_fn
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    monkeypatch.delitem(sys.modules, "nnunet_igtv.ops.mamba_ssm", raising=False)
    backend = importlib.import_module("nnunet_igtv.ops.mamba_ssm")
    monkeypatch.setattr(backend, "DEVICES", ("cpu",))
    dispatch._probed.cache_clear()
    yield
    sys.modules.pop("nnunet_igtv.ops.mamba_ssm", None)
    dispatch._probed.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_directions_are_laid_out_for_the_kernel_and_gathered_back(kernel, scan_tools, dtype):
    problem = scan_tools.cross_problem(2, 3, 5, 6, 4).to(dtype)
    found = scan_tools.value_and_gradients(cross_scan, problem, backend="mamba_ssm")
    right = scan_tools.value_and_gradients(cross_scan, problem.to(torch.float64))
    assert max(scan_tools.relative_errors(found, right)) < (2e-5 if dtype == torch.float32 else 2e-2)


def test_a_sequence_in_groups(kernel, scan_tools):
    problem = scan_tools.sequence_problem(2, 7, 6, 2, 3)
    single = problem.to(torch.float32)
    found = scan_tools.value_and_gradients(selective_scan, single, backend="mamba_ssm", delta_softplus=True)
    right = scan_tools.value_and_gradients(selective_scan, problem.to(torch.float64), delta_softplus=True)
    assert max(scan_tools.relative_errors(found, right)) < 2e-5
