#!/usr/bin/env python3
"""Time of mining from logs to published shards, beside peers: the same log, the same rules, the same records.

Every run is a separate process, and its time includes the start. A peer's records are decoded and compared with
scrollpast's before its time counts. Peers write the records only: no ledger, no quarantine, no digests, and no
protection against a crash.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scripts.bench.benchmarking import (
    RESULTS,
    ROOT,
    Cost,
    ProgramFailed,
    costs_as_json,
    environment,
    render_costs,
    run,
    save,
)
from scripts.bench.compare_records import differences, flat_records
from scripts.bench.peers.mining_rules import FIXED, not_followed, write_rules
from scripts.bench.spark_events import event_log_conf, read_events, stage_table

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job
from scrollpast.config import Config, load_config
from scrollpast.errors import ScrollpastError, UserError
from scrollpast.hashing import integers, seeded_hash
from scrollpast.mining.rules.rules import Window
from scrollpast.shards.manifest import read_manifest
from scrollpast.simulation.log import LogRequest, simulate_log
from scrollpast.simulation.shape import shape_from

OURS = "scrollpast"
PEERS = ("duckdb", "polars", "pyspark")
LAST_DAY = date(2026, 11, 20)
NUM_DAYS = 3
AS_OF = datetime(2026, 11, 24, tzinfo=UTC)
_STAGES = ["read engagements", "scan impressions", "decide buckets", "collect tallies", "write shards"]
_COMPARED_ROWS = 2e8
"""Rows of a log up to which the records of all users are compared; a larger log compares a sample of the users."""
_SLOW = 4
"""A peer that fails, or takes longer than this multiple of scrollpast's time, runs once."""
SKEWS = ("none", "user", "ad")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench_mining.py", description=__doc__)
    parser.add_argument(
        "--rows", type=whole_number(1), default=10_000_000, metavar="N", help="simulated impressions (1e7)"
    )
    parser.add_argument(
        "--peers", default=",".join(PEERS), metavar="P,P", help=f"of {', '.join(PEERS)}; none: ''"
    )
    parser.add_argument(
        "--runs", type=whole_number(1), default=3, metavar="N", help="runs of each, alternating (3)"
    )
    parser.add_argument("--seed", type=whole_number(0), default=7, help="of the log (7)")
    parser.add_argument(
        "--skew", choices=SKEWS, default="none", help="one user with 1 %% or one ad with 20 %% of all rows"
    )
    parser.add_argument(
        "--buckets", type=whole_number(1), default=64, metavar="N", help="mining.num_buckets (64)"
    )
    parser.add_argument("--set", action="append", default=[], help="option of the mining job")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of the tables (scripts/bench/results)"
    )
    parser.add_argument("--folder", type=Path, help="folder of logs and days (a temporary folder)")
    return run_job(parser, compare)


def compare(arguments: argparse.Namespace) -> int:
    peers = [name for name in arguments.peers.split(",") if name]
    if unknown := sorted(set(peers) - set(PEERS)):
        raise UserError(
            "--peers",
            expected=f"names of {', '.join(PEERS)}",
            found=", ".join(unknown),
            remedy="leave them out",
        )
    config = load_config(None, _options(arguments))
    mining = config.mining.model_dump(mode="json")
    if peers and (strange := not_followed(mining)):
        raise UserError(
            "--set",
            expected=f"options that the peers follow, or {FIXED}",
            found=", ".join(f"mining.{name}={value}" for name, value in strange.items()),
            remedy="leave the options out, or measure without peers: --peers ''",
        )
    with tempfile.TemporaryDirectory(prefix="scrollpast-mining-") as temporary:
        folder = arguments.folder or Path(temporary)
        log = _log(folder, arguments)
        python = environment(".envs/peers", "mining", "tensorflow", "peers") if peers else None
        rules = Path(temporary) / "rules.json"
        window = Window.of_days(LAST_DAY, NUM_DAYS, AS_OF)
        write_rules(rules, mining, window.start_us, window.end_us, window.as_of_us)
        costs: dict[str, list[Cost]] = {OURS: []}
        profile = ""
        for _ in range(arguments.runs):
            ours = _fresh(folder / "ours")
            profile = _mine(log, ours, arguments, folder, costs[OURS])
            for name in peers:
                theirs = _fresh(folder / "theirs")
                found_so_far = costs.setdefault(name, [])
                if any(
                    cost.failure or cost.seconds > _SLOW * costs[OURS][0].seconds for cost in found_so_far
                ):
                    continue
                try:
                    found_so_far.append(_mine_with(name, python, log, theirs, rules))
                except ProgramFailed as failed:
                    # A peer's failure, such as a lack of memory, is a result; scrollpast's own results are kept.
                    found_so_far.append(failed.cost)
                    print(failed, file=sys.stderr)
                else:
                    _check(name, ours, theirs, arguments.rows, config)
            for name, found in costs.items():
                print(f"{name}: {found[-1].seconds:.1f} s, {found[-1].peak_gib:.2f} GiB", file=sys.stderr)
        for left in (folder / "ours", folder / "theirs"):
            shutil.rmtree(left, ignore_errors=True)
    heading = f"{arguments.rows:,} impressions of {NUM_DAYS} days, skew: {arguments.skew}"
    table = f"{heading}\n\n{render_costs(costs, OURS)}\nwhere the time of scrollpast went in its last run\n\n{profile}"
    print(table)
    suffix = "" if arguments.skew == "none" else f"_{arguments.skew}_skew"
    save(
        arguments.results,
        f"mining_{arguments.rows:.0e}{suffix}".replace("e+0", "e"),
        table,
        {"runs": costs_as_json(costs)},
    )
    return 0


def _log(folder: Path, arguments: argparse.Namespace) -> Path:
    """The simulated log, made if missing."""
    log = folder / f"log-{arguments.rows}-{arguments.seed}"
    if not log.exists():
        request = LogRequest(arguments.rows, NUM_DAYS, LAST_DAY, arguments.seed, shape_from([]))
        simulate_log(request, log, len(os.sched_getaffinity(0)), False)
        shutil.rmtree(log / "truth")
    if arguments.skew == "none":
        return log
    skewed = folder / f"{log.name}-{arguments.skew}"
    if not skewed.exists():
        _skew(log, skewed, f"{arguments.skew}_id", 0.01 if arguments.skew == "user" else 0.2)
    return skewed


def _skew(log: Path, skewed: Path, column: str, share: float) -> None:
    """A copy in which a share of the impressions, chosen by a hash, belongs to one user or ad of the log.

    The user is that of the first engagement, so that the rows have an anchor and pass through every stage.
    """
    shutil.copytree(log / "engagements", skewed / "engagements")
    chosen = pq.read_table(next(iter(sorted((log / "engagements").glob("*.parquet")))))[column][0].as_py()
    (skewed / "impressions").mkdir()
    for file in sorted((log / "impressions").glob("*.parquet")):
        table = pq.read_table(file)
        keys = [integers(table[name].combine_chunks()) for name in ("request_id", "ad_id", "position")]
        is_chosen = (seeded_hash(1, *keys) & (2**20 - 1)) < share * 2**20
        values = pc.if_else(pa.array(is_chosen), pa.scalar(chosen, pa.int64()), table[column])
        at = table.schema.get_field_index(column)
        pq.write_table(
            table.set_column(at, table.schema.field(at), values),
            skewed / "impressions" / file.name,
            compression="zstd",
        )


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _options(arguments: argparse.Namespace) -> list[str]:
    """Options of the job, which the peers follow too.

    Peers have no seeded hash of Spark's. The user cap therefore keeps the latest negatives (ties by time are compared
    by number), and no ad has a limit.
    """
    ours = [
        "mining.strategy=recent", f"mining.max_ad_share={FIXED['max_ad_share']}",
        f"mining.num_buckets={arguments.buckets}",
    ]  # fmt: skip
    return [*ours, *arguments.set]


def _mine(log: Path, out: Path, arguments: argparse.Namespace, folder: Path, costs: list[Cost]) -> str:
    """Mine once with Spark's event log, and append the cost to ``costs``; returns a table of the stages."""
    events_folder = _fresh(folder / "events")
    events_folder.mkdir(parents=True)
    options = [f"spark.conf={json.dumps(event_log_conf(events_folder))}", *_options(arguments)]
    started = time.time() * 1000
    cost = run(
        [
            sys.executable, ROOT / "jobs" / "mine_negatives.py", "--date", LAST_DAY, "--days", NUM_DAYS,
            "--as-of", AS_OF.isoformat(), "--impressions", log / "impressions",
            "--engagements", log / "engagements", "--out", out,
            *(part for option in options for part in ("--set", option)),
        ],
        PYTHONPATH=str(ROOT / "lib"),
    )  # fmt: skip
    costs.append(cost)
    events = read_events(events_folder)
    shutil.rmtree(events_folder)
    ledger = read_manifest(str(out / f"ds={LAST_DAY.isoformat()}")).ledger
    anchored = sum(ledger.values()) - ledger["invalid"] - ledger["unanchored"]
    shuffled = f"{events.shuffled_bytes / anchored:.1f} bytes shuffled for each row of a user with an anchor"
    table = stage_table(events, _STAGES, started, started + cost.seconds * 1000)
    return f"{table}\n{shuffled} ({anchored:,} rows)\n"


def _mine_with(name: str, python: Path | None, log: Path, out: Path, rules: Path) -> Cost:
    peers = ROOT / "scripts" / "bench" / "peers"
    cores = len(os.sched_getaffinity(0))
    return run(
        [python, peers / f"{name}_mining.py", log, out, "--rules", rules, "--threads", cores],
        PYTHONPATH=str(ROOT),
        POLARS_MAX_THREADS=str(cores),
        TF_CPP_MIN_LOG_LEVEL="3",
    )


def _check(name: str, ours: Path, theirs: Path, num_rows: float, config: Config) -> None:
    one_in = max(1, int(num_rows / _COMPARED_ROWS))
    (own, own_totals), (other, other_totals) = (
        flat_records(sorted(folder.rglob("*.tfrecord")), one_in) for folder in (ours, theirs)
    )
    found = differences(own, other, config.mining.negatives_per_user)
    if own_totals != other_totals:
        found = f"{own_totals} of ours, {other_totals} of theirs"
    if found:
        raise ScrollpastError(
            f"{name}_mining.py",
            expected="the records of scrollpast",
            found=found,
            remedy="correct the peer's rules",
        )


if __name__ == "__main__":
    sys.exit(main())
