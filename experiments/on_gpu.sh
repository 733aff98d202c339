#!/usr/bin/env bash
# Measure everything that needs an NVIDIA GPU, in a given time:
#
#     experiments/on_gpu.sh --minutes 15 --out runs/on_gpu
#
# The parts are described in experiments/benchmarks/on_gpu.py (--help). Nothing is fetched. Wheels
# of a bundle (experiments/gpu_bundle.py) that lie in wheels/ are installed into packages/ if the
# machine lacks them. PYTHON names the interpreter; default python3.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
started=$(date +%s)
if [ -d "$root/wheels" ]; then
    "$python" "$root/experiments/benchmarks/gpu_setup.py" "$root/wheels" "$root/packages"
fi
export PYTHONPATH="$root:$root/packages${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" "$root/experiments/benchmarks/on_gpu.py" --started "$started" "$@"
