"""Remove users from published days, exclude them from later days, and verify every file."""

from __future__ import annotations

import argparse
import sys

from scrollpast.cli_runner import run_job


def main() -> int:
    parser = argparse.ArgumentParser(prog="forget_users.py", description=__doc__)
    option = parser.add_argument
    option(
        "folders",
        nargs="+",
        metavar="FOLDER",
        help="folder of published days, such as s3://training/negatives",
    )
    option("--user", action="append", default=[], metavar="ID", help="user id, as in the log; repeatable")
    option("--users", metavar="FILE", help="file of user ids, one a line; - = standard input")
    option(
        "--allow-again",
        action="store_true",
        help="remove the users from the suppression list, so that later runs mine them; no day changes",
    )
    option("--config", metavar="FILE", help="YAML file that names the key of user ids, if ids are keyed")
    option("--set", action="append", default=[], metavar="OPTION=VALUE", help="set an option")
    return run_job(parser, _forget, publishes=True)


def _forget(arguments: argparse.Namespace) -> int:
    from scrollpast.privacy.cli import forget_users

    return forget_users(arguments)


if __name__ == "__main__":
    sys.exit(main())
