#!/usr/bin/env python3
"""Count the negatives of a simulated log that a later engagement contradicts, before and after revocation.

Most engagements of the log come late: users return to an ad by another surface, up to days later, and half of the
conversions take more than a day, up to a month. The naive run mines the day at its end and takes every ad that was
served and not engaged with. The other runs mine with the default windows, some time after the day's end. Then the log
of the following month is read. A negative is contradicted if its user engaged with its ad within the windows of
``jobs/revoke_negatives.py``. An independent NumPy join of negatives and engagements counts them before and after the
job.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scripts.bench.bench_quality import NO_RULES
from scripts.bench.benchmarking import RESULTS, save

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job
from scrollpast.config import Config, load_config
from scrollpast.hashing import xxhash64
from scrollpast.mining.pipeline import mine
from scrollpast.mining.revocation.revoke import revoke_negatives
from scrollpast.mining.spark.session import spark_session
from scrollpast.shards.manifest import read_manifest
from scrollpast.shards.reader import ShardReader
from scrollpast.simulation.log import LogRequest, simulate_log
from scrollpast.simulation.shape import shape_from

LAST_DAY = datetime(2026, 11, 20, tzinfo=UTC)


@dataclass(frozen=True)
class Run:
    """A mining run: its name, hours after the day's end, and the options that differ from the defaults."""

    name: str
    wait_h: float
    options: tuple[str, ...] = ()


RUNS = (
    Run("naive, at the day's end", 0, tuple(f"mining.{name}={value}" for name, value in NO_RULES.items())),
    Run("defaults, at the day's end", 0),
    Run("defaults, a day later", 24),
    Run("defaults, three days later", 72),
    Run("defaults, a week later", 168),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench_delays.py", description=__doc__)
    parser.add_argument(
        "--rows", type=whole_number(1), default=3_000_000, metavar="N", help="impressions of the log (3e6)"
    )
    parser.add_argument(
        "--days",
        type=whole_number(1),
        default=15,
        metavar="D",
        help="days of the log; the middle one is mined (15)",
    )
    parser.add_argument("--seed", type=whole_number(0), default=1, help="seed of the log (1)")
    parser.add_argument("--set", action="append", default=[], help="option of mining, for all runs")
    parser.add_argument("--shape", action="append", default=[], help="parameter of the simulation")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FOLDER", help="folder of delays.txt and .json"
    )
    return run_job(parser, compare)


def compare(arguments: argparse.Namespace) -> int:
    mined_day = LAST_DAY - timedelta(days=arguments.days // 2)
    # The log is simulated for as long as an engagement may revoke, and is read at the end of that time.
    reach_h = load_config(None, arguments.set).revocation.after_h
    at_last = LAST_DAY + timedelta(days=1, hours=reach_h)
    shape = shape_from([f"engagement_days_after={ceil(reach_h / 24)}", *arguments.shape])
    found = {}
    with (
        tempfile.TemporaryDirectory(prefix="scrollpast-delays-") as folder,
        spark_session(load_config(None).spark, "bench_delays", debug=arguments.debug) as spark,
    ):
        logs = Path(folder) / "log"
        simulate_log(
            LogRequest(arguments.rows, arguments.days, LAST_DAY.date(), arguments.seed, shape),
            logs,
            2,
            False,
        )
        for number, run in enumerate(RUNS):
            paths = [f"input.{name}.path={logs / name}" for name in ("impressions", "engagements", "ads")]
            out = f"output.path={Path(folder) / str(number)}"
            # The gate is off: every run must be published, to be read again.
            own = [out, "mining.num_buckets=8", "gate.enabled=false"]
            config = load_config(None, [*paths, *own, *run.options, *arguments.set])
            as_of = mined_day + timedelta(days=1, hours=run.wait_h)
            day = mine(config, mined_day.date(), 1, as_of, lambda: spark).uri
            before = contradicted(day, logs, config)
            revoke_negatives(config, [day], at_last, lambda: spark)
            found[run.name] = (*before, contradicted(day, logs, config)[0])
            print(f"{run.name}: {found[run.name]}", file=sys.stderr)
    table = render(found)
    print(table)
    save(arguments.results, "delays", table, {"runs": found})
    return 0


def contradicted(day: str, logs: Path, config: Config) -> tuple[int, int]:
    """Number of a day's negatives that an engagement contradicts, and number of negatives, both as readers see them."""
    served = read_manifest(day).kinds["served"]
    names = ["user_id", "negative_ad_id", "negative_served_at_ms", "negative_kind"]
    records = pa.Table.from_batches(ShardReader([day], features=names)).combine_chunks()
    lists = {name: records[name].combine_chunks() for name in names[1:]}
    parents = pc.list_parent_indices(lists["negative_ad_id"]).to_numpy()
    is_served = lists["negative_kind"].flatten().to_numpy() == served
    user = records["user_id"].to_numpy()[parents][is_served]
    pair = xxhash64(lists["negative_ad_id"].flatten().to_numpy()[is_served], user)
    served_ms = lists["negative_served_at_ms"].flatten().to_numpy()[is_served]

    positive = [name for name, kind in config.mining.kinds.items() if kind.role == "positive"]
    engaged = pq.read_table(
        logs / "engagements", columns=["user_id", "ad_id", "kind", "engaged_at"]
    ).drop_null()
    engaged = engaged.filter(pc.is_in(engaged["kind"], pa.array(positive)))
    engaged_pair = xxhash64(engaged["ad_id"].to_numpy(), engaged["user_id"].to_numpy())
    engaged_ms = engaged["engaged_at"].cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_numpy()

    order = np.lexsort((engaged_ms, engaged_pair))
    engaged_pair, engaged_ms = engaged_pair[order], engaged_ms[order]
    # Bounds of the engagements of the pair that contradict its negative.
    early_ms = served_ms - int(config.mining.guard.before_h * 3_600_000)
    late_ms = served_ms + int(config.revocation.after_h * 3_600_000)
    first = np.searchsorted(engaged_pair, pair)
    past = np.searchsorted(engaged_pair, pair, side="right")
    is_contradicted = np.zeros(len(pair), np.bool_)
    for step in range(int((past - first).max(initial=0))):
        at = first + step
        has = at < past
        ms = engaged_ms[np.where(has, at, 0)]
        is_contradicted |= has & (ms >= early_ms) & (ms <= late_ms)
    return int(is_contradicted.sum()), len(pair)


def render(found: dict[str, tuple[int, int, int]]) -> str:
    base = next(iter(found.values()))
    lines = [
        f"{'run':<30}{'negatives':>12}{'contradicted later':>20}{'share':>9}{'÷ naive':>9}{'once revoked':>14}"
    ]
    for name, (number, total, left) in found.items():
        share = number / max(total, 1)
        relative = share / (base[0] / max(base[1], 1))
        lines.append(f"{name:<30}{total:>12,}{number:>20,}{share:>9.3%}{relative:>9.2%}{left:>14,}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
