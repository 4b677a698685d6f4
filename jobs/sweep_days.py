"""Remove published days that are older than privacy.keep_days."""

from __future__ import annotations

import argparse
import sys

from scrollpast.argument_types import day
from scrollpast.cli_runner import run_job


def main() -> int:
    parser = argparse.ArgumentParser(prog="sweep_days.py", description=__doc__)
    option = parser.add_argument
    option(
        "folders",
        nargs="+",
        metavar="FOLDER",
        help="folder of published days, such as s3://training/negatives",
    )
    option("--today", type=day, metavar="D", help="count from this day (today, UTC)")
    option("--dry-run", action="store_true", help="list days without removing them")
    option("--config", metavar="FILE", help="YAML file, such as conf/cluster.yaml")
    option("--set", action="append", default=[], metavar="OPTION=VALUE", help="set an option")
    return run_job(parser, _sweep)


def _sweep(arguments: argparse.Namespace) -> int:
    from scrollpast.privacy.cli import sweep_days

    return sweep_days(arguments)


if __name__ == "__main__":
    sys.exit(main())
