#!/usr/bin/env python3
"""Convert a public log into the input tables: impressions, engagements, ads."""

import argparse
import sys
from pathlib import Path

from scrollpast.cli_runner import run_job
from scrollpast.importing.logs import IMPORTERS, import_log


def main() -> int:
    parser = argparse.ArgumentParser(prog="import_public_log.py", description=__doc__)
    parser.add_argument("log", help=f"kind of the log: {', '.join(IMPORTERS.names)}")
    parser.add_argument("source", metavar="SRC", type=Path, help="folder of the log's files, as published")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder that receives the three tables")
    parser.add_argument("--overwrite", action="store_true", help="replace tables in OUT")
    return run_job(parser, run)


def run(arguments: argparse.Namespace) -> int:
    print(import_log(arguments.log, arguments.source, arguments.out, arguments.overwrite))
    return 0


if __name__ == "__main__":
    sys.exit(main())
