#!/bin/sh
# A GPU that is at hand for a few minutes: is the scan right there, how fast are the scan and the network.
# At most 8 minutes in all.
#
#   benchmarks/gpu.sh [folder]                on a machine with a GPU; installs into its Python
#   benchmarks/gpu.sh folder --smallest       without one: small sizes, the CUDA kernels emulated
#
# Writes scan-gpu.csv and network-gpu.csv into the folder. PYTHON names another Python. Exits non-zero where a test
# fails; the times are taken all the same.
set -u
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
out=${1:-benchmarks/results}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
if [ "${2:-}" = --smallest ]; then
    "$python" benchmarks/scan_gpu.py "$out/scan-gpu.csv" --smallest --rounds 1 &&
        exec "$python" benchmarks/network_gpu.py "$out/network-gpu.csv" --smallest --rounds 1
    exit 1
fi
status=0
"$python" -c "import llvmlite, pytest, cuda.bindings, dynamic_network_architectures" 2>/dev/null ||
    timeout 60 "$python" -m pip install --quiet llvmlite pytest cuda-bindings dynamic-network-architectures ||
    exit 1
# without its CUDA build, mamba-ssm cannot scan; a wheel is used where there is one, nothing is compiled
"$python" -c "import mamba_ssm" 2>/dev/null ||
    timeout 30 "$python" -m pip install --quiet --only-binary :all: mamba-ssm ||
    echo "without mamba-ssm" >&2
timeout 30 "$python" -c "from nnunet_igtv.ops import active_backend; print(active_backend('cuda'))"
timeout 130 "$python" -m pytest -q --confcutdir=tests/ops tests/ops/test_backends.py || status=$?
timeout 110 "$python" benchmarks/scan_gpu.py "$out/scan-gpu.csv" --seconds 80 || status=$?
timeout 120 "$python" benchmarks/network_gpu.py "$out/network-gpu.csv" --seconds 70 || status=$?
exit $status
