#!/usr/bin/env python3
"""Did the negatives help? KuaiRand's days, four arms that differ in their negatives alone, three seeds.

Trains on all days but the last --hold-out, evaluates on those, and prints the arms beside each other with the
paired difference to the first. Both sides are mined by the job's own code: what is trained on, with what was known
when the held-out days began; what is evaluated on, as every ad that was served and not engaged with.

--last-day D stops the log after D. Choices were made with --last-day 2022-04-28 --hold-out 1; the figures of the
documentation are those of --hold-out 2, which no choice has seen.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import torch

from scrollpast.config import load_config
from scrollpast.entry import run_job
from scrollpast.importing.kuairand import import_kuairand
from scrollpast.mining.pipeline import mine
from scrollpast.mining.session import session_when_needed
from scrollpast.mining.vocabulary import build_vocabulary
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.console import silence_libraries
from scrollpast.training.evaluation.bootstrap import estimates
from scrollpast.training.evaluation.held_out import HeldOut, read_held_out
from scrollpast.training.evaluation.report import measure
from scrollpast.training.loop import Run
from scrollpast.training.model.embedding import embed_ads, embed_users
from scrollpast.training.processes import process_group

SERVED_NOT_ENGAGED = (
    "mining.examined.min_dwell_ms=null",
    "mining.examined.max_dwell_ms=null",
    "mining.examined.lingering_rules_out=impression",
    "mining.guard.before_h=0",
    "mining.guard.after_h=0",
)
IN_BATCH_ONLY = ("negatives.hard.enabled=false", "negatives.random.enabled=false")
NO_RANDOM = ("negatives.random.enabled=false", "negatives.hard.count=2")
COUNTED_ONCE = ("negatives.hard.log_q=none", "negatives.hard.weight={weight}")
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "in-batch only": ("filtered", IN_BATCH_ONLY),
    "+ 2 naive served": ("naive", (*NO_RANDOM, *COUNTED_ONCE, "negatives.hard.is_weighted=false")),
    "+ 2 filtered and weighted": ("filtered", (*NO_RANDOM, *COUNTED_ONCE)),
    "defaults: in-batch, random, hard": ("filtered", ()),
    "hard only": ("filtered", ("negatives.in_batch.enabled=false", "negatives.random.enabled=false")),
}
"""Each arm: the negatives it reads, and its options."""
SHOWN = ("recall@10", "recall@100", "auc", "served share in top 100")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench_negatives.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("log", type=Path, metavar="PATH", help="folder of KuaiRand's files")
    parser.add_argument(
        "--last-day", type=date.fromisoformat, metavar="D", help="stop the log after this day"
    )
    parser.add_argument("--hold-out", type=int, default=2, metavar="N", help="days to evaluate on (2)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of every arm (3)")
    parser.add_argument("--hard-weight", default="3000", help="of a draw in the two '+ 2' arms (3000)")
    parser.add_argument(
        "--set", action="append", default=["data.batch_size=256"], help="option of training, for all arms"
    )
    return run_job(parser, compare)


def compare(arguments: argparse.Namespace) -> int:
    silence_libraries()
    with tempfile.TemporaryDirectory() as folder:
        logs, days = Path(folder) / "logs", Path(folder) / "days"
        import_kuairand(arguments.log, logs)
        mined = _mine(logs, days, arguments)
        vocabulary = Vocabulary.read(str(days))
        with process_group("cpu"):
            held_out = read_held_out([mined["filtered"]], [mined["held out"]], vocabulary)
            _show(held_out, vocabulary, mined, arguments)
    return 0


def _mine(logs: Path, days: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """Folders of the days that were mined, by what they are for; and the vocabulary beside them."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    times = pc.min_max(ds.dataset(logs / "impressions").to_table(["served_at"])["served_at"]).as_py()
    last_day = arguments.last_day or times["max"].date()
    first_held_out = last_day - timedelta(days=arguments.hold_out - 1)
    num_days = (first_held_out - times["min"].date()).days
    begins = datetime(first_held_out.year, first_held_out.month, first_held_out.day, tzinfo=UTC)
    tables = [f"input.{name}.path={logs}/{name}" for name in ("impressions", "engagements", "ads")]
    plans = {
        "filtered": (first_held_out - timedelta(days=1), num_days, begins, ()),
        "naive": (first_held_out - timedelta(days=1), num_days, begins, SERVED_NOT_ENGAGED),
        "held out": (last_day, arguments.hold_out, begins + timedelta(days=30), SERVED_NOT_ENGAGED),
    }
    found = {}
    base = load_config(None, ["mining.num_buckets=8"])
    with session_when_needed(base.spark, "bench_negatives", debug=arguments.debug) as get_spark:
        for name, (day, count, as_of, rules) in plans.items():
            out = days / name.replace(" ", "_")
            config = load_config(None, ["mining.num_buckets=8", f"output.path={out}", *tables, *rules])
            result = mine(config, day, count, as_of, get_spark, as_of_given=True)
            found[name] = result.uri
            negatives = result.manifest.num_negatives
            print(
                f"{name}: {count} days to {day}, {result.manifest.num_positives:,} positives, {negatives:,} negatives"
            )
        vocabulary = build_vocabulary(
            base,
            [found["filtered"]],
            load_config(None, tables).input.ads,
            get_spark,
            features=["advertiser_id", "category_id"],
            num_user_rows=65_536,
        )
    vocabulary.write(str(days))
    return found


def _show(
    held_out: HeldOut, vocabulary: Vocabulary, mined: dict[str, str], arguments: argparse.Namespace
) -> None:
    print(
        f"{len(held_out):,} users of the held-out days, {int(held_out.is_new.sum()):,} of them new; "
        f"{vocabulary.num_rows - 1:,} ads; means of {arguments.seeds} seeds, 95 % intervals over users\n"
    )
    print(f"{'arm':<34}" + "".join(f"{name:>28}" for name in SHOWN))
    first: dict[str, np.ndarray] | None = None
    for arm, (negatives, options) in ARMS.items():
        overrides = [*arguments.set, *(option.format(weight=arguments.hard_weight) for option in options)]
        runs = [
            _train(mined[negatives], overrides, seed, held_out, vocabulary) for seed in range(arguments.seeds)
        ]
        values = {name: np.mean([run[name] for run in runs], axis=0) for name in SHOWN}
        cells = [
            f"{found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]" if found else "–"
            for found in estimates(values).values()
        ]
        print(f"{arm:<34}" + "".join(f"{cell:>28}" for cell in cells))
        spread = [
            np.std([np.nanmean(run[name]) for run in runs], ddof=1) if len(runs) > 1 else 0.0
            for name in SHOWN
        ]
        print(f"{'  between seeds, ±':<34}" + "".join(f"{value:>28.4f}" for value in spread))
        if first is None:
            first = values
            continue
        differences = estimates({name: values[name] - first[name] for name in SHOWN})
        cells = [
            f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]" if found else "–"
            for found in differences.values()
        ]
        print(f"{'  less the first arm':<34}" + "".join(f"{cell:>28}" for cell in cells), flush=True)


def _train(
    day: str, overrides: list[str], seed: int, held_out: HeldOut, vocabulary: Vocabulary
) -> dict[str, np.ndarray]:
    """The numbers of every user after one run."""
    settings = ["checkpoints.every_steps=1000000", "log_every_steps=1000000", f"seed={seed}", *overrides]
    options = load_config(None, [f"training.{setting}" for setting in settings]).training
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as out:
        facts = {"vocabulary": {"uri": "", "version": vocabulary.version}, "days": [day]}
        run = Run(options, [day], vocabulary, out, device, facts=facts)
        run.train()
        towers = run.step_model.towers.eval()
        users, ads = embed_users(towers, held_out, device), embed_ads(towers, vocabulary, device)
    return measure(users, ads, held_out, vocabulary)


if __name__ == "__main__":
    sys.exit(main())
