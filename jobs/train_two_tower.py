"""Train a two-tower retriever on published days, with in-batch, random and hard negatives."""

from __future__ import annotations

import argparse
import sys

from scrollpast.cli_runner import run_job


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="train_two_tower.py",
        description=__doc__,
        epilog="With several ranks: torchrun --nproc-per-node N jobs/train_two_tower.py …",
    )
    parser.add_argument("days", nargs="*", metavar="DAY", help="folder ds=… of a published day to train on")
    parser.add_argument("--config", metavar="FILE", help="YAML file, such as conf/local.yaml")
    parser.add_argument("--out", metavar="PATH", help="folder of the run (the configuration's)")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="set an option")
    return run_job(parser, _train)


def _train(arguments: argparse.Namespace) -> int:
    from scrollpast.training import cli

    return cli.train(arguments)


if __name__ == "__main__":
    sys.exit(main())
