"""Write one HTML file about a day's impressions, their outcomes, and the training runs on them."""

from __future__ import annotations

import argparse
import sys

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="write_report.py",
        description=__doc__,
        epilog="The file needs no network and no other file. The report is about the latest of the days; earlier days "
        "make the trend. For a single day, all days beside it make the trend.",
    )
    parser.add_argument(
        "days", nargs="+", metavar="DAY", help="folder ds=… of a day, published or held by the gate"
    )
    parser.add_argument(
        "--run",
        action="append",
        default=[],
        metavar="RUN_FOLDER",
        help="folder that train_two_tower wrote; repeatable",
    )
    parser.add_argument("--comparison", metavar="FOLDER", help="folder that compare_negatives wrote")
    parser.add_argument(
        "--examination",
        metavar="FOLDER",
        help="folder that estimate_examination wrote (beside the table that the day was mined with)",
    )
    parser.add_argument(
        "--purity", metavar="FILE.json", help="result of scripts/bench/bench_quality.py on simulated logs"
    )
    parser.add_argument(
        "--floor",
        type=whole_number(1),
        metavar="K",
        help="smallest number of users or ads behind a figure (privacy.report_floor of the day)",
    )
    parser.add_argument("--out", metavar="FILE.html", help="the report (report.html beside the day)")
    return run_job(parser, _write)


def _write(arguments: argparse.Namespace) -> int:
    from scrollpast.report import cli

    return cli.write_report(arguments)


if __name__ == "__main__":
    sys.exit(main())
