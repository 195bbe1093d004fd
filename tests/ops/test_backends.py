"""Every backend that runs here against the definition in float64: values and all seven gradients."""

from importlib.util import find_spec

import pytest
import torch

from nnunet_igtv.ops import cross_scan, dispatch, selective_scan

PLACES = [("cpu", "cpu"), ("reference", "cpu")]
if torch.cuda.is_available():
    PLACES += [("cuda", "cuda"), ("mamba_ssm", "cuda"), ("reference", "cuda")]
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


@pytest.fixture(params=PLACES, ids=lambda place: "-".join(place))
def place(request):
    name, device = request.param
    if name == "mamba_ssm" and not find_spec("mamba_ssm"):
        pytest.skip("mamba-ssm is not installed")
    dispatch.choose(torch.device(device), torch.float32, name, gradients=True)  # raises where it is wrong
    return name, device


def check(tools, function, problem, place, dtype=torch.float32, **options):
    name, device = place
    problem = problem.to(dtype)  # rounded first: the question is what the backend adds
    found = tools.value_and_gradients(function, problem.to(dtype, device), backend=name, **options)
    right = tools.value_and_gradients(function, problem.to(torch.float64), backend="reference", **options)
    errors = tools.relative_errors(found, right)
    assert max(errors) < TOLERANCE[dtype], errors


@pytest.mark.parametrize("channels", [1, 16, 40])
@pytest.mark.parametrize("states", [1, 4, 5, 16, 17])
def test_a_map_of_any_channels_and_states(scan_tools, place, channels, states):
    check(scan_tools, cross_scan, scan_tools.cross_problem(2, 3, 5, channels, states), place)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (4, 4), (13, 7)])
def test_a_map_of_any_size(scan_tools, place, size):
    check(scan_tools, cross_scan, scan_tools.cross_problem(3, *size, 20, 4), place)


@pytest.mark.parametrize(("channels", "rank"), [(1, 1), (20, 3), (48, 7), (33, 40)])
@pytest.mark.parametrize("states", [1, 4, 19])
@pytest.mark.parametrize("softplus", [False, True])
def test_steps_widened_from_few_numbers(scan_tools, place, channels, rank, states, softplus):
    """As a network computes them: steps, B and C side by side in one projection, none of them copied."""
    name, device = place
    problem = scan_tools.cross_problem(2, 3, 5, channels, states)
    x, _, A, _, _, D, bias = problem.tensors
    random = torch.Generator().manual_seed(5)
    projected = torch.rand(2, 3, 5, 4, rank + 2 * states, generator=random, dtype=torch.float64)
    weight = torch.rand(4, channels, rank, generator=random, dtype=torch.float64) / rank

    def scan(x, projected, A, D, bias, weight, backend):
        steps, B, C = projected.split((rank, states, states), -1)
        return cross_scan(x, steps, A, B, C, D, bias, softplus, weight, backend)

    def separately(x, projected, A, D, bias, weight):
        steps, B, C = projected.split((rank, states, states), -1)
        return cross_scan(x, torch.einsum("bhwkr,kdr->bhwkd", steps, weight), A, B, C, D, bias, softplus)

    problem = type(problem)((x, projected, A, D, bias.abs(), weight))
    found = scan_tools.value_and_gradients(scan, problem.to(torch.float32, device), backend=name)
    right = scan_tools.value_and_gradients(separately, problem.to(torch.float64))
    assert max(scan_tools.relative_errors(found, right)) < 2e-5


@pytest.mark.parametrize("signs", [-1, 1])
@pytest.mark.parametrize("states", [3, 9])
def test_states_that_grow_and_states_that_never_decay(scan_tools, place, signs, states):
    """A positive, and A of both signs with zeros among them."""
    x, delta, A, *others = scan_tools.cross_problem(1, 3, 5, 20, states).tensors
    A = A.abs() / 4
    A[:, ::2] *= signs
    A[:, ::3, ::2] = 0.0
    check(scan_tools, cross_scan, type(scan_tools.cross_problem())((x, delta, A, *others)), place)


@pytest.mark.parametrize("rate", [1e-9, 1.0, 100.0, 1e5])
def test_steps_of_any_length_decay_as_they_should(scan_tools, place, rate):
    """From steps that change nothing to steps beyond any exponent."""
    x, _, A, *others = scan_tools.cross_problem(1, 4, 4, 16, 4).tensors
    delta = torch.linspace(-60, 12, 16 * 4 * 16, dtype=torch.float64).view(1, 4, 4, 4, 16).exp()
    problem = type(scan_tools.cross_problem())((x, delta, -rate * A.abs(), *others))
    check(scan_tools, cross_scan, problem, place)


def with_positive_steps(problem):
    """So that the state decays without softplus, too."""
    x, delta, A, B, C, D, bias = problem.tensors
    return type(problem)((x, delta.abs(), A, B, C, D, bias.abs()))


@pytest.mark.parametrize("length", [1, 2, 8, 33])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_sequence_of_any_length_in_groups(scan_tools, place, length, groups):
    problem = with_positive_steps(scan_tools.sequence_problem(2, length, 24, groups, 6))
    check(scan_tools, selective_scan, problem, place)


@pytest.mark.parametrize("softplus", [False, True])
def test_with_and_without_softplus(scan_tools, place, softplus):
    problem = with_positive_steps(scan_tools.cross_problem(1, 4, 6, 17, 4))
    check(scan_tools, cross_scan, problem, place, delta_softplus=softplus)
    problem = with_positive_steps(scan_tools.sequence_problem(1, 12, 17, 1, 4))
    check(scan_tools, selective_scan, problem, place, delta_softplus=softplus)


@pytest.mark.parametrize("decay", [0.0, 1e-3, 1e3])
def test_long_sequences_that_keep_or_forget_everything(scan_tools, place, decay):
    problem = scan_tools.sequence_problem(1, 700, 16, 1, 4, decay=decay)
    check(scan_tools, selective_scan, problem, place, delta_softplus=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_lose_only_their_own_rounding(scan_tools, place, dtype):
    check(scan_tools, cross_scan, scan_tools.cross_problem(1, 6, 7, 32, 16), place, dtype)


def test_several_images_and_runs_of_channels_in_threads(scan_tools, place):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)  # 2 images among 3 threads: an image is shared
    try:
        check(scan_tools, cross_scan, scan_tools.cross_problem(2, 8, 8, 112, 16), place)
    finally:
        torch.set_num_threads(threads)


def test_inputs_of_any_memory_layout(scan_tools, place):
    name, device = place
    problem = scan_tools.cross_problem(2, 4, 6, 16, 4)

    def spread(tensor):
        """The same values as every other element, in reversed order of axes."""
        axes = tuple(reversed(range(tensor.dim())))
        return tensor.permute(axes).repeat_interleave(2, 0)[::2].permute(axes)

    def scattered(*tensors, **options):
        return cross_scan(*(spread(t) for t in tensors), **options)

    assert not spread(problem.tensors[0]).is_contiguous()
    found = scan_tools.value_and_gradients(scattered, problem.to(torch.float32, device), backend=name)
    right = scan_tools.value_and_gradients(cross_scan, problem.to(torch.float64))
    assert max(scan_tools.relative_errors(found, right)) < 2e-5


def test_directions_outermost_as_a_batched_matrix_product_leaves_delta(scan_tools, place):
    name, device = place
    problem = scan_tools.cross_problem(2, 4, 6, 16, 4)

    def outermost(x, delta, *others, **options):
        return cross_scan(
            x, delta.permute(3, 0, 1, 2, 4).contiguous().permute(1, 2, 3, 0, 4), *others, **options
        )

    found = scan_tools.value_and_gradients(outermost, problem.to(torch.float32, device), backend=name)
    right = scan_tools.value_and_gradients(cross_scan, problem.to(torch.float64))
    assert max(scan_tools.relative_errors(found, right)) < 2e-5


def test_steps_beyond_the_range_of_exp_stay_finite(scan_tools, place):
    name, device = place
    x, delta, *others = scan_tools.cross_problem(1, 5, 5, 16, 4).to(torch.float32, device).tensors
    delta = (delta * 1e4).detach().requires_grad_()
    y = cross_scan(x, delta, *others, backend=name)
    gradients = torch.autograd.grad(y.sum(), (x, delta, *others))
    assert all(t.isfinite().all() for t in (y, *gradients))


def test_nan_is_not_hidden(scan_tools, place):
    name, device = place
    for spoilt in range(7):
        tensors = [
            t.detach().clone()
            for t in scan_tools.cross_problem(1, 3, 3, 16, 4).to(torch.float32, device).tensors
        ]
        tensors[spoilt].flatten()[0] = float("nan")
        assert cross_scan(*tensors, backend=name).isnan().any(), spoilt


def test_gradients_of_the_definition(scan_tools):
    cross = scan_tools.cross_problem(2, 2, 3, 2, 2).to(torch.float64)
    assert torch.autograd.gradcheck(cross_scan, cross.tensors)
    sequence = scan_tools.sequence_problem(1, 4, 4, 2, 2).to(torch.float64)
    assert torch.autograd.gradcheck(lambda *t: selective_scan(*t, delta_softplus=True), sequence.tensors)
