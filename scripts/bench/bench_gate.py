#!/usr/bin/env python3
"""Count false alarms and missed faults of the gate: clean simulated days in a row, then the last with planted faults.

A clean day that is held is a false alarm. A faulty day that is published is a missed fault. Either gives exit code 1.
Every day is mined by the job's code, as of three days after its end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scripts.bench.benchmarking import RESULTS, save

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job
from scrollpast.config import load_config
from scrollpast.mining.pipeline import DayHeld, mine
from scrollpast.mining.spark.session import spark_session
from scrollpast.simulation.faults import FAULTS, Feeds
from scrollpast.simulation.log import LogRequest, simulate_log
from scrollpast.simulation.shape import shape_from
from scrollpast.simulation.world import DAY_US

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LAST_DAY = date(2026, 11, 20)
WAIT = timedelta(days=4)
TABLES = ("impressions", "engagements", "ads")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench_gate.py", description=__doc__)
    parser.add_argument(
        "--rows", type=whole_number(1), default=100_000, metavar="N", help="impressions a day (1e5)"
    )
    parser.add_argument(
        "--days", type=whole_number(1), default=37, metavar="D", help="clean days in a row (37)"
    )
    parser.add_argument("--seed", type=whole_number(0), default=1, help="seed of the log (1)")
    parser.add_argument(
        "--faults",
        nargs="+",
        choices=FAULTS,
        default=list(FAULTS),
        metavar="FAULT",
        help="planted faults (all)",
    )
    parser.add_argument("--set", action="append", default=[], help="option of the mining job")
    parser.add_argument("--shape", action="append", default=[], help="parameter of the simulation")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of the tables (scripts/bench/results)"
    )
    return run_job(parser, bench)


def bench(arguments: argparse.Namespace) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="scrollpast-gate-") as temporary,
        spark_session(load_config(None).spark, "bench_gate", debug=arguments.debug) as spark,
    ):
        folder = Path(temporary)
        shape = shape_from([f"rows_per_file={arguments.rows}", *arguments.shape])
        num_rows = arguments.rows * arguments.days
        simulate_log(
            LogRequest(num_rows, arguments.days, LAST_DAY, arguments.seed, shape), folder / "log", 2, False
        )
        clean = []
        for back in reversed(range(arguments.days)):
            day = LAST_DAY - timedelta(days=back)
            clean.append(_mine(folder / "log", folder / "out", day, arguments.set, spark))
            print(f"{day}: {_told(clean[-1])}", file=sys.stderr)
        faulty = {}
        feeds = Feeds(*(pq.read_table(folder / "log" / name) for name in TABLES[:2]))
        for name in arguments.faults:
            _write(FAULTS[name](feeds, _start_us(LAST_DAY)), folder / "faulty")
            paths = [f"input.ads.path={folder / 'log' / 'ads'}", *arguments.set]
            faulty[name] = _mine(folder / "faulty", folder / "out", LAST_DAY, paths, spark, overwrite=True)
            print(f"{name}: {_told(faulty[name])}", file=sys.stderr)
    table = render(clean, faulty)
    print(table)
    save(arguments.results, "gate", table, {"clean": clean, "faulty": faulty})
    alarms = sum(bool(gate["breaches"]) for gate in clean)
    missed = sum(not gate["breaches"] for gate in faulty.values())
    return int(alarms + missed > 0)


def _mine(
    log: Path, out: Path, day: date, overrides: list[str], spark: SparkSession, *, overwrite: bool = False
) -> dict[str, Any]:
    """Mine a day; returns the gate's result."""
    paths = [f"input.{name}.path={log / name}" for name in TABLES if (log / name).exists()]
    config = load_config(None, [*paths, f"output.path={out}", "mining.num_buckets=4", *overrides])
    as_of = datetime(day.year, day.month, day.day, tzinfo=UTC) + WAIT
    try:
        mined = mine(config, day, 1, as_of, lambda: spark, overwrite=overwrite)
    except DayHeld as held:
        mined = held.mined
    assert mined.manifest.health is not None
    return dict(mined.manifest.health["gate"])


def _write(feeds: Feeds, folder: Path) -> None:
    """Write the faulty feeds; impressions only from the day before the mined day on."""
    served_us = feeds.impressions["served_at"].cast(pa.int64())
    # A row without a time may belong to any day, and is read with every day.
    is_near = pc.fill_null(pc.greater_equal(served_us, _start_us(LAST_DAY) - DAY_US), True)
    for name, table in (
        ("impressions", feeds.impressions.filter(is_near)),
        ("engagements", feeds.engagements),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / name / "part-0.parquet")


def _start_us(day: date) -> int:
    return (day - date(1970, 1, 1)).days * DAY_US


def _told(gate: dict[str, Any]) -> str:
    return ", ".join(breach["figure"] for breach in gate["breaches"]) or "passed"


def render(clean: list[dict[str, Any]], faulty: dict[str, dict[str, Any]]) -> str:
    """Table of held days and the metrics that held them."""
    with_bands = sum(bool(gate["trailing_days"]) for gate in clean)
    alarms = sum(bool(gate["breaches"]) for gate in clean)
    missed = sum(not gate["breaches"] for gate in faulty.values())
    lines = [
        f"{len(clean)} clean days, {with_bands} of them compared with trailing days: {alarms} false alarms",
        f"{len(faulty)} planted faults: {missed} missed",
        "",
        f"{'planted fault':<30}caught by",
    ]
    lines += [f"{name:<30}{_told(gate)}" for name, gate in faulty.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
