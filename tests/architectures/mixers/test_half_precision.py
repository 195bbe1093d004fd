"""The scan branch and its own backward pass, against autograd."""

import pytest
import torch
from torch import nn

from nnunet_igtv.architectures.mixers.base import GatedMap
from nnunet_igtv.architectures.mixers.half_precision import in_half_precision
from nnunet_igtv.architectures.mixers.scan import SS2D


def branch_of(block, x, norm):
    return block(x, norm)


def lean(block, x, norm):
    """The form for half precision, in whatever type x has."""
    return in_half_precision(x, block.branch_weights(norm), x.dtype, 1e-5)


@pytest.fixture(params=[True, False], ids=["with a norm", "without"])
def branch(request, randomised):
    """A block, and the norm before it or None, in double precision."""
    norm = randomised(nn.LayerNorm(16)).double() if request.param else None
    return randomised(SS2D(16, 3)).double(), norm


def results(call, branch, x):
    """Output and all gradients, by name."""
    modules = nn.ModuleList(part for part in branch if part is not None)
    modules.zero_grad()
    x = x.clone().requires_grad_()
    y = call(branch[0], x, branch[1])
    (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    return {"": y.detach(), "x": x.grad} | {name: p.grad.clone() for name, p in modules.named_parameters()}


def assert_near(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).norm() <= tolerance * value.norm(), name


def test_both_forms_have_the_same_result_and_gradients(branch, noise):
    x = noise(2, 5, 6, 16)
    assert_near(results(lean, branch, x), results(branch_of, branch, x), 1e-12)


@pytest.mark.parametrize(("half", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.08)])
def test_in_half_precision_they_are_the_same_as_far_as_that_carries(branch, noise, half, tolerance):
    x = noise(2, 5, 6, 16)
    expected = results(branch_of, branch, x)
    for part in branch:
        if part is not None:
            part.float()
    with torch.autocast("cpu", dtype=half):
        found = results(branch_of, branch, x.float())
    assert found[""].dtype == half
    assert_near(found, expected, tolerance)


def kept_bytes(call, weights):
    """Bytes of the maps that wait for the backward pass, without the weights themselves."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    own = {weight.untyped_storage()._cdata for weight in weights if weight is not None}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call()
    return sum(storage.nbytes() for key, storage in kept.items() if key not in own)


def test_the_form_for_half_precision_keeps_a_fifth_of_what_autograd_keeps(branch, noise, monkeypatch):
    monkeypatch.setenv("nnUNet_igtv_scan", "reference")  # which keeps nothing of its own
    for part in branch:
        if part is not None:
            part.float()
    block, norm = branch
    weights, x = block.branch_weights(norm), noise(1, 32, 32, 16).float().requires_grad_()
    lean_bytes = kept_bytes(lambda: in_half_precision(x, weights, torch.bfloat16, 1e-5), weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert lean_bytes < 0.2 * kept_bytes(lambda: GatedMap.forward(block, x, norm), weights)
