#!/usr/bin/env bash
# Packs into dist/gpu the trainer's packages beside PyTorch, for a machine with a GPU and without a network:
#   scripts/env/pack_gpu_packages.sh
# for Python 3.12, PyTorch 2.11 with CUDA 13 and a Hopper GPU (H100, H200): TorchRec and a small fbgemm-gpu, 60 MB
# in all. scripts/bench/bench_gpu.sh installs from dist/gpu. Versions are in scripts/env/locks/gpu.txt.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$root"

environment .envs/packing packing
python=.envs/packing/bin/python
folder=dist/gpu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$folder/wheels"

# pip matches platform tags exactly, so that every tag of a wheel is listed.
platforms=()
for version in 2_39 2_34 2_31 2_28 2_27 2_24 2_17; do platforms+=(--platform "manylinux_${version}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64)
download() {
    local target=$1
    shift
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        "${platforms[@]}" -d "$target" "$@"
}

fbgemm=$(grep '^fbgemm-gpu==' scripts/env/locks/gpu.txt)
rm -f "$folder"/wheels/*
grep -v -e '^#' -e '^fbgemm-gpu==' scripts/env/locks/gpu.txt >"$work/others.txt"
download "$folder/wheels" -r "$work/others.txt"

archive=$folder/${fbgemm/==/-}.tar.xz
if [[ -s $archive ]]; then
    say "$archive exists already"
else
    say "downloading $fbgemm, 465 MB"
    download "$work" "$fbgemm"
    "$python" scripts/env/shrink_fbgemm.py "$work"/fbgemm_gpu-*.whl "$work/unpacked" "$work/fbgemm.tar.xz"
    rm -f "$folder"/fbgemm-gpu-*.tar.xz
    mv "$work/fbgemm.tar.xz" "$archive"
fi
du -sh "$folder"
