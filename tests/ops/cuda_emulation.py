"""The CUDA kernels' own source, compiled by the host's C++ compiler and run by `cuda_on_cpu.h`."""

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path

KERNELS = {
    "forward": ("scan_segments", "scan_carry", "scan_forward"),
    "backward": ("scan_segments", "scan_carry", "scan_backward"),
}
COMPILER = next((name for name in ("g++", "clang++", "c++") if shutil.which(name)), None)
LAUNCH = """
extern "C" bool launch_{kernel}(int grid_x, int grid_y, int threads, int shared_bytes, const Arguments *p,
                                int seed) {{
  static const Arguments *arguments;
  arguments = p;
  emulation::random_state = seed;
  return emulation::launch(grid_x, grid_y, threads, shared_bytes, [] {{ {kernel}(*arguments); }});
}}
"""
COUNTS = """
extern "C" void counts(long *found) {
  using namespace emulation;
  const long now[] = {shared_cycles, conflicts, sectors, needed_bytes};
  memcpy(found, now, sizeof(now));
  shared_cycles = conflicts = sectors = needed_bytes = 0;
}
"""


def code(source: str) -> str:
    """What the host's compiler compiles for the kernels of a source."""
    kernels = [k for names in KERNELS.values() for k in names if f"{k}(const Arguments p)" in source]
    return (
        '#include "cuda_on_cpu.h"\n'
        + source
        + "".join(LAUNCH.format(kernel=k) for k in dict.fromkeys(kernels))
    )


def barriers(source: str) -> list[int]:
    """The lines of the barriers in `code(source)`."""
    return [i for i, line in enumerate(code(source).splitlines(), 1) if "__syncthreads();" in line]


@cache
def library(folder: Path, source: str, options: tuple[str, ...], counting: bool = False) -> ctypes.CDLL:
    """The kernels of a source, compiled into a folder."""
    path = folder / f"scan{len(list(folder.iterdir()))}.cpp"
    path.write_text(code(source) + (COUNTS if counting else ""))
    # -march=native: the compiler contracts multiply-adds, as that of a GPU does
    command = [COMPILER, "-std=c++17", "-O1", "-march=native", "-ffp-contract=fast", "-w", "-shared", "-fPIC"]
    command += [f"-I{Path(__file__).parent}", *options, *(["-DCOUNT"] if counting else [])]
    command += ["-U_FORTIFY_SOURCE", "-o", str(path.with_suffix(".so")), str(path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return ctypes.CDLL(str(path.with_suffix(".so")))


class Emulator:
    """A stand-in for `nnunet_igtv.ops.cuda.compiler`: a GPU of so many multiprocessors."""

    def __init__(self, folder: Path, multiprocessors: int, counting: bool = False) -> None:
        self.folder, self.count, self.counting = folder, multiprocessors, counting
        self.launches: list[tuple[str, dict[str, int]]] = []
        self.seed = 1  # of the random order of threads and blocks
        self.barrier_left_out = 0  # its line

    def multiprocessors(self, device):
        return self.count

    def launch(self, source, options, name, grid, threads, shared_bytes, arguments, device):
        compiled = library(self.folder, source, options, self.counting)
        ctypes.c_int.in_dll(compiled, "barrier_left_out").value = self.barrier_left_out
        function = getattr(compiled, f"launch_{name}")
        function.restype = ctypes.c_bool
        right = function(*grid, threads, shared_bytes, ctypes.byref(arguments), self.seed)
        assert right, f"{name} wrote behind its shared memory"
        found = (ctypes.c_long * 4)()
        if self.counting:
            compiled.counts(found)
        names = ("shared_cycles", "conflicts", "sectors", "needed_bytes")
        self.launches.append((name, dict(zip(names, found, strict=True))))
