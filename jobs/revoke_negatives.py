"""Revoke published negatives that a later engagement contradicts; readers then leave them out."""

from __future__ import annotations

import argparse
import sys

from scrollpast.cli_runner import run_job


def main() -> int:
    parser = argparse.ArgumentParser(prog="revoke_negatives.py", description=__doc__)
    parser.add_argument(
        "days", nargs="+", metavar="DAY", help="folder ds=… of a published day, or its manifest"
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file, such as conf/local.yaml")
    parser.add_argument("--as-of", metavar="T", help="use data known at this moment, UTC (now)")
    place = "files of engagements in the configured format, Parquet by default (the configuration's)"
    parser.add_argument("--engagements", metavar="PATH", help=place)
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="set an option")
    return run_job(parser, _revoke, publishes=True)


def _revoke(arguments: argparse.Namespace) -> int:
    from scrollpast.mining.revocation import cli

    return cli.revoke(arguments)


if __name__ == "__main__":
    sys.exit(main())
