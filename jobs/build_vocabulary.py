"""Build the vocabulary of published days: rows for ads and users, codes for categorical features."""

from __future__ import annotations

import argparse
import sys

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job


def main() -> int:
    parser = argparse.ArgumentParser(prog="build_vocabulary.py", description=__doc__)
    parser.add_argument(
        "days", nargs="+", metavar="DAY", help="folder ds=… of a published day, or its manifest"
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file, such as conf/local.yaml")
    parser.add_argument("--ads", metavar="PATH", help="Parquet of ads (the configuration's)")
    parser.add_argument(
        "--feature",
        action="append",
        default=[],
        metavar="COLUMN",
        help="categorical column of ads; repeatable",
    )
    parser.add_argument(
        "--parent", metavar="URI", help="vocabulary to extend: its rows and codes do not change"
    )
    parser.add_argument(
        "--num-user-rows",
        type=whole_number(2, 2**31),
        metavar="N",
        help="rows of the table of users (the parent's, or 1,048,577)",
    )
    parser.add_argument(
        "--max-codes",
        type=whole_number(2),
        default=100_000,
        metavar="N",
        help="largest number of codes of a feature (100,000)",
    )
    parser.add_argument("--out", metavar="PATH", help="folder of vocabulary/v=… (the configuration's)")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="set an option")
    return run_job(parser, _build, publishes=True)


def _build(arguments: argparse.Namespace) -> int:
    from scrollpast.mining.vocabulary import cli

    return cli.build(arguments)


if __name__ == "__main__":
    sys.exit(main())
