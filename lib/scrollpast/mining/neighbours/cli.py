"""Command line of the neighbour job: runs the job and prints the ledger of candidates."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from scrollpast.config import Neighbours, load_config
from scrollpast.mining.neighbours.coverage import Search
from scrollpast.mining.neighbours.days import DayWithNeighbours, mine_days
from scrollpast.mining.neighbours.inputs import Towers
from scrollpast.mining.neighbours.outcomes import CandidateOutcome
from scrollpast.mining.neighbours.publication import RECORDS, WITHOUT
from scrollpast.mining.neighbours.shard_tasks import OpenRetriever
from scrollpast.mining.spark.run_metrics import watch
from scrollpast.mining.spark.session import session_when_needed


def mine(
    arguments: argparse.Namespace, read_export: Callable[[str], Towers], open_retriever: OpenRetriever
) -> int:
    """Run the job with the given arguments and print its ledger; returns the exit code.

    Args:
        read_export: reads an export's description by its URI; runs on the driver.
        open_retriever: opens the export with its index; runs on the workers.
    """
    config = load_config(arguments.config, arguments.set)
    with (
        watch(config.metrics, "mine_neighbours") as run,
        session_when_needed(config.spark, "scrollpast neighbours", debug=arguments.debug) as get_spark,
    ):
        done = mine_days(
            config,
            arguments.days,
            arguments.out,
            read_export(arguments.towers),
            open_retriever,
            get_spark,
            engaged_in=arguments.engaged_in,
            sample=arguments.sample,
            overwrite=arguments.overwrite,
        )
        for day in done:
            run.day(day.manifest, day.uri, is_new=day.is_new)
    print(summary(done, config.neighbours))
    return 0


def summary(done: Sequence[DayWithNeighbours], options: Neighbours) -> str:
    """Summary of a run: the ledger of all days, the number of searched records, and the URIs of the days."""
    manifests = [day.manifest for day in done]
    total = sum(sum(manifest.ledger.values()) for manifest in manifests)
    lines = [f"{'outcome':<14}{'candidates':>15}  {'share':>7}  meaning"]
    for outcome in CandidateOutcome:
        count = sum(manifest.ledger[outcome.label] for manifest in manifests)
        lines.append(f"{outcome.label:<14}{count:>15,}  {count / max(total, 1):>7.2%}  {outcome.meaning}")
    ranks = f"ads of ranks {options.first_rank:,} to {options.last_rank:,}, for every searched user"
    lines.append(f"{'total':<14}{total:>15,}  {1:>7.2%}  {ranks}")
    asked, unplaced, left_out = (
        sum(manifest.input["records"][name] for manifest in manifests) for name in RECORDS
    )
    without = sum(manifest.input.get(WITHOUT, 0) for manifest in manifests)
    kept = sum(manifest.ledger[CandidateOutcome.KEPT.label] for manifest in manifests)
    lines += [
        "",
        f"{asked:,} records searched, {kept / max(asked, 1):.1f} neighbours each",
        f"{without:,} of these users got no neighbour ({without / max(asked, 1):.1%})",
        f"{unplaced:,} records without a positive in the towers' vocabulary, {left_out:,} not in the sample",
    ]
    searches = [Search(**found) for manifest in manifests if (found := manifest.input.get("search"))]
    lines += dict.fromkeys(map(str, searches))
    for day in done:
        verb = "published" if day.is_new else "already published from the same input; nothing was done:"
        lines.append(f"{verb} {day.uri}/manifest.json")
    return "\n".join(lines)
