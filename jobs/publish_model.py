"""Make a trained model the current model, unless it is worse than the current model on later days."""

from __future__ import annotations

import argparse
import sys

from scrollpast.argument_types import number, whole_number
from scrollpast.cli_runner import run_job


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="publish_model.py",
        description=__doc__,
        epilog="MODELS/current.json names the current model. A model that is not published is no failure: the exit "
        "code is 0, and the last line names the model that is kept, and the reason.",
    )
    option = parser.add_argument
    option("model", metavar="RUN", help="a run's folder: its best checkpoint; or a folder checkpoints/step=…")
    option("days", nargs="+", metavar="DAY", help="folder ds=… of a day later than the training days")
    option("--models", required=True, metavar="MODELS", help="folder of current.json")
    option("--metric", action="append", metavar="NAME", help="metric to compare; repeatable (recall@100)")
    option(
        "--largest-loss",
        type=number(0, 1),
        default=0.05,
        metavar="PART",
        help="largest loss of a metric without significance, as a share of its value (0.05)",
    )
    option("--max-users", type=whole_number(1), metavar="N", help="compare on N users, chosen by a hash")
    option("--force", action="store_true", help="publish without the comparison, for example to roll back")
    return run_job(parser, _publish)


def _publish(arguments: argparse.Namespace) -> int:
    from scrollpast.training.publication import cli

    arguments.metric = arguments.metric or ["recall@100"]
    return cli.publish_model(arguments)


if __name__ == "__main__":
    sys.exit(main())
