#!/usr/bin/env bash
# Measures the trainer on this machine's GPU: scripts/bench/bench_gpu.sh [options of bench_gpu.py; --help shows them]
#
# Uses $SCROLLPAST_GPU_PYTHON, or python3 if its PyTorch sees a GPU. Missing packages are installed from dist/gpu into a
# temporary folder (scripts/env/pack_gpu_packages.sh makes dist/gpu where there is a network). Without a GPU the
# benchmark runs on the processor in small sizes, in the repository's environment.
source "$(dirname "${BASH_SOURCE[0]}")/../env/environment.sh"
cd "$root"

sees_gpu() { "$1" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; }

python=${SCROLLPAST_GPU_PYTHON:-python3}
if sees_gpu "$python"; then
    packages=${TMPDIR:-/tmp}/scrollpast-gpu-packages
    if [[ -d dist/gpu && ! -e $packages/.done ]]; then
        mkdir -p "$packages"
        "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
            --target "$packages" dist/gpu/wheels/*.whl
        tar -C "$packages" -xJf dist/gpu/fbgemm-gpu-*.tar.xz
        touch "$packages/.done"
    fi
    export PYTHONPATH=$packages:$root/lib:$root${PYTHONPATH:+:$PYTHONPATH}
    missing=$("$python" - <<'PYTHON'
import importlib

for name in ("torchrec", "fbgemm_gpu", "tensordict", "pydantic", "pyarrow", "numba", "yaml", "psutil"):
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(f"{name} ({error})", end="; ")
PYTHON
    )
    [[ -z $missing ]] ||
        fail "$python: expected the trainer's packages, missing ${missing%; }; run scripts/env/pack_gpu_packages.sh" \
            "where there is a network, and copy dist/gpu here"
else
    [[ -z ${SCROLLPAST_GPU_PYTHON:-} ]] || fail "$python: expected a PyTorch that sees a GPU, found none"
    say "no GPU is seen by $python: small sizes on the processor"
    environment .venv mining training report development
    python=.venv/bin/python
fi
exec "$python" scripts/bench/bench_gpu.py "$@"
