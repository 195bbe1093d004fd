"""The CUDA kernels without a GPU: their own source run on the CPU, and compiled for GPUs by NVRTC."""

import os
import re

import pytest
import torch
from ops import cuda_emulation

from nnunet_igtv.ops import cross_scan, cuda, dispatch, reference, selective_scan
from nnunet_igtv.ops.cuda import compiler, variant
from nnunet_igtv.ops.problem import Problem

emulated = pytest.mark.skipif(
    cuda_emulation.COMPILER is None, reason="no C++ compiler to run the kernels with"
)
WINDOWS = (20, 4, 4)  # images and pixels of windows as the DCIM has them: many, of 16 steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cuda")


@pytest.fixture
def gpu(monkeypatch, folder):
    """The backend on an emulated GPU of so many multiprocessors, with sums as in a usual training."""

    def use(multiprocessors, counting=False):
        emulator = cuda_emulation.Emulator(folder, multiprocessors, counting)
        monkeypatch.setattr(cuda, "compiler", emulator)
        return emulator

    use(1)
    monkeypatch.setattr(cuda, "DEVICES", ("cpu",))
    # the tests of this folder ask for deterministic algorithms, to have uninitialised memory filled with NaN
    monkeypatch.setattr(cuda, "_separates_sums", lambda: False)
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


# On the large GPU, a problem gets few states in a thread and short segments. Cases share compiled kernels.
LARGE, SMALL = 1000, 1
CASES = {
    "N 16, projected, several segments": (SMALL, (1, 15, 20), 33, 16, {"rank": 6}),
    "N 16, windows": (SMALL, WINDOWS, 33, 16, {"rank": 3}),
    "N 16, steps of which each decays to 0": (SMALL, (1, 3, 15), 33, 16, {"rank": 6, "rate": 1e5}),
    "N 4, 300 steps that keep everything": (LARGE, (1, 15, 20), 5, 4, {"rate": 1e-4}),
    "N 4, steps of which each decays to 0": (LARGE, (1, 3, 15), 20, 4, {"rate": 1e5}),
    "N 4, several segments, strong decay": (LARGE, (1, 8, 9), 33, 4, {"rate": 100.0}),
    "N 4, a single step": (LARGE, (2, 1, 1), 33, 4, {"rate": 1e3}),
    "N 3, a column": (LARGE, (1, 17, 1), 9, 3, {}),
    "N 4, two sequences without softplus": (
        SMALL,
        (3, 1, 40),
        10,
        4,
        {"directions": 2, "shared": False, "softplus": False},
    ),
    "N 32": (LARGE, (1, 5, 7), 9, 32, {}),
    "N 1": (LARGE, (2, 3, 12), 7, 1, {"rate": 8.0}),
    "windows, projected from many values": (SMALL, WINDOWS, 12, 4, {"rank": 40}),
    "bfloat16": (SMALL, (1, 3, 15), 30, 8, {"dtype": torch.bfloat16}),
    "float16 sequence": (
        LARGE,
        (2, 1, 40),
        10,
        4,
        {"directions": 1, "shared": False, "dtype": torch.float16},
    ),
}
# of the results: what half precision itself rounds
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}


@emulated
@pytest.mark.parametrize("case", CASES)
def test_the_kernels_compute_the_definition(gpu, scan_tools, case):
    multiprocessors, size, channels, states, options = CASES[case]
    gpu(multiprocessors)
    problem, grad = random_problem(size, channels, states, **options)
    check(scan_tools, problem, grad, TOLERANCE[problem.x.dtype])


@emulated
def test_steps_near_0_and_beyond_20(gpu, scan_tools):
    gpu(LARGE)
    problem, grad = random_problem((1, 4, 4), 16, 4)
    delta = torch.linspace(-30, 30, problem.delta.numel()).view_as(problem.delta)
    check(scan_tools, problem._replace(delta=delta), grad)


@emulated
def test_types_that_differ_are_computed_in_float32(gpu, scan_tools):
    gpu(LARGE)
    problem, grad = random_problem((1, 4, 4), 16, 4)
    check(scan_tools, problem._replace(B=problem.B.half().contiguous()), grad, 1e-3)


@emulated
def test_runs_are_equal_where_deterministic_algorithms_are_asked_for(gpu, monkeypatch, scan_tools):
    """Threads and blocks run in another order each time; without the choice, sums differ."""
    emulator = gpu(SMALL)
    problem, grad = random_problem((3, 7, 9), 33, 16, rank=6)

    def run(seed):
        emulator.seed = seed
        return [cuda.forward(problem)[0], *cuda.backward(grad, problem)]

    assert not all(map(torch.equal, run(1), run(2)))
    monkeypatch.setattr(cuda, "_separates_sums", torch.are_deterministic_algorithms_enabled)
    assert all(map(torch.equal, run(1), run(2)))
    check(scan_tools, problem, grad)


@emulated
@pytest.mark.parametrize(
    ("pass_name", "number"), [("forward", 4), ("backward", 7)], ids=["forward", "backward"]
)
def test_the_emulation_shows_a_missing_barrier(gpu, pass_name, number):
    """Each barrier is needed, and kernels without it do not pass the tests here."""
    emulator = gpu(LARGE)
    problem, grad = random_problem((2, 3, 25), 20, 4, rank=3)
    right = exact(problem, grad)
    lines = cuda_emulation.barriers(variant.source(pass_name))
    assert len(lines) == number
    for line in lines:
        emulator.barrier_left_out = line
        found = (
            [cuda.forward(problem)[0]] if pass_name == "forward" else [None, *cuda.backward(grad, problem)]
        )
        assert not all(
            torch.allclose(a.double(), b, rtol=1e-4, atol=1e-4)
            for a, b in zip(found, right, strict=False)
            if a is not None
        ), line


@emulated
def test_shared_memory_has_few_bank_conflicts_and_reads_are_coalesced(gpu):
    """Counted by the emulation for 32 banks of 4 bytes and sectors of 32 bytes."""
    emulator = gpu(SMALL, counting=True)
    problem, grad = random_problem((1, 4, 4), 32, 16, rank=6)
    cuda.forward(problem)
    cuda.backward(grad, problem)
    counts = dict(emulator.launches)
    for kernel in ("scan_forward", "scan_backward"):
        found = counts[kernel]
        assert found["conflicts"] < 0.05 * found["shared_cycles"], (kernel, found)
        assert 32 * found["sectors"] < 1.35 * found["needed_bytes"], (kernel, found)


def test_short_sequences_share_a_block_and_long_ones_are_split():
    windows, _ = random_problem(WINDOWS, 33, 16)
    divided = variant.divide(windows, True, 1)
    assert divided.segments == 1
    assert divided.images_per_block == 16
    shapes = [(12, 16384, 1, 192), (12, 16384, 4, 192), (4, 192, 16), (12, 16384, 4, 16)]
    shapes += [(12, 16384, 4, 16), (4, 192), (4, 192)]
    problem = Problem(*(torch.empty(shape, device="meta") for shape in shapes), 128, True)
    forward, backward = (variant.divide(problem, gradients, 132) for gradients in (False, True))
    for divided in (forward, backward):
        blocks = divided.image_blocks * divided.segments * 4 * divided.channel_blocks
        assert blocks >= 8 * 132
    # the prototype kept the state before every 16th step
    kept = 2 * backward.segments * 16 + backward.segments
    assert kept <= 16384 // 16 * 16 / 4
    one = problem._replace(**{n: getattr(problem, n)[:1] for n in ("x", "delta", "B", "C")})
    assert variant.divide(one, False, 132).segments > forward.segments


@emulated
def test_within_the_operator(gpu, scan_tools, no_choice):
    """Chosen by name, with delta, B and C as slices of one projection, and a projected delta."""
    gpu(LARGE)
    problem = scan_tools.cross_problem(2, 3, 5, 20, 4)
    x, _, A, _, _, D, bias = problem.tensors
    random = torch.Generator().manual_seed(5)
    projected = torch.rand(2, 3, 5, 4, 2 + 8, generator=random, dtype=torch.float64)
    weight = torch.rand(4, 20, 2, generator=random, dtype=torch.float64) / 2

    def scan(x, projected, A, D, bias, weight, backend):
        delta, B, C = projected.split((2, 4, 4), -1)
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
def test_the_first_choice_on_a_gpu(gpu, monkeypatch, no_choice):
    gpu(LARGE)
    monkeypatch.setitem(dispatch._BEST_FIRST, "cpu", dispatch._BEST_FIRST["cuda"])
    assert str(dispatch.active_backend("cpu")) == "cuda (our kernels, compiled by NVRTC)"


def test_it_computes_on_a_gpu_only():
    with pytest.raises(dispatch.UnavailableError, match="computes on cuda only"):
        dispatch.choose(torch.device("cpu"), torch.float32, "cuda")


def test_more_states_than_the_kernels_hold_are_refused():
    problem, _ = random_problem((1, 1, 2), 1, 65)
    with pytest.raises(ValueError, match="at most 64 states, not 65"):
        variant.divide(problem, True, 1)


@pytest.mark.parametrize("states", [1, 4, 16, 64])
@pytest.mark.parametrize("rank", [0, 6, 48])
@pytest.mark.parametrize("multiprocessors", [1, 1000])
def test_problems_fit_into_the_shared_memory_of_every_gpu(states, rank, multiprocessors):
    """64 kB for a block, on a GPU of compute capability 7.5."""
    problem, _ = random_problem((2, 32, 32), 192, states, rank=rank)
    divided = variant.divide(problem, True, multiprocessors)
    assert divided.variant.shared_bytes("scan_backward", divided.segment_chunks) <= 64 << 10


def test_a_projection_that_does_not_fit_is_refused():
    problem, _ = random_problem((1, 1, 2), 8, 4, rank=400)
    with pytest.raises(ValueError, match="from as many as 400 values"):
        variant.divide(problem, True, 1)


class TestCompiler:
    """NVRTC is part of every CUDA build of PyTorch."""

    @pytest.fixture(autouse=True)
    def nvrtc(self):
        pytest.importorskip("cuda.bindings.nvrtc")

    @pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"])
    def test_the_kernels_compile_for_every_gpu(self, architecture):
        gradients = architecture in ("sm_75", "sm_90", "sm_120")
        types = ("float16", "bfloat16") if architecture in ("sm_75", "sm_100") else ()
        compiled = variant.Variant(gradients, 4, 1, 3, True, True, *types)
        cubin = compiler.compile_cubin(compiled.source, compiled.options, architecture)
        assert cubin[:4] == b"\x7fELF"
        names = cuda_emulation.KERNELS["backward" if gradients else "forward"]
        assert all(name.encode() in cubin for name in names)

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
