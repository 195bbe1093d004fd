"""What is the CPU backend's own: processors, threads and forks, memory, start."""

import math
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest
import torch

from nnunet_igtv.ops import cpu, cpu_backward, cpu_forward, cross_scan, dispatch
from nnunet_igtv.ops.codegen import compiled
from nnunet_igtv.ops.cpu_arguments import ScanArguments
from nnunet_igtv.ops.problem import Problem
from nnunet_igtv.ops.projection import projected


def run(program, **environment):
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


KERNELS = (cpu._forward_kernel, cpu._backward_kernel)


@pytest.fixture
def fresh_kernels():
    """A test compiles its kernels itself, and leaves none."""
    for cached in KERNELS:
        cached.cache_clear()
    yield
    for cached in KERNELS:
        cached.cache_clear()


@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_processors_of_every_vector_width_agree(monkeypatch, scan_tools, fresh_kernels, processor):
    """Code for older processors than this one: 4, 8 and 16 floats in a register, with and without FMA."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("processors of another family")
    if processor == "x86-64-v4" and "+avx512f" not in cpu.processor()[1]:
        pytest.skip("this processor has no AVX512")
    if processor == "x86-64-v3" and "+avx2" not in cpu.processor()[1]:
        pytest.skip("this processor has no AVX2")
    monkeypatch.setattr(cpu, "compiled", partial(compiled, cpu=processor, features=""))
    problem = scan_tools.cross_problem(1, 3, 5, 20, 4)
    found = scan_tools.value_and_gradients(cross_scan, problem.to(torch.float32), backend="cpu")
    right = scan_tools.value_and_gradients(cross_scan, problem.to(torch.float64))
    assert max(scan_tools.relative_errors(found, right)) < 2e-5


def small_problem():
    """Of delta for all channels, as the dispatcher gives it to the backward pass."""
    problem, grad = dispatch._small_problem(1, 2, 8, torch.device("cpu"))
    return projected(problem), grad


def leave_memory_uncleared(monkeypatch):
    for module in (cpu_forward, cpu_backward):
        monkeypatch.setattr(module, "write_zeros", lambda *arguments: None)


def leave_out_the_last_channels(monkeypatch):
    of_all = cpu._Inputs.arguments
    monkeypatch.setattr(
        cpu._Inputs, "arguments", lambda self, i, first, last: of_all(self, i, first, last - 1)
    )


@pytest.mark.parametrize("fault", [leave_memory_uncleared, leave_out_the_last_channels])
def test_memory_that_a_kernel_should_have_written_shows(monkeypatch, fresh_kernels, fault):
    """Uninitialised memory is NaN in all tests here; it reaches the results of a kernel with a fault."""
    problem, grad = small_problem()
    y, states = cpu.forward(problem, True)
    assert not any(t.isnan().any() for t in (y, *cpu.backward(grad, problem, states)))
    for cached in KERNELS:
        cached.cache_clear()
    fault(monkeypatch)
    assert cpu.forward(problem, False)[0].isnan().any()
    dx, ddelta, *_ = cpu.backward(grad, problem, states)
    assert dx.isnan().any()
    assert ddelta.isnan().any()


def test_a_kernel_gets_its_arguments_by_name():
    """In any order, and never one too few or too many."""

    @dataclass(frozen=True, kw_only=True)
    class Two:
        source: object
        target: object

    copy = compiled(lambda trace, p: trace.store(trace.load(p.source), p.target), Two)
    source, target = torch.arange(16.0), torch.zeros(16)
    copy(Two(target=target.data_ptr(), source=source.data_ptr()))
    assert torch.equal(source, target)
    given = cpu._Inputs(small_problem()[0]).arguments(0, 0, 1)
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'scratch'"):
        ScanArguments(**given)
    with pytest.raises(TypeError, match="unexpected keyword argument 'width'"):
        ScanArguments(**given, scratch=0, width=0)


FORKS = """
import os, torch
from nnunet_igtv.ops import cross_scan
torch.set_num_threads(2)
a = [torch.randn(2, 8, 8, 64), torch.randn(2, 8, 8, 4, 64), -torch.rand(4, 64, 16)]
a += [torch.randn(2, 8, 8, 4, 16), torch.randn(2, 8, 8, 4, 16), torch.randn(4, 64), torch.randn(4, 64)]
a = [t.requires_grad_() for t in a]
def scan():
    y = cross_scan(*a, backend="cpu")
    return y, *torch.autograd.grad(y.sum(), a)
before = scan()
child = os.fork()
if child == 0:
    same = all(torch.allclose(p, q, rtol=1e-4, atol=1e-4) for p, q in zip(before, scan()))
    os._exit(0 if same else 3)
_, status = os.waitpid(child, 0)
assert status == 0, status
scan()
print("fine")
"""


@pytest.mark.skipif(
    not hasattr(torch.multiprocessing, "get_context") or sys.platform == "win32", reason="no fork"
)
def test_forked_children_scan_in_threads_of_their_own():
    assert run(FORKS, OMP_NUM_THREADS="2").strip() == "fine"


def test_many_threads_at_once_agree(scan_tools):
    problem = scan_tools.cross_problem(3, 8, 8, 48, 16)
    right = scan_tools.value_and_gradients(cross_scan, problem.to(torch.float32), backend="cpu")
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(scan_tools.value_and_gradients, cross_scan, problem.to(torch.float32), backend="cpu")
            for _ in range(8)
        ]
    for job in jobs:
        assert max(scan_tools.relative_errors(job.result(), right)) < 1e-5


def test_an_error_in_a_helper_thread_reaches_the_caller():
    def fail():
        raise ValueError("in a task")

    with pytest.raises(ValueError, match="in a task"):
        cpu._run_tasks([fail] * 4, 2)


@pytest.mark.parametrize(
    ("batch", "blocks", "threads"), [(1, 12, 1), (1, 12, 5), (3, 7, 2), (2, 96, 4), (4, 1, 8)]
)
def test_ranges_cover_every_block_once(batch, blocks, threads):
    ranges = cpu._block_ranges(batch, blocks, threads, blocks)
    assert [block for first, last in ranges for block in range(first, last)] == list(range(blocks))
    assert all(last > first for first, last in ranges)


def test_saved_states_and_working_memory_are_much_smaller_than_the_inputs():
    """tiny's first stage: 128 x 128 pixels, 192 channels, 16 states."""
    pixels, channels, states = 128 * 128, 192, 16
    shapes = [(1, pixels, 1, channels), (1, pixels, 4, channels), (4, channels, states)]
    shapes += [(1, pixels, 4, states)] * 2 + [(4, channels)] * 2
    problem = Problem(*(torch.empty(shape, device="meta") for shape in shapes), 128, True)
    inputs = sum(t.nbytes for t in problem[:7])
    assert 4 * math.prod(cpu.states_shape(problem)) < 0.2 * inputs
    assert cpu_backward.scratch_bytes(states, channels // 16) < 0.02 * inputs


def test_import_compiles_and_loads_nothing():
    program = """
import sys, time, torch
start = time.process_time()
import nnunet_igtv.ops
assert time.process_time() - start < 0.3
assert "llvmlite" not in sys.modules and "numba" not in sys.modules
"""
    run(program)


def test_the_probe_leaves_inference_tensors_alone(no_choice):
    dispatch._probed.cache_clear()
    with torch.inference_mode():
        assert dispatch.choose(torch.device("cpu"), torch.float32).name == "cpu"
    x = torch.randn(1, 2, 2, 4, requires_grad=True)
    y = cross_scan(
        x,
        torch.randn(1, 2, 2, 4, 4),
        -torch.ones(4, 4, 2),
        *torch.randn(2, 1, 2, 2, 4, 2),
        *torch.randn(2, 4, 4),
    )
    y.sum().backward()
    assert x.grad.isfinite().all()


def test_an_empty_background_leaves_arithmetic_as_it_was(no_choice):
    """Values below 1e-38 count as zero inside the kernel, and inside it only."""
    x, others = torch.zeros(1, 1, 64, 16), torch.ones(1, 1, 64, 4, 2)
    x[:, :, 0] = 1e-36
    zeros = torch.zeros(4, 16)
    y = cross_scan(x, torch.zeros(1, 1, 64, 4, 16), -torch.ones(4, 16, 2), others, others, zeros, zeros)
    assert y[0, 0, 0].min() > 0
    assert y[0, 0, -1].abs().max() == 0
    assert float(torch.tensor(1e-38) * 0.01) > 0
