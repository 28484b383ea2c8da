#!/usr/bin/env bash
# Tests and benchmarks on a machine with a GPU and no network, in one command of under nine minutes.
#
#   benchmarks/gpu.sh --pack    beforehand, with a network: the wheels that such a machine lacks, into .gpu-wheels/
#   benchmarks/gpu.sh OUT       there: results.json, results.md, numbers.jsonl and log.txt in OUT
#
# PYTHON names the Python that holds torch and transformers (python3). docs/gpu.md says more.
set -euo pipefail
INNERLOOP_GPU_BEGUN=$(date +%s)
export INNERLOOP_GPU_BEGUN
unset PYTHONDONTWRITEBYTECODE # or each part would compile what it imports
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}

if [ $# = 0 ]; then
    echo 'usage: benchmarks/gpu.sh --pack | OUT [--device cpu] [--quick] [--only PART...]' >&2
    exit 2
fi
if [ "$1" = --pack ]; then
    exec "$python" "$root/benchmarks/gpu/pack.py" "${@:2}"
fi

# What the machine has stays as it is: the wheels are unpacked beside it and found first. A virtual environment would
# not do where the Python that holds torch lives in one itself, whose packages another environment does not see.
if ! "$python" "$root/benchmarks/gpu/lacking.py" 2>/dev/null; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    if compgen -G "$root/.gpu-wheels/*.whl" >/dev/null; then
        options=(--quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site")
        "$python" -m pip install "${options[@]}" "$root"/.gpu-wheels/*.whl ||
            for wheel in "$root"/.gpu-wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$site"; done
    fi
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
    "$python" "$root/benchmarks/gpu/lacking.py" || true # the parts that can do without go on
fi
export PYTHONPATH="$root/src${PYTHONPATH:+:$PYTHONPATH}"
status=0
"$python" "$root/benchmarks/gpu/run.py" "$@" || status=$?
exit "$status"
