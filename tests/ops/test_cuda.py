"""The CUDA kernels without a GPU: their own source run on the CPU, and compiled for GPUs by NVRTC."""

import os
import re

import pytest
import torch
from ops import cuda_emulation

from nnunet_igtv.ops import cross_scan, cuda, dispatch, reference, selective_scan
from nnunet_igtv.ops.cuda import compiler
from nnunet_igtv.ops.problem import Problem

emulated = pytest.mark.skipif(
    cuda_emulation.COMPILER is None, reason="no C++ compiler to run the kernels with"
)
WINDOWS = (40, 4, 4)  # images and pixels of windows as the DCIM has them: many, of 16 steps


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """Emulators of a small and a large GPU: they get kernels with many and with few states in a thread."""
    folder = tmp_path_factory.mktemp("cuda")
    return {count: cuda_emulation.emulator(folder, count) for count in (1, 1000)}


@pytest.fixture
def gpu(monkeypatch, builds):
    """The backend on an emulated GPU."""

    def use(multiprocessors):
        monkeypatch.setattr(cuda, "compiler", builds[multiprocessors])

    use(1)
    monkeypatch.setattr(cuda, "DEVICES", ("cpu",))
    dispatch._probed.cache_clear()
    yield use
    dispatch._probed.cache_clear()


def random_problem(
    size, channels, states, directions=4, shared=True, rate=1.0, rank=0, softplus=True, dtype=torch.float32
):
    """A problem, and a gradient of y; without softplus, steps are positive."""
    random = torch.Generator().manual_seed(7)
    images, height, width = size
    pixels = (images, height * width, directions)

    def normal(*shape):
        return torch.randn(*shape, generator=random)

    x = normal(images, height * width, 1 if shared else directions, channels)
    delta, bias = normal(*pixels, rank or channels), normal(directions, channels)
    weight = normal(directions, channels, rank) / rank**0.5 if rank else None
    if not softplus:
        delta, bias, weight = delta.abs(), bias.abs(), None if weight is None else weight.abs()
    A = -rate * (0.1 + torch.rand(directions, channels, states, generator=random))
    B, C, D = normal(*pixels, states), normal(*pixels, states), normal(directions, channels)
    tensors = (t.to(dtype) for t in (x, delta, A, B, C, D, bias))
    problem = Problem(*tensors, width, softplus, None if weight is None else weight.to(dtype))
    return problem, normal(*x.shape).to(dtype)


def exact(problem, grad):
    """y and all gradients by the definition in float64."""
    problem = Problem(*(t.double() if isinstance(t, torch.Tensor) else t for t in problem))
    delta, weight = problem.delta, problem.delta_weight
    if weight is not None:
        projected = torch.einsum("bpkr,kdr->bpkd", delta, weight)
        problem = problem._replace(delta=projected, delta_weight=None)
    results = [reference.forward(problem)[0], *reference.backward(grad.double(), problem)]
    if weight is not None:
        dprojected = results[2]
        results[2] = torch.einsum("bpkd,kdr->bpkr", dprojected, weight)
        results.append(torch.einsum("bpkd,bpkr->kdr", dprojected, delta))
    return results


def check(tools, problem, grad, tolerance=2e-6):
    found = [cuda.forward(problem)[0], *cuda.backward(grad, problem)]
    inputs = [*problem[:7], *([] if problem.delta_weight is None else [problem.delta_weight])]
    assert [t.dtype for t in found] == [problem.x.dtype, *(t.dtype for t in inputs)]
    errors = tools.relative_errors([t.double() for t in found], exact(problem, grad))
    assert max(errors) < tolerance, errors


CASES = {
    "N 16 on a small GPU": (1, (2, 7, 9), 40, 16, {"rate": 100.0}),
    "a single step, strong decay": (1, (1, 1, 1), 33, 16, {"rate": 1e3}),
    "N 16 on a large GPU": (1000, (1, 3, 5), 20, 16, {}),
    "300 steps that keep everything": (1000, (1, 15, 20), 5, 4, {"rate": 1e-4}),
    "steps of which each decays to 0": (1000, (1, 3, 5), 20, 4, {"rate": 1e5}),
    "one state": (1000, (2, 3, 5), 7, 1, {}),
    "N 5": (1000, (1, 1, 17), 9, 5, {"rate": 8.0}),
    "N 32": (1000, (1, 17, 1), 9, 32, {}),
    "sequences": (1000, (3, 1, 20), 10, 4, {"directions": 2, "shared": False}),
    "one sequence": (1000, (2, 1, 33), 10, 4, {"directions": 1, "shared": False}),
    "without softplus": (1000, (1, 3, 5), 10, 4, {"softplus": False}),
    "projected": (1, (1, 5, 4), 40, 16, {"rank": 6}),
    "windows, projected from many values": (1, WINDOWS, 12, 4, {"rank": 40}),
}


@emulated
@pytest.mark.parametrize("case", CASES)
def test_the_kernels_compute_the_definition(gpu, scan_tools, case):
    multiprocessors, size, channels, states, options = CASES[case]
    gpu(multiprocessors)
    check(scan_tools, *random_problem(size, channels, states, **options))


@emulated
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_half_precision_inputs(gpu, scan_tools, dtype, tolerance):
    check(scan_tools, *random_problem((1, 3, 5), 20, 4, dtype=dtype), tolerance)


@emulated
def test_steps_near_0_and_beyond_20(gpu, scan_tools):
    problem, grad = random_problem((1, 4, 4), 16, 4)
    delta = torch.linspace(-30, 30, problem.delta.numel()).view_as(problem.delta)
    check(scan_tools, problem._replace(delta=delta), grad)


@emulated
def test_short_sequences_share_a_block_and_need_no_saved_states(gpu):
    problem, _ = random_problem(WINDOWS, 12, 4)
    launch = cuda._Launch(problem)
    assert launch.chunks == 1
    assert launch.arguments.images_per_block == 16
    assert launch.grid == (3 * 4, 1)


@emulated
def test_within_the_operator(gpu, scan_tools, no_choice):
    """Chosen by name, with delta, B and C as slices of one projection, and a projected delta."""
    problem = scan_tools.cross_problem(2, 3, 5, 20, 4)
    x, _, A, _, _, D, bias = problem.tensors
    random = torch.Generator().manual_seed(5)
    projected = torch.rand(2, 3, 5, 4, 6 + 8, generator=random, dtype=torch.float64)
    weight = torch.rand(4, 20, 6, generator=random, dtype=torch.float64) / 6

    def scan(x, projected, A, D, bias, weight, backend):
        delta, B, C = projected.split((6, 4, 4), -1)
        return cross_scan(x, delta, A, B, C, D, bias, True, weight, backend)

    problem = type(problem)((x, projected, A, D, bias, weight))
    found = scan_tools.value_and_gradients(scan, problem.to(torch.float32), backend="cuda")
    right = scan_tools.value_and_gradients(scan, problem.to(torch.float64), backend="reference")
    assert max(scan_tools.relative_errors(found, right)) < 2e-6
    problem, softplus = scan_tools.sequence_problem(2, 20, 8, 2, 4), {"delta_softplus": True}
    found = scan_tools.value_and_gradients(
        selective_scan, problem.to(torch.float32), backend="cuda", **softplus
    )
    right = scan_tools.value_and_gradients(selective_scan, problem.to(torch.float64), **softplus)
    assert max(scan_tools.relative_errors(found, right)) < 2e-6


@emulated
@pytest.mark.parametrize("barrier", range(5))
def test_the_emulation_shows_a_missing_barrier(gpu, monkeypatch, barrier):
    """Each barrier of the backward pass is needed, and a kernel without it does not pass the tests here."""
    gpu(1000)
    problem, grad = random_problem((2, 3, 11), 20, 4, rank=3)
    before, name, backward = cuda.source().partition("scan_backward(const Arguments p) {")
    parts = backward.split("__syncthreads();")
    assert len(parts) == 6
    parts[barrier : barrier + 2] = [parts[barrier] + parts[barrier + 1]]
    monkeypatch.setattr(cuda, "source", lambda: before + name + "__syncthreads();".join(parts))
    found, right = cuda.backward(grad, problem), exact(problem, grad)[1:]
    assert not all(
        torch.allclose(a.double(), b, rtol=1e-4, atol=1e-4) for a, b in zip(found, right, strict=True)
    )


def test_it_is_used_only_by_name_until_it_has_run_on_a_gpu():
    assert "cuda" in dispatch.NAMES
    assert all("cuda" not in names for names in dispatch._BEST_FIRST.values())
    with pytest.raises(dispatch.UnavailableError, match="computes on cuda only"):
        dispatch.choose(torch.device("cpu"), torch.float32, "cuda")


def test_more_states_than_the_kernels_hold_are_refused():
    problem, _ = random_problem((1, 1, 2), 1, 129)
    with pytest.raises(ValueError, match="at most 128 states, not 129"):
        cuda._variant(problem, 1)


@pytest.mark.parametrize("states", [4, 16])
@pytest.mark.parametrize("rank", [6, 12, 24, 48])
@pytest.mark.parametrize("multiprocessors", [1, 1000])
def test_the_networks_problems_fit_into_the_shared_memory_of_every_gpu(states, rank, multiprocessors):
    """64 kB for a block, on a GPU of compute capability 7.5."""
    problem, _ = random_problem((12, 4, 4), 192, states, rank=rank)
    assert cuda._variant(problem, multiprocessors).shared_bytes(forward=False) <= 64 << 10


def test_a_projection_that_does_not_fit_is_refused():
    problem, _ = random_problem((1, 1, 2), 8, 4, rank=300)
    with pytest.raises(ValueError, match="from as many as 300 values"):
        cuda._variant(problem, 1)


class TestCompiler:
    """NVRTC is part of every CUDA build of PyTorch."""

    @pytest.fixture(autouse=True)
    def nvrtc(self):
        pytest.importorskip("cuda.bindings.nvrtc")

    @pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"])
    def test_the_kernels_compile_for_every_gpu(self, architecture):
        lanes, states, rank = {"sm_80": (16, 1, 48), "sm_90": (8, 2, 0)}.get(architecture, (4, 4, 6))
        variant = cuda.Variant(lanes, states, rank, True, True)
        cubin = compiler.compile_cubin(cuda.source(), variant.options, architecture)
        assert cubin[:4] == b"\x7fELF"
        assert all(name.encode() in cubin for name in cuda_emulation.KERNELS)

    def test_errors_are_the_compilers(self):
        with pytest.raises(compiler.CompilerError, match=r'identifier "y" is undefined'):
            compiler.compile_cubin("__global__ void f(float *x) { *x = y; }", (), "sm_80")

    def test_compiled_once_for_all_processes(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        source, calls = 'extern "C" __global__ void f(float *x) { *x = VALUE; }', []
        compile_cubin = compiler.compile_cubin
        monkeypatch.setattr(compiler, "compile_cubin", lambda *a: calls.append(a) or compile_cubin(*a))
        first = compiler.cached_cubin(source, ("-DVALUE=1",), "sm_80")
        assert compiler.cached_cubin(source, ("-DVALUE=1",), "sm_80") == first
        assert len(calls) == 1
        assert compiler.cached_cubin(source, ("-DVALUE=2",), "sm_80") != first
        assert compiler.cached_cubin(source, ("-DVALUE=1",), "sm_90") != first
        files = list((tmp_path / "nnunet_igtv").iterdir())
        assert len(files) == 3
        assert all(re.fullmatch(r"scan-sm_\d+-[0-9a-f]{32}\.cubin", file.name) for file in files)

    def test_a_cache_that_cannot_be_written_is_done_without(self, monkeypatch, tmp_path):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "file"))
        source = 'extern "C" __global__ void f(float *x) { *x = 3; }'
        assert compiler.cached_cubin(source, (), "sm_80")[:4] == b"\x7fELF"
