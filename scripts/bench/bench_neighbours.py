#!/usr/bin/env python3
"""Speed and memory of mining neighbours, on planted towers and users.

The job runs twice, for a tenth of the users and for all of them. The difference is the cost of a user. The rest is the
fixed cost of a run: Spark's start, opening the export on every worker, reading and writing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from scripts.bench.benchmarking import RESULTS, ROOT, Cost, run, save
from scripts.bench.synthetic_days import Plan, plant_day, plant_towers

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job
from scrollpast.shards.manifest import read_manifest

MILLION = 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench_neighbours.py", description=__doc__)
    option = parser.add_argument
    option("--ads", type=whole_number(1), default=100_000, metavar="N", help="ads of the catalogue (1e5)")
    option("--users", type=whole_number(10), default=100_000, metavar="N", help="users with a record (1e5)")
    option("--dim", type=whole_number(1), default=64, metavar="D", help="length of an embedding (64)")
    option("--index", choices=("flat", "ivf_flat", "ivf_pq"), default="ivf_flat", help="kind of the index")
    option("--buckets", type=whole_number(1), default=64, metavar="N", help="shards of the day (64)")
    option("--set", action="append", default=[], metavar="OPTION=VALUE", help="option of the job")
    option("--folder", type=Path, metavar="DIR", help="folder of towers and days (a temporary folder)")
    option("--results", type=Path, default=RESULTS, help="folder of the table (scripts/bench/results)")
    return run_job(parser, measure)


def measure(arguments: argparse.Namespace) -> int:
    plan = Plan(arguments.ads, arguments.users, arguments.dim)
    with tempfile.TemporaryDirectory(prefix="scrollpast-neighbours-", dir=arguments.folder) as temporary:
        folder = Path(temporary)
        plant_towers(plan, folder / "export", arguments.index)
        day = plant_day(plan, folder / "served", num_buckets=arguments.buckets)
        # The run of a tenth is first: its reads fill the file system's cache for the second run.
        costs = {
            asked: _mine(folder, day, asked, arguments) for asked in (plan.num_users // 10, plan.num_users)
        }
        ledger = read_manifest(str(folder / f"out-{plan.num_users}" / Path(day).name)).ledger
    table, per_user_ms, fixed_s = _table(plan, arguments.index, costs, ledger)
    print(table)
    figures = {
        "ads": plan.num_ads, "users": plan.num_users, "dim": plan.dim, "index": arguments.index,
        "seconds": {asked: cost.seconds for asked, cost in costs.items()},
        "peak_gib": {asked: cost.peak_gib for asked, cost in costs.items()},
        "per_user_ms": per_user_ms, "fixed_s": fixed_s, "ledger": ledger,
    }  # fmt: skip
    save(arguments.results, f"neighbours_{plan.num_ads}_{arguments.index}", table, figures)
    return 0


def _mine(folder: Path, day: str, asked: int, arguments: argparse.Namespace) -> Cost:
    settings = [part for setting in arguments.set for part in ("--set", setting)]
    job = [sys.executable, ROOT / "jobs" / "mine_neighbours.py", day, "--towers", folder / "export"]
    out = folder / f"out-{asked}"
    return run([*job, "--out", out, "--sample", asked, *settings], PYTHONPATH=str(ROOT / "lib"))


def _table(
    plan: Plan, index: str, costs: dict[int, Cost], ledger: dict[str, int]
) -> tuple[str, float, float]:
    (few, cost_of_few), (all_users, cost_of_all) = costs.items()
    per_user_s = (cost_of_all.seconds - cost_of_few.seconds) / (all_users - few)
    fixed_s = cost_of_all.seconds - per_user_s * all_users
    cores = len(os.sched_getaffinity(0))
    lines = [
        f"{plan.num_ads:,} ads of {plan.dim} dimensions, {index}; {plan.num_users:,} users, {cores} cores\n",
        f"{'users asked for':>16}{'seconds':>10}{'users/s':>10}{'CPU s':>9}{'peak GiB':>10}",
    ]
    for asked, cost in costs.items():
        lines.append(
            f"{asked:>16,}{cost.seconds:>10.1f}{asked / cost.seconds:>10,.0f}{cost.cpu_seconds:>9.0f}"
            f"{cost.peak_gib:>10.2f}"
        )
    kept = ", ".join(f"{name} {count:,}" for name, count in ledger.items())
    hours = (fixed_s + MILLION * per_user_s) / 3600
    lines += [
        f"\na run {fixed_s:.1f} s, a user {1000 * per_user_s:.3f} ms ({1 / per_user_s:,.0f} users/s on {cores} cores)",
        f"at this rate a million users, with these {plan.num_ads:,} ads: {hours:.2f} hours",
        f"candidates: {kept}",
    ]
    return "\n".join(lines) + "\n", 1000 * per_user_s, fixed_s


if __name__ == "__main__":
    sys.exit(main())
