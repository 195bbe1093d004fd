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
def test_it_writes_the_times_of_each_backend_and_network(tmp_path):
    result = subprocess.run(
        [SCRIPT, tmp_path, "--smallest"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    with (tmp_path / "scan-gpu.csv").open() as file:
        forward, both = csv.DictReader(file)
    assert (forward["pass"], both["pass"]) == ("forward", "forward+backward")
    for row in (forward, both):
        assert all(float(row[name]) > 0 for name in ("copy ms", "cuda ms", "cpu ms"))
    with (tmp_path / "network-gpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == ["nano", "nnU-Net 2d"]
    for row in rows:
        assert all(float(row[name]) > 0 for name in ("first step s", "step ms", "window ms"))
