"""The operator within PyTorch: its contract, compilation, autocast, and the choice of a backend."""

import warnings

import pytest
import torch
import torch.nn.functional as F

from nnunet_igtv.ops import active_backend, cross_scan, dispatch, reference, selective_scan
from nnunet_igtv.ops.projection import projected
from nnunet_igtv.ops.scan import _scan, _scan_backward


def operands(tools):
    """The operator's own arguments, as `cross_scan` lays them out."""
    x, delta, A, B, C, D, bias = tools.cross_problem(1, 3, 4, 16, 4).to(torch.float32).tensors
    delta, B, C = (t.flatten(1, 2) for t in (delta, B, C))
    tensors = (x.flatten(1, 2).unsqueeze(2), delta, A, B, C, D, bias)
    return tuple(t.detach().requires_grad_() for t in tensors)


def with_a_projection(tensors):
    """The same with a delta that a weight projects from 3 values a pixel."""
    x, delta, *others = tensors
    weight = torch.linspace(-1, 1, 4 * 16 * 3).view(4, 16, 3).requires_grad_()
    return (x, delta.detach()[..., :3].contiguous().requires_grad_(), *others, weight)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_the_operators_keep_pytorchs_contract(scan_tools, backend):
    tensors = operands(scan_tools)
    torch.library.opcheck(_scan, (*tensors, None, 4, True, backend, False))
    torch.library.opcheck(_scan, (*with_a_projection(tensors), 4, True, backend, False))
    detached = tuple(t.detach() for t in tensors)
    y, states = _scan(*detached, None, 4, True, backend, True)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(_scan_backward, (y, states, *detached, None, 4, True, backend), test_utils=checks)
    detached = tuple(t.detach() for t in with_a_projection(tensors))
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
    with pytest.raises(ValueError, match=r"'opencl' is no backend .*reference"):
        cross_scan(*tensors, backend="opencl")
    monkeypatch.setenv(dispatch.VARIABLE, "fastest")
    with pytest.raises(ValueError, match="'fastest' is no backend"):
        cross_scan(*tensors)


def test_float64_is_not_silently_computed_in_float32(scan_tools):
    with pytest.raises(ValueError, match="float64"):
        cross_scan(*scan_tools.cross_problem().tensors, backend="cpu")


def test_a_backend_that_computes_wrongly_is_passed_over(monkeypatch, no_choice):
    from nnunet_igtv.ops import cpu

    monkeypatch.setattr(cpu, "forward", lambda problem, save_states: (torch.zeros_like(problem.x), None))
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


def gradients_from_a_difference_of_states(grad, problem, _):
    """dA and ddelta from decay * h_before = h - drive, with the fused multiply-adds of a GPU.

    h is rounded to float32, but the product within drive is not rounded before the difference.
    """
    dx, ddelta, dA, *others = reference.backward(grad, problem)
    x, delta, A, B, C, _, bias, *_ = problem
    order, each = reference._order(problem)
    step, slope = F.softplus(delta + bias), torch.sigmoid(delta + bias)
    by_step = (t[:, order, each].unbind(1) for t in (x.expand_as(delta), grad.expand_as(delta), step, B, C))
    steps, decayed, h = list(zip(*by_step, strict=True)), [], torch.zeros_like(A)
    for x_t, _, step_t, B_t, _ in steps:
        drive = (step_t * x_t).double().unsqueeze(-1) * B_t.double().unsqueeze(2)
        h = (torch.exp(step_t.unsqueeze(-1) * A) * h + drive).float()
        decayed.append((h - drive).float())
    next_g, dA, dstep = torch.zeros_like(h), torch.zeros_like(A), []
    for (x_t, dy_t, step_t, B_t, C_t), decayed_h in zip(steps[::-1], decayed[::-1], strict=True):
        g = C_t.unsqueeze(2) * dy_t.unsqueeze(-1) + next_g
        next_g = torch.exp(step_t.unsqueeze(-1) * A) * g
        dA += (decayed_h * g * step_t.unsqueeze(-1)).sum(0)
        dstep.append((decayed_h * g * A).sum(-1) + (g * B_t.unsqueeze(2)).sum(-1) * x_t)
    ddelta = torch.stack(dstep[::-1], 1)[:, order.argsort(0), each] * slope
    return dx, ddelta, dA, *others


def test_gradients_that_lose_their_digits_by_cancellation_are_not_used(monkeypatch, no_choice):
    """A fault that an earlier GPU backend had: too small to see at steps of length 1."""
    from nnunet_igtv.ops import cpu

    problem, grad = dispatch._small_problem(1, 2, 8, torch.device("cpu"))
    problem = projected(problem)
    found = gradients_from_a_difference_of_states(grad, problem, None)
    assert all(map(dispatch._agrees, found, reference.backward(grad, problem)))
    monkeypatch.setattr(cpu, "backward", gradients_from_a_difference_of_states)
    dispatch._probed.cache_clear()
    try:
        assert active_backend("cpu").name == "reference"
        assert "cpu does not run: it computes the gradients of a small problem wrongly" in str(
            active_backend("cpu")
        )
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


def test_a_gpu_without_its_own_kernels_is_said_once_and_computed_all_the_same(monkeypatch, no_choice):
    """Here "cuda" cannot be loaded and mamba-ssm is not installed."""
    from nnunet_igtv.ops import cuda

    monkeypatch.setitem(dispatch._BEST_FIRST, "cpu", dispatch._BEST_FIRST["cuda"])
    monkeypatch.setattr(cuda, "DEVICES", ())

    def no_compiler(*arguments):
        raise ModuleNotFoundError("No module named 'cuda.bindings'")

    monkeypatch.setattr(cuda, "forward", no_compiler)
    cpu, reason = (
        torch.device("cpu"),
        "cuda does not run: ModuleNotFoundError: No module named 'cuda.bindings'",
    )
    dispatch._probed.cache_clear()
    dispatch._warn_once.cache_clear()
    try:
        assert reason in str(active_backend(cpu))
        with pytest.warns(RuntimeWarning, match=rf"the scan on cpu uses reference.*{reason}; mamba_ssm"):
            assert dispatch.choose(cpu, torch.float32).name == "reference"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert dispatch.choose(cpu, torch.float32).name == "reference"
    finally:
        dispatch._probed.cache_clear()
        dispatch._warn_once.cache_clear()
