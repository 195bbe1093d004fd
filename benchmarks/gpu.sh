#!/bin/sh
# The scan on a GPU that is at hand for a few minutes: is it right, how fast is it. At most 8 minutes in all.
#
#   benchmarks/gpu.sh [results.csv]             on a machine with a GPU; installs into its Python
#   benchmarks/gpu.sh results.csv --smallest    without one: a small map, the CUDA kernels emulated
#
# PYTHON names another Python. Exits non-zero where a test fails; the times are taken all the same.
set -u
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
out=${1:-benchmarks/results/scan-gpu.csv}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
if [ "${2:-}" = --smallest ]; then
    exec "$python" benchmarks/scan_gpu.py "$out" --smallest --rounds 1
fi
status=0
"$python" -c "import llvmlite, pytest, cuda.bindings" 2>/dev/null ||
    timeout 60 "$python" -m pip install --quiet llvmlite pytest cuda-bindings || exit 1
# without its CUDA build, mamba-ssm cannot scan; a wheel is used where there is one, nothing is compiled
"$python" -c "import mamba_ssm" 2>/dev/null ||
    timeout 40 "$python" -m pip install --quiet --only-binary :all: mamba-ssm ||
    echo "without mamba-ssm" >&2
timeout 30 "$python" -c "from nnunet_igtv.ops import active_backend; print(active_backend('cuda'))"
timeout 170 "$python" -m pytest -q --confcutdir=tests/ops tests/ops/test_backends.py || status=$?
timeout 180 "$python" benchmarks/scan_gpu.py "$out" || status=$?
exit $status
