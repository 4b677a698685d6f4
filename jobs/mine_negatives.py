"""Mine the hard negatives of one or more days of ad logs and publish them as TFRecord shards."""

from __future__ import annotations

import argparse
import sys

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job


def main() -> int:
    parser = argparse.ArgumentParser(prog="mine_negatives.py", description=__doc__)
    parser.add_argument("--config", metavar="FILE", help="YAML file, such as conf/local.yaml")
    parser.add_argument("--date", required=True, metavar="D", help="last day to mine (UTC), as 2026-11-21")
    parser.add_argument(
        "--days", type=whole_number(1), default=1, metavar="N", help="days that end with --date (1)"
    )
    parser.add_argument("--as-of", metavar="T", help="use data known at this moment, UTC (now)")
    for table in ("impressions", "engagements", "ads", "users"):
        place = f"files of {table} in the configured format, Parquet by default (the configuration's)"
        parser.add_argument(f"--{table}", metavar="PATH", help=place)
    parser.add_argument("--out", metavar="PATH", help="folder of the published days (the configuration's)")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="set an option")
    parser.add_argument("--overwrite", action="store_true", help="replace the day if it is published")
    parser.add_argument(
        "--release", action="store_true", help="publish the day that the gate held, unchanged"
    )
    return run_job(parser, _mine, publishes=True)


def _mine(arguments: argparse.Namespace) -> int:
    from scrollpast.mining import cli

    return cli.mine(arguments)


if __name__ == "__main__":
    sys.exit(main())
