"""Take users out of every published day below some folders, keep them out of later ones, and look into every file."""

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
    option("--user", action="append", default=[], metavar="ID", help="a user, as in the log; repeatable")
    option("--users", metavar="FILE", help="a file of users, one a line; - = standard input")
    option(
        "--allow-again",
        action="store_true",
        help="take the users off the suppression list, so that later runs mine them; forgets nobody",
    )
    option("--config", metavar="FILE", help="YAML that names the key of user ids, if there is one")
    option("--set", action="append", default=[], metavar="OPTION=VALUE", help="any option")
    return run_job(parser, _forget, publishes=True)


def _forget(arguments: argparse.Namespace) -> int:
    from scrollpast.privacy.cli import forget_users

    return forget_users(arguments)


if __name__ == "__main__":
    sys.exit(main())
