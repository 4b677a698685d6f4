#!/usr/bin/env python3
"""Rate of writing and reading shards, beside public libraries: the same records, one core each.

Encoding: Arrow columns to TFRecord files. Reading: files to batches of columns, and to inputs of a training step.
Rates are records of 40 values a second (encoding, decoding) and anchors a second (training input). Every program
runs alone, in its own process, on one core; sums of the values read are compared. tf.data's anchors are only parsed:
no negatives are drawn, and no batches are made.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from scripts.bench.benchmarking import RESULTS, ROOT, environment, save

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job
from scrollpast.errors import ScrollpastError

OURS = "scrollpast"
WRITERS = ("scrollpast", "tfx_bsl", "tensorflow", "tfrecord")
READERS = ("scrollpast", "tf.data", "tf.data 2 threads", "tfx_bsl", "tfrecord", "webdataset", "streaming")
LOCKS = ("mining", "training", "tensorflow", "peers")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench_shards.py", description=__doc__)
    parser.add_argument(
        "--records", type=whole_number(1), default=200_000, metavar="N", help="records of 40 values (2e5)"
    )
    parser.add_argument(
        "--runs", type=whole_number(1), default=3, metavar="N", help="runs of each, alternating (3)"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of the tables (scripts/bench/results)"
    )
    return run_job(parser, compare)


def compare(arguments: argparse.Namespace) -> int:
    python = environment(".envs/peers", *LOCKS)
    rates: dict[str, dict[str, list[float]]] = {"write": {}, "read": {}, "anchors": {}}
    with tempfile.TemporaryDirectory(prefix="scrollpast-shards-") as folder:
        for number in range(arguments.runs):
            for task, names in (
                ("write", WRITERS),
                ("read", READERS),
                ("anchors", (OURS, "from its cache", "tf.data")),
            ):
                sums: dict[str, float] = {}
                for name in names:
                    # Slow peers get fewer records: the rate does not depend on the number.
                    found = _run(python, folder, task, name, arguments, number)
                    rates[task].setdefault(name, []).append(found["rate"])
                    sums[name] = found["sum"]
                    print(f"{task}, {name}: {found['rate']:,.0f} a second", file=sys.stderr)
                if len(set(sums.values())) != 1:
                    raise ScrollpastError(
                        task, expected="the same values", found=str(sums), remedy="mend the peer"
                    )
    table = "\n".join(
        _table(title, rates[task])
        for task, title in (
            ("write", "encode and write, records/s"),
            ("read", "read and decode, records/s"),
            ("anchors", "training input, anchors/s"),
        )
    )
    print(table)
    save(arguments.results, "shards", table, {"rates": rates})
    return 0


def _run(
    python: Path, folder: str, task: str, name: str, arguments: argparse.Namespace, number: int
) -> dict[str, float]:
    threads = "2" if name.endswith("2 threads") else "1"
    command = ["taskset", "-c", "0", str(python)] if threads == "1" else [str(python)]
    command += [
        str(ROOT / "scripts/bench/peers/shard_programs.py"),
        task,
        name,
        folder,
        str(arguments.records),
        str(number),
    ]
    path = os.pathsep.join([str(ROOT / "lib"), str(ROOT)])
    variables = {
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": threads,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "THREADS": threads,
    }
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
    if done.returncode:
        raise ScrollpastError(
            name, expected="exit code 0", found=done.stderr[-1500:], remedy="run it by itself"
        )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _table(title: str, rates: dict[str, list[float]]) -> str:
    own = median(rates[OURS])
    lines = [f"{title:<30}{'median':>12}{'slowest–fastest':>24}{'scrollpast is':>16}"]
    for name, found in rates.items():
        spread = f"{min(found):,.0f}–{max(found):,.0f}"
        ratio = "" if name == OURS else f"{own / median(found):.1f} ×"
        lines.append(f"{name:<30}{median(found):>12,.0f}{spread:>24}{ratio:>16}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
