"""Evaluate a checkpoint on later days: recall over the whole catalogue, with confidence intervals."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> int:
    parser = argparse.ArgumentParser(prog="evaluate_two_tower.py", description=__doc__)
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="folder checkpoints/step=…, or a run's (best checkpoint)"
    )
    parser.add_argument(
        "days", nargs="+", metavar="DAY", help="folder ds=… of a day later than the training days"
    )
    parser.add_argument("--vocabulary", metavar="URI", help="new place of the checkpoint's vocabulary")
    parser.add_argument(
        "--history", nargs="+", metavar="DAY", help="days of users' histories (the training days)"
    )
    parser.add_argument(
        "--metric", default="recall@100", metavar="NAME", help="metric that selects a run's checkpoint"
    )
    parser.add_argument(
        "--max-users", type=whole_number(1), metavar="N", help="evaluate on N users, chosen by a hash"
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="seed of the intervals and of the choice of users (0)",
    )
    parser.add_argument("--truth", metavar="LOGS", help="simulated log: measure against its truth as well")
    parser.add_argument("--out", metavar="FILE", help="metrics.json (inside the checkpoint's folder)")
    return run_job(parser, _evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from scrollpast.ann_index.index import AdIndex
    from scrollpast.ann_index.kinds import EXPORTED_KIND
    from scrollpast.training.evaluation.cli import evaluate_checkpoint

    def exported(ad_RD: Any) -> Callable[[Any, int], Any]:  # noqa: N803 (rows and dimensions)
        # The defaults of build are those of export_towers.py: --seed chooses users and intervals, not clusters.
        index = AdIndex.build(ad_RD)
        return lambda user_UD, k: index.search(user_UD, k)[0]  # noqa: N803

    return evaluate_checkpoint(arguments, exported, EXPORTED_KIND)


if __name__ == "__main__":
    sys.exit(main())
