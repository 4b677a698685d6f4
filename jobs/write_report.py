"""Write one HTML file that says what became of a day's impressions, and what training on them gave."""

from __future__ import annotations

import argparse
import sys

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="write_report.py",
        description=__doc__,
        epilog="The file needs no network and nothing beside it. It is on the latest of the days; the others make the "
        "trend, or all that lie beside a day that is named alone.",
    )
    parser.add_argument(
        "days", nargs="+", metavar="DAY", help="folder ds=… of a day, published or held by the gate"
    )
    parser.add_argument(
        "--run",
        action="append",
        default=[],
        metavar="RUN_FOLDER",
        help="what train_two_tower wrote; repeatable",
    )
    parser.add_argument("--comparison", metavar="FOLDER", help="what compare_negatives wrote")
    parser.add_argument(
        "--examination",
        metavar="FOLDER",
        help="what estimate_examination wrote (beside the table that the day was mined with)",
    )
    parser.add_argument(
        "--purity", metavar="FILE.json", help="what scripts/bench/bench_quality.py found on simulated logs"
    )
    parser.add_argument(
        "--floor",
        type=whole_number(1),
        metavar="K",
        help="users, or ads, that a figure has to rest on (privacy.report_floor of the day)",
    )
    parser.add_argument("--out", metavar="FILE.html", help="the report (report.html beside the day)")
    return run_job(parser, _write)


def _write(arguments: argparse.Namespace) -> int:
    from scrollpast.report import cli

    return cli.write_report(arguments)


if __name__ == "__main__":
    sys.exit(main())
