"""Compare negatives: train arms that differ in them alone, evaluate all on the same later days, say which is better."""

from __future__ import annotations

import argparse
import sys

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="compare_negatives.py",
        description=__doc__,
        epilog="A command that was stopped goes on where it was; what is finished is kept. With several ranks: "
        "torchrun --nproc-per-node N jobs/compare_negatives.py …",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML; its section comparison is all of this")
    parser.add_argument(
        "--days",
        action="append",
        default=[],
        metavar="SET=DAY,DAY",
        help="days to train on, by what they were mined with: filtered, naive or neighbours; repeatable",
    )
    parser.add_argument("--evaluate", nargs="+", metavar="DAY", help="folders ds=… of later days")
    parser.add_argument(
        "--arms",
        nargs="+",
        metavar="ARM",
        help="in_batch, random, naive, filtered, weighted, neighbours, all, or the configuration's own (those seven)",
    )
    parser.add_argument(
        "--ratios",
        nargs="+",
        metavar="N",
        type=whole_number(0, 1024),
        help="own negatives for one positive (0 1 2 4 8)",
    )
    parser.add_argument(
        "--seeds", nargs="+", metavar="N", type=whole_number(0), help="of the runs of an arm (0 1 2)"
    )
    parser.add_argument("--baseline", metavar="ARM", help="arm to compare with, such as naive@2 (random)")
    parser.add_argument("--out", metavar="PATH", help="folder of the runs and the table")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="any option")
    return run_job(parser, _compare)


def _compare(arguments: argparse.Namespace) -> int:
    from scrollpast.training.comparison import cli

    return cli.compare(arguments)


if __name__ == "__main__":
    sys.exit(main())
