#!/usr/bin/env bash
# Runs the tests: scripts/test.sh [pytest arguments], for example `scripts/test.sh tests/shards -k crc`.
# The first call installs what they need; the last line is pytest's, and so is the exit code.
source "$(dirname "${BASH_SOURCE[0]}")/env/environment.sh"
cd "$root"

environment .venv mining training report development
environment .envs/tensorflow tensorflow
environment .envs/spark35 spark35
environment .envs/airflow airflow
environment .envs/peers mining training tensorflow peers
spark_environment .venv
chromium_environment
scripts/env/archive_classes.sh

# One thread a process: the tests run side by side, and more threads than cores make every one slower.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# A worker starts one Spark session and keeps it, so that a file's tests stay together on one worker; files come in
# the order of tests/conftest.py, the longest first.
# Four at most: each holds a Java of its own. `-n 0` runs everything in this process, as `--pdb` needs it.
# (nproc believes OMP_NUM_THREADS, and would answer 1.)
workers=$(env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2)
exec .venv/bin/python -m pytest -n $((workers < 4 ? workers : 4)) --dist loadfile --no-loadscope-reorder "$@"
