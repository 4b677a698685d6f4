#!/usr/bin/env bash
# Packs the Python packages of scripts/env/locks/mining.txt for executors that lack them, and prints the archive's path:
# scripts/env/pack_environment.sh (no arguments). scripts/submit.sh --environment does this by itself.
#
# dist/environment.tar.gz can be unpacked anywhere. Its bin/python starts the python3.X on the executor's PATH, with
# the X of this machine's Python. Spark and py4j are left out, because the cluster has its own.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
(($# == 0)) || fail "$1: expected no argument"
cd "$root"

environment .venv mining
lock=scripts/env/locks/mining.txt archive=dist/environment.tar.gz
version=$(.venv/bin/python -I -S -c 'import sys; print("%d.%d" % sys.version_info[:2])')
stamp=$(printf '# Python %s\n' "$version"; cat $lock)
if [[ -e $archive && $(cat $archive.stamp 2>/dev/null) == "$stamp" ]]; then
    echo "$root/$archive"
    exit
fi

say "packing $lock into $archive"
mkdir -p dist
work=$(mktemp -d dist/environment.XXXXXX)
trap 'rm -rf "$work"' EXIT
grep -vE '^(pyspark|py4j)==' $lock >"$work/lock.txt"
_logged "$root/.envs/pack_environment.log" .venv/bin/python -m pip install --no-deps --no-input \
    --disable-pip-version-check --progress-bar off --no-compile --target "$work/tree/packages" --requirement "$work/lock.txt"
mkdir "$work/tree/bin"
cat >"$work/tree/bin/python" <<PYTHON
#!/bin/sh
# Python $version of this machine with the packages beside it.
here=\$(cd "\$(dirname "\$0")/.." && pwd)
export PYTHONPATH="\$here/packages\${PYTHONPATH:+:\$PYTHONPATH}"
exec python$version "\$@"
PYTHON
chmod +x "$work/tree/bin/python"
tar --create --gzip --file "$work/new.tar.gz" --directory "$work/tree" --owner 0 --group 0 .
mv "$work/new.tar.gz" $archive
printf '%s\n' "$stamp" >$archive.stamp
echo "$root/$archive"
