"""Command line of the mining job: runs the job and prints the ledger."""

from __future__ import annotations

import argparse

from scrollpast.config import load_config
from scrollpast.mining.gate.held_days import day_uri, release
from scrollpast.mining.io.arguments import parse_days, with_paths
from scrollpast.mining.pipeline import DayHeld, MinedDay
from scrollpast.mining.pipeline import mine as mine_day
from scrollpast.mining.spark.run_metrics import watch
from scrollpast.mining.spark.session import session_when_needed
from scrollpast.outcomes import Outcome


def mine(arguments: argparse.Namespace) -> int:
    """Run the job with the given arguments and print the ledger; returns the exit code."""
    last_day, as_of = parse_days(arguments)
    config = with_paths(load_config(arguments.config, arguments.set), arguments)
    if arguments.release:
        released = release(config, last_day, overwrite=arguments.overwrite)
        print(summary(MinedDay(day_uri(config, last_day), released, is_new=True)))
        return 0
    application = f"scrollpast mine {last_day}"
    with (
        watch(config.metrics, "mine_negatives") as run,
        session_when_needed(config.spark, application, debug=arguments.debug) as get_spark,
    ):
        try:
            mined = mine_day(
                config,
                last_day,
                arguments.days,
                as_of,
                get_spark,
                overwrite=arguments.overwrite,
                as_of_given=arguments.as_of is not None,
            )
        except DayHeld as held:
            run.day(held.mined.manifest, held.mined.uri, is_new=True)
            print(summary(held.mined, "held"))
            raise
        run.day(mined.manifest, mined.uri, is_new=mined.is_new)
    print(summary(mined))
    return 0


def summary(mined: MinedDay, done: str = "published") -> str:
    """Summary of a run: the ledger with shares, the written files, the place of the day."""
    manifest = mined.manifest
    total = sum(manifest.ledger.values())
    lines = [f"{'outcome':<18}{'impressions':>15}  {'share':>7}  meaning"]
    for outcome in Outcome:
        count = manifest.ledger.get(outcome.label, 0)
        lines.append(f"{outcome.label:<18}{count:>15,}  {count / max(total, 1):>7.2%}  {outcome.meaning}")
    lines.append(f"{'total':<18}{total:>15,}  {1:>7.2%}  every impression of the window, once")
    num_bytes = sum(entry.num_bytes for entry in manifest.shards)
    per_positive = manifest.num_negatives / max(manifest.num_positives, 1)
    lines += [
        "",
        (
            f"{manifest.num_records:,} records (users) with {manifest.num_positives:,} positives and "
            f"{manifest.num_negatives:,} negatives ({per_positive:.1f} a positive) "
            f"in {len(manifest.shards):,} shards, {num_bytes / 2**20:,.1f} MiB"
        ),
    ]
    lines += [f"note: {warning}" for warning in mined.warnings]
    verb = done if mined.is_new else "already published from the same input; nothing was done:"
    lines.append(f"{verb} {mined.uri}/manifest.json")
    return "\n".join(lines)
