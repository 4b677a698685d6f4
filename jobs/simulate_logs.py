#!/usr/bin/env python3
"""Write a simulated log with a known truth: impressions, engagements, ads, users, and the truth of every pair."""

import argparse
import datetime as dt
import sys
import time
from pathlib import Path

from scrollpast.argument_types import day, whole_number
from scrollpast.cli_runner import run_job
from scrollpast.simulation.worlds import WORLDS


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulate_logs.py", description=__doc__)
    option = parser.add_argument
    option("out", metavar="OUT", type=Path, help="folder that receives the tables")
    option("--rows", type=whole_number(1), default=2_000_000, metavar="N", help="impressions (default: 2e6)")
    option("--days", type=whole_number(1), default=7, metavar="D", help="days of impressions (default: 7)")
    option("--seed", type=whole_number(0), default=0, metavar="S", help="seed of every draw (default: 0)")
    option("--last-day", type=day, default=dt.date(2026, 11, 20), metavar="YYYY-MM-DD",
           help="last day of impressions, UTC (default: 2026-11-20)")  # fmt: skip
    option("--world", default="plain", metavar="NAME",
           help=f"preset of the parameters: {', '.join(WORLDS.names)} (default: plain)")  # fmt: skip
    option("--set", action="append", default=[], metavar="NAME=VALUE",
           help="a parameter of scrollpast.simulation.shape, such as broken=0.05; repeatable")  # fmt: skip
    option("--only-day", type=whole_number(0), metavar="N", help="write only this day of the log, from 0 on")
    option("--retrieved", type=Path, metavar="FILE", help="a retriever's ads for the users' pools (.npy)")
    option("--processes", type=whole_number(1), default=2, metavar="P", help="processes (default: 2)")
    option("--overwrite", action="store_true", help="replace the log in OUT")
    return run_job(parser, simulate)


def simulate(arguments: argparse.Namespace) -> int:
    from scrollpast.simulation.log import LogRequest, simulate_log, summary_of
    from scrollpast.simulation.shape import shape_from

    world, last_day = WORLDS.find(arguments.world, "--world"), arguments.last_day
    shape = shape_from(arguments.set, world.settings)
    part = {"only_day": arguments.only_day, "retrieved": arguments.retrieved}
    request = LogRequest(arguments.rows, arguments.days, last_day, arguments.seed, shape, **part)
    started = time.monotonic()
    counts = simulate_log(request, arguments.out, arguments.processes, arguments.overwrite)
    seconds = time.monotonic() - started
    print(summary_of(counts))
    print(f"{arguments.out}: {seconds:.1f} s, {counts['impressions'] / seconds:,.0f} rows/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
