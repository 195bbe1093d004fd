"""`benchmarks/gpu.sh`, the script for a GPU that is at hand for a few minutes, without one."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ops import cuda_emulation

SCRIPT = Path(__file__).parents[2] / "benchmarks/gpu.sh"


@pytest.mark.skipif(cuda_emulation.COMPILER is None, reason="no C++ compiler to run the kernels with")
def test_it_writes_the_times_of_each_backend(tmp_path):
    out = tmp_path / "times.csv"
    result = subprocess.run(
        [SCRIPT, out, "--smallest"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable},
    )
    assert result.returncode == 0, result.stderr
    with out.open() as file:
        forward, both = csv.DictReader(file)
    assert (forward["pass"], both["pass"]) == ("forward", "forward+backward")
    for row in (forward, both):
        assert all(float(row[name]) > 0 for name in ("copy ms", "cuda ms", "cpu ms"))
