"""Train arms that differ only in their negatives, evaluate them on the same later days, and report differences."""

from __future__ import annotations

import argparse
import sys

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="compare_negatives.py",
        description=__doc__,
        epilog="A command that was stopped resumes: finished runs are kept. With several ranks: "
        "torchrun --nproc-per-node N jobs/compare_negatives.py …",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with a section comparison")
    parser.add_argument(
        "--days",
        action="append",
        default=[],
        metavar="SET=DAY,DAY",
        help="training days of a set (filtered, naive or neighbours); repeatable",
    )
    parser.add_argument("--evaluate", nargs="+", metavar="DAY", help="folders ds=… of later days")
    parser.add_argument(
        "--arms",
        nargs="+",
        metavar="ARM",
        help="in_batch, random, naive, filtered, weighted, neighbours, all (default: these), or a configured arm",
    )
    parser.add_argument(
        "--ratios",
        nargs="+",
        metavar="N",
        type=whole_number(0, 1024),
        help="the user's negatives for each positive (0 1 2 4 8)",
    )
    parser.add_argument(
        "--seeds", nargs="+", metavar="N", type=whole_number(0), help="seeds of an arm's runs (0 1 2)"
    )
    parser.add_argument("--baseline", metavar="ARM", help="arm to compare with, such as naive@2 (random)")
    parser.add_argument("--out", metavar="PATH", help="folder of the runs and the table")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="set an option")
    return run_job(parser, _compare)


def _compare(arguments: argparse.Namespace) -> int:
    from scrollpast.training.comparison import cli

    return cli.compare(arguments)


if __name__ == "__main__":
    sys.exit(main())
