"""The Triton kernels without a GPU: right in Triton's interpreter, and compiled for a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
from nnunet_igtv.ops import triton as kernels


def test_the_kernels_compute_the_definition_in_the_interpreter():
    script = Path(__file__).with_name("scan_in_interpreter.py")
    result = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert result.returncode == 0, result.stderr
    for case, errors in json.loads(result.stdout).items():
        assert len(errors) == 8
        assert max(errors) < {"bfloat16": 2e-2, "float16": 3e-3}.get(case, 1e-5), (case, errors)


@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux only")
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("kernel", ["_scan_forward", "_scan_backward"])
def test_the_kernels_compile_for_a_gpu(kernel):
    """As far as machine code for an A100, in half precision, at VMamba's 16 states."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = getattr(kernels, kernel)
    constants = {"FOUR_DIRECTIONS": True, "SOFTPLUS": True, "N": 16, "STATES": 16, "CHUNK": 8, "CHANNELS": 16}
    if kernel == "_scan_forward":
        constants["SAVE_STATES"] = False
    kinds = dict.fromkeys(["x", "delta", "B", "C", "dy", "ddelta"], "*bf16")
    kinds |= dict.fromkeys(
        ["A", "D", "bias", "y", "saved_states", "dx", "dA", "dB", "dC", "dD", "dbias"], "*fp32"
    )
    signature = {
        name: "constexpr" if name in constants else kinds.get(name, "i32") for name in function.arg_names
    }
    indexed = {(function.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(function, signature, constexprs=indexed)
    assert triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm["cubin"]
