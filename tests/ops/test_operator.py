"""The operator within PyTorch: its contract, compilation, autocast, and the choice of a backend."""

import pytest
import torch

from nnunet_igtv.ops import active_backend, cross_scan, dispatch, selective_scan
from nnunet_igtv.ops.scan import _scan, _scan_backward


def operands(tools):
    """The operator's own arguments, as `cross_scan` lays them out."""
    x, delta, A, B, C, D, bias = tools.cross_problem(1, 3, 4, 16, 4).to(torch.float32).tensors
    delta, B, C = (t.flatten(1, 2) for t in (delta, B, C))
    tensors = (x.flatten(1, 2).unsqueeze(2), delta, A, B, C, D, bias)
    return tuple(t.detach().requires_grad_() for t in tensors)


def narrow(tensors):
    """The same with steps that a weight widens from 3 numbers."""
    x, delta, *others = tensors
    weight = torch.linspace(-1, 1, 4 * 16 * 3).view(4, 16, 3).requires_grad_()
    return (x, delta.detach()[..., :3].contiguous().requires_grad_(), *others, weight)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_the_operators_keep_pytorchs_contract(scan_tools, backend):
    tensors = operands(scan_tools)
    torch.library.opcheck(_scan, (*tensors, None, 4, True, backend, False))
    torch.library.opcheck(_scan, (*narrow(tensors), 4, True, backend, False))
    detached = tuple(t.detach() for t in tensors)
    y, states = _scan(*detached, None, 4, True, backend, True)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(_scan_backward, (y, states, *detached, 4, True, backend), test_utils=checks)


def test_compiled_in_one_piece_and_equal(scan_tools):
    def loss(u, *others):
        y = cross_scan(torch.sin(u), *others)
        sequence = selective_scan(
            y.flatten(1, 2).transpose(1, 2),
            y.flatten(1, 2).transpose(1, 2),
            others[1][0],
            others[2][:, :, :, 0].flatten(1, 2).transpose(1, 2).unsqueeze(1),
            others[3][:, :, :, 0].flatten(1, 2).transpose(1, 2).unsqueeze(1),
            delta_softplus=True,
        )
        return (sequence * sequence).sum()

    problem = scan_tools.cross_problem(1, 3, 4, 16, 4)
    found = scan_tools.value_and_gradients(
        torch.compile(loss, fullgraph=True, backend="aot_eager"), problem.to(torch.float32)
    )
    right = scan_tools.value_and_gradients(loss, problem.to(torch.float32))
    assert max(scan_tools.relative_errors(found, right)) < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_the_scan_in_float32(scan_tools, dtype):
    problem = scan_tools.sequence_problem(1, 2000, 16, 1, 4, decay=1e-4)
    u, *others = problem.to(torch.float32).tensors
    with torch.autocast("cpu", dtype):
        y = selective_scan(u.abs() * 1000, *others, delta_softplus=True)
    assert y.dtype == torch.float32
    assert y.abs().max() > 65504  # beyond float16
    assert y.isfinite().all()
    halves = [t.to(dtype) for t in problem.tensors]
    with torch.autocast("cpu", dtype):
        assert selective_scan(*halves, delta_softplus=True).dtype == torch.float32


def test_optional_inputs_default_to_zeros(scan_tools):
    u, delta, A, B, C, D, bias = scan_tools.sequence_problem().tensors
    explicit = selective_scan(u, delta, A, B, C, torch.zeros_like(D), torch.zeros_like(bias))
    assert torch.equal(selective_scan(u, delta, A, B, C), explicit)


@pytest.mark.parametrize("spoilt", range(1, 7))
def test_shapes_that_do_not_fit_are_named(scan_tools, spoilt):
    tensors = list(scan_tools.cross_problem().tensors)
    tensors[spoilt] = tensors[spoilt][..., :1]
    names = ["x", "delta", "A", "B", "C", "D", "delta_bias"]
    with pytest.raises(ValueError, match=rf"^({names[spoilt]}|B) has shape"):
        cross_scan(*tensors)


def test_channels_that_make_no_groups_are_refused(scan_tools):
    u, delta, A, B, C, *_ = scan_tools.sequence_problem(channels=6, groups=4).tensors
    with pytest.raises(ValueError, match="6 channels cannot be cut into 4 groups"):
        selective_scan(u, delta, A, B, C)


def test_the_fast_kernels_are_chosen_on_the_cpu(no_choice):
    assert active_backend("cpu").name == "cpu"
    assert str(active_backend("cpu")).startswith("cpu (machine code for")


def test_the_variable_overrides_and_is_said_to(monkeypatch, scan_tools):
    monkeypatch.setenv(dispatch.VARIABLE, "reference")
    assert active_backend("cpu").name == "reference"
    assert dispatch.VARIABLE in str(active_backend("cpu"))


def test_unknown_backends_are_refused_with_the_known_ones(monkeypatch, scan_tools):
    tensors = scan_tools.cross_problem().tensors
    with pytest.raises(ValueError, match=r"'cuda' is no backend .*reference"):
        cross_scan(*tensors, backend="cuda")
    monkeypatch.setenv(dispatch.VARIABLE, "fastest")
    with pytest.raises(ValueError, match="'fastest' is no backend"):
        cross_scan(*tensors)


def test_float64_is_not_silently_computed_in_float32(scan_tools):
    with pytest.raises(ValueError, match="float64"):
        cross_scan(*scan_tools.cross_problem().tensors, backend="cpu")


def test_a_backend_that_computes_wrongly_is_passed_over(monkeypatch, no_choice):
    from nnunet_igtv.ops import cpu

    monkeypatch.setattr(cpu, "forward", lambda problem, keep: (torch.zeros_like(problem.x), None))
    dispatch._probed.cache_clear()
    try:
        chosen = active_backend("cpu")
        assert chosen.name == "reference"
        assert "cpu does not run: it computes a small problem wrongly" in str(chosen)
    finally:
        dispatch._probed.cache_clear()


def test_gradients_come_from_a_backend_whose_backward_pass_is_right(monkeypatch, no_choice, scan_tools):
    from nnunet_igtv.ops import cpu

    monkeypatch.setattr(cpu, "backward", lambda grad, problem, _: [torch.zeros_like(t) for t in problem[:7]])
    dispatch._probed.cache_clear()
    try:
        assert dispatch.choose(torch.device("cpu"), torch.float32).name == "cpu"
        assert active_backend("cpu").name == "reference"
        problem = scan_tools.cross_problem(1, 3, 4, 6, 2)
        found = scan_tools.value_and_gradients(cross_scan, problem.to(torch.float32))
        right = scan_tools.value_and_gradients(cross_scan, problem.to(torch.float64))
        assert max(scan_tools.relative_errors(found, right)) < 2e-5
    finally:
        dispatch._probed.cache_clear()


def test_a_backend_that_fails_is_passed_over_with_its_reason(monkeypatch, no_choice):
    from nnunet_igtv.ops import cpu

    def fail(*arguments):
        raise OSError("no executable memory here\nand a long story")

    monkeypatch.setattr(cpu, "forward", fail)
    dispatch._probed.cache_clear()
    try:
        assert "cpu does not run: OSError: no executable memory here" in str(active_backend("cpu"))
        with pytest.raises(dispatch.UnavailableError, match="'cpu' does not run on cpu: OSError"):
            dispatch.choose(torch.device("cpu"), torch.float32, "cpu")
    finally:
        dispatch._probed.cache_clear()
