#!/usr/bin/env bash
# Runs the tests: scripts/test.sh [--quick] [pytest arguments], for example `scripts/test.sh tests/shards -k crc`.
# --quick leaves out tests that take more than ten seconds or need Java, TensorFlow, Airflow or a browser, and does
# not install these.
# The first call installs the packages. The last line and the exit code are pytest's.
source "$(dirname "${BASH_SOURCE[0]}")/env/environment.sh"
cd "$root"

environment .venv mining training baselines report development
if [[ ${1:-} == --quick ]]; then
    shift
    set -- -m "not slow and not java and not tensorflow and not airflow and not chromium and not gpu" "$@"
    # Java is hidden, so that a test without the mark that starts it fails.
    mkdir -p .envs/no_java
    printf '#!/bin/sh\nexit 1\n' >.envs/no_java/java
    chmod +x .envs/no_java/java
    export JAVA_HOME=/nonexistent PATH=$root/.envs/no_java:$PATH
else
    environment .envs/tensorflow tensorflow
    environment .envs/spark35 spark35
    environment .envs/airflow airflow
    environment .envs/peers mining training tensorflow peers
    spark_environment .venv
    chromium_environment
    scripts/env/archive_classes.sh
fi

# One thread a process: the tests run in parallel, and more threads than cores slow every test.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# A worker keeps one Spark session, so that a file's tests run on one worker. Files run in the order of
# tests/conftest.py, the longest first.
# Four workers at most: each runs its own Java. `-n 0` runs all tests in this process, as `--pdb` requires.
# (nproc obeys OMP_NUM_THREADS, and would print 1.)
workers=$(env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2)
exec .venv/bin/python -m pytest -n $((workers < 4 ? workers : 4)) --dist loadfile --no-loadscope-reorder "$@"
