"""Laws of the scan, on random problems, for the definition and for the CPU's kernels."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_igtv.ops import cross_scan, selective_scan

pytestmark = pytest.mark.law
BACKENDS = {"reference": (torch.float64, 1e-10), "cpu": (torch.float32, 3e-5)}
few = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sizes = st.tuples(
    st.integers(1, 3), st.integers(1, 7), st.integers(1, 7), st.integers(1, 20), st.integers(1, 6)
)


@pytest.fixture(params=BACKENDS)
def computed(request, scan_tools):
    """A random cross scan in a backend's own precision, the scan itself, and a comparison."""
    dtype, tolerance = BACKENDS[request.param]

    def problem(size, seed):
        return [t.detach() for t in scan_tools.cross_problem(*size, seed=seed).to(dtype).tensors]

    def scan(*tensors):
        return cross_scan(*tensors, backend=request.param)

    def same(a, b):
        return float((a - b).abs().max()) <= tolerance * (1 + float(b.abs().max()))

    return problem, scan, same


@given(size=sizes, seed=st.integers(0, 2**31), scale=st.floats(-3, 3))
@few
def test_linear_in_the_input_for_given_steps(computed, size, seed, scale):
    problem, scan, same = computed
    x, *others = problem(size, seed)
    other = problem(size, seed + 1)[0]
    assert same(scan(x + scale * other, *others), scan(x, *others) + scale * scan(other, *others))


@given(size=sizes, seed=st.integers(0, 2**31))
@few
def test_flipping_both_axes_exchanges_each_direction_with_its_reverse(computed, size, seed):
    problem, scan, same = computed
    x, delta, A, B, C, D, bias = problem(size, seed)
    reverse = [2, 3, 0, 1]
    maps = [t[:, :, :, reverse].flip(1, 2) for t in (delta, B, C)]
    flipped = scan(x.flip(1, 2), maps[0], A[reverse], *maps[1:], D[reverse], bias[reverse])
    assert same(flipped.flip(1, 2), scan(x, delta, A, B, C, D, bias))


@given(size=sizes, seed=st.integers(0, 2**31))
@few
def test_transposing_the_map_exchanges_rows_with_columns(computed, size, seed):
    problem, scan, same = computed
    x, delta, A, B, C, D, bias = problem(size, seed)
    swap = [1, 0, 3, 2]
    maps = [t[:, :, :, swap].transpose(1, 2) for t in (delta, B, C)]
    transposed = scan(x.transpose(1, 2), maps[0], A[swap], *maps[1:], D[swap], bias[swap])
    assert same(transposed.transpose(1, 2), scan(x, delta, A, B, C, D, bias))


@given(size=sizes, seed=st.integers(0, 2**31), data=st.data())
@few
def test_images_of_a_batch_do_not_meet(computed, size, seed, data):
    problem, scan, same = computed
    tensors = problem(size, seed)
    i = data.draw(st.integers(0, size[0] - 1))
    alone = [t[i : i + 1] if n in (0, 1, 3, 4) else t for n, t in enumerate(tensors)]
    assert same(scan(*alone), scan(*tensors)[i : i + 1])


@pytest.mark.parametrize("backend", BACKENDS)
@given(length=st.integers(2, 40), seed=st.integers(0, 2**31), data=st.data())
@few
def test_later_inputs_change_nothing_earlier(scan_tools, backend, length, seed, data):
    dtype, _ = BACKENDS[backend]
    tensors = [t.detach() for t in scan_tools.sequence_problem(1, length, 6, 2, 3, seed).to(dtype).tensors]
    t = data.draw(st.integers(1, length - 1))
    changed = [x.clone() for x in tensors]
    for i in (0, 1, 3, 4):
        changed[i][..., t:] += 1
    before, after = (selective_scan(*x, delta_softplus=True, backend=backend) for x in (tensors, changed))
    assert torch.equal(before[..., :t], after[..., :t])
    assert not torch.equal(before[..., t:], after[..., t:])


def test_the_cross_scan_is_the_sum_of_four_sequences(scan_tools):
    x, delta, A, B, C, D, bias = scan_tools.cross_problem(2, 4, 5, 3, 2).tensors

    def walked(t, k):
        t = t if k % 2 == 0 else t.transpose(1, 2)
        t = t.flatten(1, 2)
        return (t if k < 2 else t.flip(1)).transpose(1, 2)

    total = 0
    for k in range(4):
        B_k, C_k = (walked(t[:, :, :, k], k).unsqueeze(1) for t in (B, C))
        y = selective_scan(walked(x, k), walked(delta[:, :, :, k], k), A[k], B_k, C_k, D[k], bias[k], True)
        y = y.transpose(1, 2) if k < 2 else y.transpose(1, 2).flip(1)
        total = total + (y.view(2, 4, 5, 3) if k % 2 == 0 else y.view(2, 5, 4, 3).transpose(1, 2))
    torch.testing.assert_close(cross_scan(x, delta, A, B, C, D, bias), total)
