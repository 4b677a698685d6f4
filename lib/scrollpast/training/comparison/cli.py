"""Command line of the comparison: trains and measures all arms, and prints a table with verdicts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.distributed as dist

from scrollpast.config import Config, load_config
from scrollpast.errors import UserError
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import day_folder
from scrollpast.shards.vocabulary_of_days import resolve_vocabulary
from scrollpast.training.cli import ENDED_BY_SIGTERM
from scrollpast.training.comparison.arms import plan
from scrollpast.training.comparison.baseline_results import (
    measured_baselines,
    refuse_own_arms_named_as_baselines,
)
from scrollpast.training.comparison.day_sets import parse_day_sets, read_day_sets
from scrollpast.training.comparison.execution import Execution, planned_runs, read_results
from scrollpast.training.comparison.results import Result
from scrollpast.training.comparison.table import JSON_NAME, About, ComparisonTable, lower_is_better, notes_of
from scrollpast.training.comparison.verdicts import judge
from scrollpast.training.engine.console import silence_libraries
from scrollpast.training.engine.distributed import process_group, raise_on_all_ranks
from scrollpast.training.evaluation.held_out import refuse_leaks
from scrollpast.training.evaluation.metric_registry import METRICS


def compare(arguments: argparse.Namespace) -> int:
    """Compare with the given arguments and print the table; returns the exit code."""
    if not arguments.debug:
        silence_libraries()
    with process_group() as device:
        with raise_on_all_ranks():
            config = load_config(arguments.config, [*arguments.set, *_overrides(arguments)])
        table = run_comparison(config, device)
        if table is None:
            if dist.get_rank() == 0:
                print("stopped by SIGTERM; the same command resumes the comparison")
            return ENDED_BY_SIGTERM
        if dist.get_rank() == 0:
            out = str(config.comparison.path)
            print(f"\n{table.text()}\nwrote {files.join(out, JSON_NAME)}, and the same as .parquet and .txt")
    return 0


def run_comparison(config: Config, device: torch.device) -> ComparisonTable | None:
    """Finish a comparison, and write its table. All ranks call this function together.

    Returns:
        The table on every rank; None after SIGTERM.

    Raises:
        UserError, CorruptShardError: the configuration, days or vocabulary are invalid; raised before any training.
        ScrollpastError: a run failed; the results of earlier runs stay.
    """
    options, training = config.comparison, config.training
    with raise_on_all_ranks():
        if options.path is None:
            raise UserError(
                "--out", expected="a folder", found="none", remedy="pass --out or set comparison.path"
            )
        for metric in options.metrics:
            METRICS.find(metric, "comparison.metrics")
        days = read_day_sets(options)
        planned = plan(options, days.sets)
        refuse_own_arms_named_as_baselines(options)
        vocabulary, vocabulary_uri = resolve_vocabulary(days.every_day, training.vocabulary)
        refuse_leaks(days.every_day, days.evaluation, vocabulary)
        _refuse_choosing_on_what_is_measured(config, days.evaluation)
        runs = planned_runs(planned, training, options, days, vocabulary, options.path)
        for skipped in planned.skipped if dist.get_rank() == 0 else ():
            print(f"skipped: {skipped.arm}: {skipped.reason}", flush=True)
    if not Execution(options, days, vocabulary, vocabulary_uri, device).finish(runs):
        return None
    baselines, baseline_notes = measured_baselines(options, training, days, vocabulary, options.path)
    with raise_on_all_ranks():
        results = read_results(runs)
        of_cells: dict[str, list[Result]] = {}
        for run, result in zip(runs, results, strict=True):
            of_cells.setdefault(run.cell.name, []).append(result)
        of_cells |= {name: [result] * len(options.seeds) for name, result in baselines.items()}
        judged = judge(
            {
                (name, metric): np.stack([result.numbers[metric] for result in found])
                for name, found in of_cells.items()
                for metric in options.metrics
            },
            planned.baseline.name,
            lower_is_better(),
            untrained=frozenset(baselines),
        )
        about = About(
            seeds=sorted(options.seeds),
            num_users=len(results[0].user_id),
            num_new_users=results[0].facts["num_new_users"],
            num_ads=results[0].facts["num_ads"],
            days={name: [files.absolute(day) for day in found] for name, found in days.sets.items()},
            evaluated_on=[files.absolute(day) for day in days.evaluation],
            vocabulary=vocabulary.version,
            notes=[
                *days.notes,
                *baseline_notes,
                *notes_of(judged, len(options.seeds), num_ads=results[0].facts["num_ads"]),
            ],
            baselines=list(baselines),
        )
        table = ComparisonTable(planned, options.metrics, judged, about)
        if dist.get_rank() == 0:
            table.write(options.path)
    return table


def _overrides(arguments: argparse.Namespace) -> Iterator[str]:
    """Overrides of the command line as ``--set`` texts."""
    named = {
        "path": arguments.out,
        "arms": arguments.arms,
        "ratios": arguments.ratios,
        "seeds": arguments.seeds,
        "baseline": arguments.baseline,
        "days": parse_day_sets(arguments.days),
        "evaluation_days": arguments.evaluate,
    }
    for name, value in named.items():
        if value:
            yield f"comparison.{name}={json.dumps(value)}"


def _refuse_choosing_on_what_is_measured(config: Config, evaluation: Sequence[str]) -> None:
    chosen_on = [files.resolve(day_folder(day)) for day in config.training.evaluation.days]
    for day in evaluation:
        if files.resolve(day) in chosen_on:
            raise UserError(
                "training.evaluation.days",
                expected="days other than the comparison's evaluation days",
                found=day,
                remedy="remove the day from one of the two options: a choice made on a day biases its metrics",
            )
