#!/usr/bin/env python3
"""Time until a job's --help is printed, and until Spark has the job's first task.

The second time is compared with a program that only opens a Spark session and computes one row.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from statistics import median

from scripts.bench.benchmarking import RESULTS, ROOT, run, save
from scripts.bench.spark_events import event_log_conf, read_events

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job
from scrollpast.simulation.log import LogRequest, simulate_log
from scrollpast.simulation.shape import shape_from

LAST_DAY = date(2026, 11, 20)
BARE = """
import json, sys
from pyspark.sql import SparkSession
builder = SparkSession.builder.master("local[2]")
for name, value in json.loads(sys.argv[1]).items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
spark.range(1).collect()
spark.stop()
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench_startup.py", description=__doc__)
    parser.add_argument(
        "--rows",
        type=whole_number(1),
        default=1_000_000,
        metavar="N",
        help="impressions of the log mined (1e6)",
    )
    parser.add_argument(
        "--runs", type=whole_number(1), default=5, metavar="N", help="runs of each, alternating (5)"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of the table (scripts/bench/results)"
    )
    return run_job(parser, measure)


def measure(arguments: argparse.Namespace) -> int:
    jobs = sorted((ROOT / "jobs").glob("*.py"))
    seconds: dict[str, list[float]] = {}
    # Only the bare session needs this: a job finds Java by itself.
    java = subprocess.run(
        [sys.executable, "-m", "scrollpast.java"], check=True, capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="scrollpast-startup-") as temporary:
        log = Path(temporary) / "log"
        simulate_log(
            LogRequest(arguments.rows, 2, LAST_DAY, 7, shape_from([])),
            log,
            len(os.sched_getaffinity(0)),
            False,
        )
        mining = [
            ROOT / "jobs" / "mine_negatives.py", "--date", LAST_DAY, "--days", 2,
            "--as-of", (LAST_DAY + timedelta(days=4)).isoformat() + "T00:00:00Z",
            "--impressions", log / "impressions", "--engagements", log / "engagements",
        ]  # fmt: skip
        for number in range(arguments.runs):
            folder = Path(temporary) / str(number)
            bare = _until_first_task(
                folder / "bare", ["-c", BARE, json.dumps(event_log_conf(folder / "bare"))], JAVA_HOME=java
            )
            conf = f"spark.conf={json.dumps(event_log_conf(folder / 'ours'))}"
            ours = _until_first_task(folder / "ours", [*mining, "--out", folder / "out", "--set", conf])
            for name, found in (("first task, bare session", bare), ("first task, mine_negatives.py", ours)):
                seconds.setdefault(name, []).append(found)
            seconds.setdefault("first task, over the bare session", []).append(ours - bare)
            for job in jobs:
                cost = run([sys.executable, job, "--help"], PYTHONPATH=str(ROOT / "lib"))
                seconds.setdefault(f"{job.name} --help", []).append(cost.seconds)
    lines = [f"{'until':<44}{'seconds':>9}{'fastest–slowest':>18}"]
    for name, all_runs in seconds.items():
        spread = f"{min(all_runs):.2f}–{max(all_runs):.2f}"
        lines.append(f"{name:<44}{median(all_runs):>9.2f}{spread:>18}")
    table = "\n".join(lines) + "\n"
    print(table)
    save(arguments.results, "startup", table, {"seconds": seconds})
    return 0


def _until_first_task(events: Path, program: Sequence[object], **variables: str) -> float:
    """Run a Python program that logs Spark's events there: seconds from its start to the first task's."""
    events.mkdir(parents=True)
    started = time.time()
    run([sys.executable, *program], PYTHONPATH=str(ROOT / "lib"), **variables)
    return read_events(events).first_task_ms / 1000 - started


if __name__ == "__main__":
    sys.exit(main())
