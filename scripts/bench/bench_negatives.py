#!/usr/bin/env python3
"""Effect of negatives on KuaiRand: five arms that differ only in their negatives, three seeds.

Trains on all days but the last --hold-out days, evaluates on the last, and prints the tables of
jobs/compare_negatives.py and of README.md. The job's own code mines both parts. Training days are mined as of the
start of the held-out days. The held-out days are mined by the naive rules: every ad served and not engaged with.

--last-day D stops the log after D. Options were chosen with --last-day 2022-04-28 --hold-out 1. The figures of the
documentation are from --hold-out 2, whose days no choice used. With --out DIR a run that was stopped resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scripts.bench.benchmarking import ROOT

from scrollpast.argument_types import day, number, whole_number
from scrollpast.cli_runner import run_job
from scrollpast.config import Config, load_config
from scrollpast.importing.kuairand import import_kuairand
from scrollpast.mining.pipeline import mine
from scrollpast.mining.spark.session import session_when_needed
from scrollpast.mining.vocabulary.build import build_vocabulary
from scrollpast.training.comparison.cli import run_comparison
from scrollpast.training.comparison.table import ComparisonTable
from scrollpast.training.comparison.verdicts import Judged
from scrollpast.training.engine.console import silence_libraries
from scrollpast.training.engine.distributed import process_group

NAIVE = str(ROOT / "conf" / "naive.yaml")
BASELINE = "in_batch"
TITLES = {
    BASELINE: "in-batch only",
    "two_naive@2": "+ 2 naive served",
    "two_weighted@2": "+ 2 filtered and weighted",
    "weighted@2": "defaults: in-batch, random, hard",
    "hard_only@2": "hard only",
}
"""Arms of the table, with their names in README.md."""
METRICS = ["recall@10", "recall@100", "auc", "served share in top 100"]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench_negatives.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("log", type=Path, metavar="PATH", help="folder of KuaiRand's files")
    parser.add_argument("--last-day", type=day, metavar="D", help="stop the log after this day")
    parser.add_argument(
        "--hold-out", type=whole_number(1), default=2, metavar="N", help="days to evaluate on (2)"
    )
    parser.add_argument(
        "--seeds", type=whole_number(1), default=3, metavar="N", help="seeds of every arm (3)"
    )
    parser.add_argument(
        "--hard-weight",
        type=number(1e-6, 1e6),
        default=3000,
        help="weight of a draw in the two '+ 2' arms (3000)",
    )
    parser.add_argument(
        "--set", action="append", default=["data.batch_size=256"], help="option of training, for all arms"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep logs, days, runs and the table there")
    return run_job(parser, compare)


def compare(arguments: argparse.Namespace) -> int:
    silence_libraries()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        if not (folder / "logs").exists():
            import_kuairand(arguments.log, folder / "logs")
        mined = _mine(folder, arguments)
        with process_group("cpu") as device:
            table = run_comparison(_configuration(folder, mined, arguments), device)
    if table is None:
        return 143
    print(f"\n{table.text()}\n{_markdown(table)}")
    return 0


def _mine(folder: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """Folders of the mined days by purpose, and the URI of their vocabulary."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    logs = folder / "logs"
    times = pc.min_max(ds.dataset(logs / "impressions").to_table(["served_at"])["served_at"]).as_py()
    last_day = arguments.last_day or times["max"].date()
    first_held_out = last_day - timedelta(days=arguments.hold_out - 1)
    num_days = (first_held_out - times["min"].date()).days
    begins = datetime(first_held_out.year, first_held_out.month, first_held_out.day, tzinfo=UTC)
    tables = [f"input.{name}.path={logs}/{name}" for name in ("impressions", "engagements", "ads")]
    plans = {
        "filtered": (first_held_out - timedelta(days=1), num_days, begins, None),
        "naive": (first_held_out - timedelta(days=1), num_days, begins, NAIVE),
        "held out": (last_day, arguments.hold_out, begins + timedelta(days=30), NAIVE),
    }
    found = {}
    base = load_config(None, ["mining.num_buckets=8"])
    with session_when_needed(base.spark, "bench_negatives", debug=arguments.debug) as get_spark:
        for name, (day, count, as_of, rules) in plans.items():
            out = folder / "days" / name.replace(" ", "_")
            config = load_config(rules, ["mining.num_buckets=8", f"output.path={out}", *tables])
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
    found["vocabulary"] = vocabulary.write(str(folder / "days"))
    return found


def _configuration(folder: Path, mined: dict[str, str], arguments: argparse.Namespace) -> Config:
    """Configuration of the comparison: built-in arms, and arms without random ads that count each draw once."""
    no_random = {"random": {"enabled": False}}
    counted_once = {"log_q": "none", "weight": arguments.hard_weight, "sample_by_weight": True}
    two = {"negatives": {**no_random, "hard": counted_once}}
    own_arms = {
        "two_naive": {"like": "naive", "training": two},
        "two_weighted": {"like": "weighted", "training": two},
        "hard_only": {
            "like": "weighted",
            "training": {"negatives": {**no_random, "in_batch": {"enabled": False}}},
        },
    }
    comparison = {
        "path": str(folder / "comparison"),
        "arms": sorted({cell.partition("@")[0] for cell in TITLES}),
        "own_arms": own_arms,
        "ratios": [2],
        "seeds": list(range(arguments.seeds)),
        "baseline": BASELINE,
        "days": {name: [mined[name]] for name in ("filtered", "naive")},
        "evaluation_days": [mined["held out"]],
        "metrics": METRICS,
    }
    training = ["checkpoints.every_steps=1000000", "log_every_steps=1000000", *arguments.set]
    return load_config(
        None,
        [
            f"training.vocabulary={mined['vocabulary']}",
            *(f"training.{setting}" for setting in training),
            f"comparison={json.dumps(comparison)}",
        ],
    )


def _markdown(table: ComparisonTable) -> str:
    """The README's table: two metrics, and their differences with the intervals that hold for all at once."""
    lines = [
        "| negatives | recall@100 | difference | per-user AUC | difference |",
        "| --- |" + " --- |" * 4,
    ]
    for name, title in TITLES.items():
        cells = [cell for metric in ("recall@100", "auc") for cell in _shown(table.judged[name, metric])]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(judged: Judged | None) -> tuple[str, str]:
    if judged is None:
        return "–", ""
    if (difference := judged.difference) is None:
        return f"{judged.value:.4f}", ""
    low, high = difference.joint_interval.low, difference.joint_interval.high
    return f"{judged.value:.4f}", f"{difference.value:+.4f} [{low:+.4f}, {high:+.4f}]".replace("-", "−")


if __name__ == "__main__":
    sys.exit(main())
