"""Estimate the probability that an ad at a position was examined, from a log."""

from __future__ import annotations

import argparse
import sys

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job


def main() -> int:
    parser = argparse.ArgumentParser(prog="estimate_examination.py", description=__doc__)
    parser.add_argument("--config", metavar="FILE", help="YAML file, such as conf/local.yaml")
    parser.add_argument("--date", required=True, metavar="D", help="last day to read (UTC), as 2026-11-21")
    parser.add_argument(
        "--days", type=whole_number(1), default=7, metavar="N", help="days that end with --date (7)"
    )
    parser.add_argument("--as-of", metavar="T", help="use data known at this moment, UTC (now)")
    for table in ("impressions", "engagements"):
        place = f"files of {table} in the configured format, Parquet by default (the configuration's)"
        parser.add_argument(f"--{table}", metavar="PATH", help=place)
    parser.add_argument("--out", metavar="PATH", help="folder of examination/ds=… (the configuration's)")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="set an option")
    return run_job(parser, _estimate)


def _estimate(arguments: argparse.Namespace) -> int:
    from scrollpast.mining.examination import cli

    return cli.estimate(arguments)


if __name__ == "__main__":
    sys.exit(main())
