#!/usr/bin/env python3
"""Compare mined negatives with the truth of a simulated log: number and share of ads that the user wanted.

Arms: naive (served and not engaged with), the rules one by one, and the defaults. All arms read the same logs
with the same caps, so that only the rules differ. A false negative is a mined negative whose ad the user
wanted; the yield is the number of negatives over that of the naive arm.

An arm that keeps more negatives is often less pure. A second table therefore compares arms at equal yields: any naive
negatives, naive negatives at the first positions, and the default negatives of the largest weights, without and with
a table of examination from the same log. A negative is pure if the user looked at the ad and did not want it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scripts.bench.benchmarking import RESULTS, save, seeds

from scrollpast.argument_types import number, whole_number
from scrollpast.cli_runner import run_job
from scrollpast.config import load_config
from scrollpast.errors import UserError
from scrollpast.hashing import ID_MASK, hash_column, integers, xxhash64
from scrollpast.mining.examination.estimates import estimate_surface
from scrollpast.mining.examination.estimation import count_examination
from scrollpast.mining.examination.publication import publish
from scrollpast.mining.pipeline import mine
from scrollpast.mining.rules.rules import Window
from scrollpast.mining.spark.session import spark_session
from scrollpast.shards.manifest import read_manifest
from scrollpast.shards.reader import ShardReader
from scrollpast.simulation.log import LogRequest, simulate_log
from scrollpast.simulation.shape import shape_from

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NO_RULES = {
    "guard.before_h": "0",
    "guard.after_h": "0",
    "maturity_h": "0",
    "examined.min_dwell_ms": "0",
    "examined.max_dwell_ms": "null",
    "max_impressions_per_user_day": "1000000000",
}
ARMS: dict[str, tuple[str, ...]] = {
    "naive: served, not engaged": (),
    "+ bots out": ("max_impressions_per_user_day",),
    "+ guard only": ("guard.before_h", "guard.after_h"),
    "+ short dwell out only": ("examined.min_dwell_ms",),
    "+ long dwell out only": ("examined.max_dwell_ms",),
    "defaults: all rules": tuple(NO_RULES),
}
"""Each arm and the options of NO_RULES that it leaves at their defaults."""
NAIVE, DEFAULTS = next(iter(ARMS)), list(ARMS)[-1]
YIELDS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of the number of the naive arm's negatives."""


@dataclass(frozen=True)
class Mined:
    """The served negatives of a day, arrays [N], with the simulation's truth."""

    position: np.ndarray
    weight: np.ndarray
    is_wanted: np.ndarray
    is_examined: np.ndarray

    @property
    def num_negatives(self) -> int:
        return len(self.weight)

    @property
    def num_false(self) -> int:
        return int(self.is_wanted.sum())

    @property
    def false_share(self) -> float:
        return self.num_false / max(self.num_negatives, 1)

    def purity(self, order: np.ndarray, count: float) -> float:
        """Share of pure negatives among the first ``count`` in ascending ``order``; ties count by their mean."""
        pure = (self.is_examined & ~self.is_wanted)[np.argsort(order, kind="stable")]
        _, starts, sizes = np.unique(np.sort(order), return_index=True, return_counts=True)
        means = np.add.reduceat(pure, starts, dtype=np.float64) / sizes
        return float(np.minimum(np.maximum(count - starts, 0), sizes) @ means / count)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench_quality.py", description=__doc__)
    parser.add_argument(
        "--rows", type=whole_number(1), default=2_000_000, metavar="N", help="impressions of a log (2e6)"
    )
    parser.add_argument("--days", type=whole_number(1), default=3, metavar="D", help="days of a log (3)")
    parser.add_argument("--seeds", type=seeds, default="1,2,3", metavar="S,S", help="one log a seed (1,2,3)")
    parser.add_argument(
        "--wait-days", type=number(0, 3650), default=3, help="days from the last day to the run (3)"
    )
    parser.add_argument("--set", action="append", default=[], help="option of mining, for all arms")
    parser.add_argument("--shape", action="append", default=[], help="parameter of the simulation")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of the tables (scripts/bench/results)"
    )
    return run_job(parser, compare)


def compare(arguments: argparse.Namespace) -> int:
    last_day = datetime(2026, 11, 20, tzinfo=UTC)
    as_of = last_day + timedelta(days=1 + arguments.wait_days)
    found: dict[str, list[Mined]] = {arm: [] for arm in ARMS}
    examined: list[Mined] = []
    with (
        tempfile.TemporaryDirectory(prefix="scrollpast-quality-") as folder,
        spark_session(load_config(None).spark, "bench_quality", debug=arguments.debug) as spark,
    ):
        for seed in arguments.seeds:
            logs = Path(folder) / f"seed-{seed}"
            shape = shape_from(arguments.shape)
            request = LogRequest(arguments.rows, arguments.days, last_day.date(), seed, shape)
            simulate_log(request, logs, 2, False)
            truth = _truth(logs)
            for arm, kept in ARMS.items():
                dropped = [f"mining.{name}={value}" for name, value in NO_RULES.items() if name not in kept]
                overrides = [*dropped, *arguments.set]
                day = _mine(logs, arm, overrides, arguments.days, last_day, as_of, spark)
                found[arm].append(_judge(day, truth))
                print(f"seed {seed}, {arm}: {found[arm][-1].false_share:.2%} false", file=sys.stderr)
            table = _examination(logs, arguments.days, last_day, as_of, spark)
            overrides = [f"mining.examined.table={table}", *arguments.set]
            day = _mine(logs, "examination", overrides, arguments.days, last_day, as_of, spark)
            examined.append(_judge(day, truth))
    purity = purity_of(found[NAIVE], found[DEFAULTS], examined)
    table = f"{render(found)}\n\n{render_purity(purity)}\n"
    print(table)
    base = found[NAIVE]
    arms = {
        arm: {
            "num_negatives": round(median(run.num_negatives for run in runs)),
            "share_of_naive": median(
                a.num_negatives / b.num_negatives for a, b in zip(runs, base, strict=True)
            ),
            "false_share": median(run.false_share for run in runs),
        }
        for arm, runs in found.items()
    }
    about = {
        "num_logs": len(base),
        "num_rows": arguments.rows,
        "arms": arms,
        "yields": YIELDS,
        "purity": purity,
    }
    save(arguments.results, "quality", table, about)
    return 0


def _examination(logs: Path, days: int, last_day: datetime, as_of: datetime, spark: SparkSession) -> str:
    """Estimate the table of examination from the log; returns its folder."""
    config = load_config(
        None, [f"input.{name}.path={logs / name}" for name in ("impressions", "engagements")]
    )
    window = Window.of_days(last_day.date(), days, as_of)
    counts = count_examination(config, window, lambda: spark)
    surfaces = [estimate_surface(surface, own, config.examination) for surface, own in counts.items()]
    uri = publish(surfaces, config, window, last_day.date(), str(logs / "examination"))
    if uri is None:
        raise UserError(
            "--rows",
            expected="a log that gives an estimate of examination",
            found="too few clicks at a position",
            remedy="pass more rows",
        )
    return uri


def _mine(
    logs: Path,
    arm: str,
    overrides: list[str],
    days: int,
    last_day: datetime,
    as_of: datetime,
    spark: SparkSession,
) -> str:
    paths = [f"input.{name}.path={logs / name}" for name in ("impressions", "engagements", "ads")]
    out = logs / f"mined-{''.join(letter for letter in arm if letter.isalpha())}"
    # The gate is off: an arm without a rule must be published too.
    own = [f"output.path={out}", "mining.num_buckets=8", "gate.enabled=false"]
    config = load_config(None, [*paths, *own, *overrides])
    return mine(config, last_day.date(), days, as_of, lambda: spark).uri


def _truth(logs: Path) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A look-up by request hash and ad, int64 [N] each: bool arrays for "wanted the ad" and "looked at the ad"."""
    names = ["request_id", "ad_id", "is_relevant", "is_examined"]
    table = pq.read_table(logs / "truth", columns=names).combine_chunks()
    table = table.drop_null()
    key = _key(
        hash_column(table["request_id"].combine_chunks()) & ID_MASK, integers(table["ad_id"].combine_chunks())
    )
    order = np.argsort(key)
    key = key[order]
    wanted, examined = (table[name].to_numpy()[order] for name in names[2:])

    def look_up(request: np.ndarray, ad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked = _key(request, ad)
        at = np.searchsorted(key, asked)
        assert (key[np.minimum(at, len(key) - 1)] == asked).all(), "a negative that was never served"
        return wanted[at], examined[at]

    return look_up


def _key(request: np.ndarray, ad: np.ndarray) -> np.ndarray:
    return xxhash64(ad, request)


def _judge(day: str, truth: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Mined:
    served = read_manifest(day).kinds["served"]
    names = ["request_hash", "ad_id", "kind", "position", "weight"]
    table = pa.Table.from_batches(ShardReader([day], features=[f"negative_{name}" for name in names]))
    columns = {name: table[f"negative_{name}"].combine_chunks().flatten().to_numpy() for name in names}
    mined = {name: values[columns["kind"] == served] for name, values in columns.items()}
    return Mined(mined["position"], mined["weight"], *truth(mined["request_hash"], mined["ad_id"]))


def render(found: dict[str, list[Mined]]) -> str:
    """Table of medians over the seeds, each arm relative to the naive arm of the same seed."""
    lines = [
        f"{'arm':<28}{'negatives':>12}{'yield':>8}{'false':>9}{'share':>8}{'share ÷ naive':>15}{'fewer':>8}"
    ]
    for arm, runs in found.items():
        pairs = list(zip(runs, found[NAIVE], strict=True))
        kept = median(run.num_negatives / base.num_negatives for run, base in pairs)
        ratio = median(run.false_share / base.false_share for run, base in pairs)
        lines.append(
            f"{arm:<28}{median(run.num_negatives for run in runs):>12,.0f}{kept:>8.1%}"
            f"{median(run.num_false for run in runs):>9,.0f}{median(run.false_share for run in runs):>8.2%}"
            f"{ratio:>15.2f}{1 / ratio:>7.1f}x"
        )
    return "\n".join(lines)


def purity_of(
    naive: list[Mined], defaults: list[Mined], examined: list[Mined]
) -> dict[str, list[float | None]]:
    """Share of pure negatives at equal yields, medians over the seeds; None where an arm has too few negatives."""
    arms: dict[str, tuple[list[Mined], Callable[[Mined], np.ndarray]]] = {
        "naive: any": (naive, lambda mined: np.zeros(mined.num_negatives)),
        "naive: first positions": (naive, lambda mined: np.where(mined.position < 0, 2**31, mined.position)),
        "defaults: largest weights": (defaults, lambda mined: -mined.weight),
        "defaults, weighted by examination": (examined, lambda mined: -mined.weight),
    }
    found: dict[str, list[float | None]] = {}
    for arm, (runs, order) in arms.items():
        found[arm] = []
        for share in YIELDS:
            pairs = [(run, share * base.num_negatives) for run, base in zip(runs, naive, strict=True)]
            is_enough = all(count <= run.num_negatives for run, count in pairs)
            found[arm].append(
                median(run.purity(order(run), count) for run, count in pairs) if is_enough else None
            )
    return found


def render_purity(purity: dict[str, list[float | None]]) -> str:
    """Table of arms (lines) by yields (columns)."""
    lines = [f"{'pure negatives at a yield of':<36}" + "".join(f"{share:>8.0%}" for share in YIELDS)]
    for arm, values in purity.items():
        cells = ("–" if value is None else f"{value:.1%}" for value in values)
        lines.append(f"{arm:<36}" + "".join(f"{cell:>8}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
