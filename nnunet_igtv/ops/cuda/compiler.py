"""Compiles CUDA C++ with NVRTC, keeps the results on disk, and launches kernels on PyTorch's current stream.

NVRTC is part of every CUDA build of PyTorch, and cuda-bindings, NVIDIA's Python interface to NVRTC and to the
driver, is a requirement of recent ones. Neither nvcc nor a host compiler is needed.
"""

import ctypes
import hashlib
import os
from functools import cache
from pathlib import Path
from threading import get_ident
from typing import Any

import torch

_STATIC_SHARED_MEMORY = 48 << 10  # bytes a block may use without asking for more


class CompilerError(RuntimeError):
    """NVRTC or the driver refused; the text says what it said."""


def _checked(result: tuple[Any, ...]) -> Any:
    """What a call of cuda-bindings returned, without its status."""
    status, *values = result
    if status.value:
        raise CompilerError(f"{type(status).__name__} {status.name}")
    return values[0] if len(values) == 1 else tuple(values)


def compile_cubin(source: str, options: tuple[str, ...], architecture: str) -> bytes:
    """Machine code for an architecture such as sm_90.

    Raises:
        CompilerError: the source does not compile; the text is the compiler's.
    """
    from cuda.bindings import nvrtc

    flags = [f"--gpu-architecture={architecture}", "--std=c++17", *options]
    program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), b"scan.cu", 0, None, None))
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), [flag.encode() for flag in flags])
        if status.value:
            log = bytes(_checked(nvrtc.nvrtcGetProgramLogSize(program)))
            _checked(nvrtc.nvrtcGetProgramLog(program, log))
            raise CompilerError(f"{status.name}: {log.decode().rstrip(chr(0))}")
        cubin = bytes(_checked(nvrtc.nvrtcGetCUBINSize(program)))
        _checked(nvrtc.nvrtcGetCUBIN(program, cubin))
        return cubin
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nnunet_igtv"


def cached_cubin(source: str, options: tuple[str, ...], architecture: str) -> bytes:
    """`compile_cubin`, from the disk where it has been compiled before with this version of NVRTC.

    Several processes may do this at once: a file appears whole or not at all. A folder that cannot be written
    costs a compilation for each process.
    """
    from cuda.bindings import nvrtc

    version = _checked(nvrtc.nvrtcVersion())
    key = hashlib.sha256("\0".join([source, *options, architecture, str(version)]).encode()).hexdigest()
    path = cache_folder() / f"scan-{architecture}-{key[:32]}.cubin"
    try:
        return path.read_bytes()
    except OSError:
        pass
    cubin = compile_cubin(source, options, architecture)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.{get_ident()}")
        partial.write_bytes(cubin)
        partial.replace(path)
    except OSError:
        pass
    return cubin


@cache
def _function(source: str, options: tuple[str, ...], name: str, shared_bytes: int, device: int) -> Any:
    """A kernel, loaded into the context of a device."""
    from cuda.bindings import driver

    major, minor = torch.cuda.get_device_capability(device)
    module = _checked(driver.cuModuleLoadData(cached_cubin(source, options, f"sm_{major}{minor}")))
    function = _checked(driver.cuModuleGetFunction(module, name.encode()))
    if shared_bytes > _STATIC_SHARED_MEMORY:
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _checked(driver.cuFuncSetAttribute(function, attribute, shared_bytes))
    return function


def multiprocessors(device: torch.device) -> int:
    """How many multiprocessors a GPU has."""
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def launch(
    source: str,
    options: tuple[str, ...],
    name: str,
    grid: tuple[int, int],
    threads: int,
    shared_bytes: int,
    arguments: ctypes.Structure,
    device: torch.device,
) -> None:
    """Starts a kernel, which takes one structure by value, on PyTorch's current stream of a device.

    Raises:
        CompilerError: the kernel does not compile, or the driver does not start it.
    """
    from cuda.bindings import driver

    with torch.cuda.device(device):
        index = torch.cuda.current_device()
        if not int(_checked(driver.cuCtxGetCurrent())):  # a new thread, such as autograd's
            _checked(driver.cuCtxSetCurrent(_checked(driver.cuDevicePrimaryCtxRetain(index))))
        stream = torch.cuda.current_stream(device).cuda_stream
        function = _function(source, options, name, shared_bytes, index)
        values = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        _checked(
            driver.cuLaunchKernel(
                function, *grid, 1, threads, 1, 1, shared_bytes, stream, ctypes.addressof(values), 0
            )
        )
