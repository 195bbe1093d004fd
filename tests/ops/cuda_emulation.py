"""The CUDA kernels' own source, compiled by the host's C++ compiler and run by `cuda_on_cpu.h`."""

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path

KERNELS = ("scan_forward", "scan_states", "scan_backward")
COMPILER = next((name for name in ("g++", "clang++", "c++") if shutil.which(name)), None)
LAUNCH = """
extern "C" bool launch_{kernel}(int grid_x, int grid_y, int threads, int shared_bytes, const Arguments *p) {{
  return emulation::launch(grid_x, grid_y, threads, shared_bytes, [=] {{ {kernel}(*p); }});
}}
"""


def emulator(folder: Path, multiprocessors: int):
    """A stand-in for `nnunet_igtv.ops.cuda.compiler`, which compiles into a folder."""

    @cache
    def library(source, options):
        name = folder / f"scan{len(list(folder.iterdir()))}"
        code = '#include "cuda_on_cpu.h"\n' + source + "".join(LAUNCH.format(kernel=k) for k in KERNELS)
        name.with_suffix(".cpp").write_text(code)
        # -march=native: the compiler contracts multiply-adds, as that of a GPU does
        command = [COMPILER, "-std=c++17", "-O1", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
        command += [f"-I{Path(__file__).parent}", *options, "-o", str(name.with_suffix(".so"))]
        result = subprocess.run([*command, str(name.with_suffix(".cpp"))], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return ctypes.CDLL(str(name.with_suffix(".so")))

    class Compiler:
        @staticmethod
        def multiprocessors(device):
            return multiprocessors

        @staticmethod
        def launch(source, options, name, grid, threads, shared_bytes, arguments, device):
            function = getattr(library(source, options), f"launch_{name}")
            function.restype = ctypes.c_bool
            assert function(*grid, threads, shared_bytes, ctypes.byref(arguments)), (
                "wrote behind shared memory"
            )

    return Compiler
