#!/usr/bin/env python3
"""Compare the estimates of examination with the curve that a simulated log was made with.

One large log gives the error of each estimator. Many small logs, split by user from a second log, give the share of
intervals that hold the truth. The job's own code counts both in Spark.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scripts.bench.benchmarking import RESULTS, save

from scrollpast.argument_types import number, whole_number
from scrollpast.cli_runner import run_job
from scrollpast.config import Config, load_config
from scrollpast.mining.examination.counts import SurfaceCounts
from scrollpast.mining.examination.estimates import Estimate, estimate_surface
from scrollpast.mining.examination.estimation import count_examination
from scrollpast.mining.examination.table import Floats, read_examination
from scrollpast.mining.rules.rules import Window
from scrollpast.mining.spark.session import spark_session
from scrollpast.simulation.log import LogRequest, simulate_log
from scrollpast.simulation.shape import shape_from

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NUM_DAYS = 7
LAST_DAY = datetime(2026, 11, 20, tzinfo=UTC)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench_examination.py", description=__doc__)
    parser.add_argument(
        "--rows",
        type=whole_number(1),
        default=10_000_000,
        metavar="N",
        help="impressions of the large log (1e7)",
    )
    parser.add_argument("--runs", type=whole_number(1), default=200, metavar="N", help="small logs (200)")
    parser.add_argument(
        "--small", type=whole_number(1), default=100_000, metavar="N", help="impressions of a small log (1e5)"
    )
    parser.add_argument(
        "--random", type=number(0, 1), default=0.02, metavar="P", help="share of random slots (0.02)"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of the tables (scripts/bench/results)"
    )
    return run_job(parser, measure)


def measure(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="scrollpast-examination-") as name:
        config = load_config(None, ["mining.score_column=ranker_score"])
        with spark_session(config.spark, "bench_examination", debug=arguments.debug) as spark:
            large, truth = _observe(spark, config, Path(name) / "large", arguments.rows, 1, arguments, seed=1)
            rows = arguments.small * arguments.runs
            small, _ = _observe(spark, config, Path(name) / "small", rows, arguments.runs, arguments, seed=2)
    errors = _errors(large, truth, config)
    coverage = _coverage(small, truth, config, arguments.runs)
    table = _table(errors, coverage, arguments)
    print(table)
    figures = {"errors": errors, "coverage": coverage}
    save(arguments.results, f"examination_{arguments.random:g}_random", table, figures)
    return 0


def _observe(
    spark: SparkSession, config: Config, folder: Path, num_rows: float, num_runs: int, arguments: argparse.Namespace,
    *, seed: int,
) -> tuple[dict[str, SurfaceCounts], Mapping[str, Floats]]:  # fmt: skip
    shape = shape_from([f"random_slot_share={arguments.random}"])
    simulate_log(LogRequest(int(num_rows), NUM_DAYS, LAST_DAY.date(), seed, shape), folder, num_processes=2)
    tables = {name: {"path": str(folder / name)} for name in ("impressions", "engagements")}
    settings = config.model_dump() | {"input": tables}
    settings["examination"]["num_groups"] *= num_runs
    window = Window.of_days(LAST_DAY.date(), NUM_DAYS, LAST_DAY + timedelta(days=8))
    counts = count_examination(Config.model_validate(settings), window, lambda: spark)
    return counts, read_examination(str(folder / "truth_examination"))


def _errors(
    counts: Mapping[str, SurfaceCounts], truth: Mapping[str, Floats], config: Config
) -> dict[str, dict[str, float]]:
    """The mean of |estimate / truth - 1| over positions, by estimator and surface."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for surface, own in counts.items():
        result = estimate_surface(surface, own, config.examination)
        for name, one in result.estimates.items():
            found[name][surface] = float(np.abs(one.probability / truth[surface][one.positions] - 1).mean())
        if result.chosen is not None:
            found["the one used"][surface] = found[result.chosen][surface]
    return {
        name: {**by_surface, "mean": float(np.mean(list(by_surface.values())))}
        for name, by_surface in found.items()
    }


def _coverage(
    counts: Mapping[str, SurfaceCounts], truth: Mapping[str, Floats], config: Config, num_runs: int
) -> dict[str, dict[str, float]]:
    """The share of intervals that hold the truth, over positions and runs, by estimator and surface."""
    held: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    groups_a_run = config.examination.num_groups
    for surface, own in counts.items():
        for run in range(num_runs):
            groups = slice(run * groups_a_run, (run + 1) * groups_a_run)
            result = estimate_surface(surface, own.of_groups(groups), config.examination)
            for name, one in result.estimates.items():
                hits = _are_held(one, truth[surface])
                held[name][surface] += hits
                if name == result.chosen:
                    held["the one used"][surface] += hits
    return {
        name: {
            **{surface: float(np.mean(hits)) for surface, hits in by_surface.items()},
            "mean": float(np.mean([hit for hits in by_surface.values() for hit in hits])),
            "intervals": float(sum(len(hits) for hits in by_surface.values())),
        }
        for name, by_surface in held.items()
    }


def _are_held(one: Estimate, truth: Floats) -> list[bool]:
    planted = truth[one.positions]
    hits: list[bool] = ((one.low <= planted) & (planted <= one.high)).tolist()
    return hits


def _table(
    errors: Mapping[str, Mapping[str, float]],
    coverage: Mapping[str, Mapping[str, float]],
    arguments: argparse.Namespace,
) -> str:
    surfaces = sorted({s for by_surface in errors.values() for s in by_surface} - {"mean"})

    def block(
        title: str, found: Mapping[str, Mapping[str, float]], show: Callable[[float], str]
    ) -> list[str]:
        lines = [f"{title:<44}" + "".join(f"{name:>10}" for name in (*surfaces, "mean"))]
        for name, values in found.items():
            cells = (show(values[at]) if at in values else "abstains" for at in (*surfaces, "mean"))
            lines.append(f"  {name:<42}" + "".join(f"{cell:>10}" for cell in cells))
        return lines

    return "\n".join(
        [
            f"{arguments.random:.0%} of the slots random",
            "",
            *block(
                f"mean relative error, {arguments.rows:,.0f} impressions",
                errors,
                lambda value: f"{value:.1%}",
            ),
            "",
            *block(
                f"95 % intervals that hold, {arguments.runs} × {arguments.small:,.0f}",
                coverage,
                lambda value: f"{value:.1%}",
            ),
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
