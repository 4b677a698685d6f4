"""The command line of the estimation: a log in, the table of examination and what it rests on out."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from scrollpast.config import Config, load_config
from scrollpast.errors import UserError
from scrollpast.mining.examination.counts import SurfaceCounts
from scrollpast.mining.examination.dwell import bin_middles
from scrollpast.mining.examination.estimates import Estimate, SurfaceEstimate, estimate_surface
from scrollpast.mining.examination.observation import observe
from scrollpast.mining.examination.table import PROBABILITY, write_examination
from scrollpast.mining.io.arguments import parse_days, with_paths
from scrollpast.mining.io.contracts import (
    BOOLEAN,
    ENGAGED_AT,
    ENGAGEMENTS,
    IMPRESSIONS,
    IS_RANDOM,
    NULLABLE_NUMBER,
    POSITION,
    REQUEST_ID,
    SERVED_AT,
    SURFACE,
    TEXT,
    TableContract,
)
from scrollpast.mining.io.sources import Source, as_frame, open_source
from scrollpast.mining.rules.rules import Rules, Window
from scrollpast.mining.spark.map_in_arrow import TimeRange
from scrollpast.mining.spark.progress import progress
from scrollpast.mining.spark.run_metrics import watch
from scrollpast.mining.spark.session import session_when_needed
from scrollpast.shards import filesystem

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_SHOWN_POSITIONS = (0, 1, 2, 4, 9, 19, 29, 49, 99)


def estimate(arguments: argparse.Namespace) -> int:
    """Run the job as its command line says and print what was found; returns the exit code."""
    last_day, as_of = parse_days(arguments)
    window = Window.of_days(last_day, arguments.days, as_of)
    config = with_paths(load_config(arguments.config, arguments.set), arguments)
    if config.output.path is None:
        raise UserError("--out", expected="a folder", found="none", remedy="pass --out or set output.path")
    with (
        watch(config.watching, "estimate_examination"),
        session_when_needed(config.spark, "scrollpast examination", debug=arguments.debug) as get_spark,
    ):
        counts = count_examination(config, window, get_spark)
    surfaces = [estimate_surface(surface, found, config.examination) for surface, found in counts.items()]
    folder = filesystem.join(config.output.path, "examination", f"ds={last_day.isoformat()}")
    uri = publish(surfaces, config, window, last_day, folder)
    print(summary(surfaces))
    if uri is None:
        print("no surface could be estimated: no table was written, and every position counts as looked at")
    else:
        option = shlex.quote(f"mining.examined.table={uri}")
        print(f"published {uri}; mine with --set {option}")
    return 0


def count_examination(
    config: Config, window: Window, get_spark: Callable[[], SparkSession]
) -> dict[str, SurfaceCounts]:
    """Count what the estimators need of a window of a log, surface by surface.

    Raises:
        UserError: the input or the configuration is not what it should be, or no impression counts.
    """
    rules = Rules.of(config.mining, window)
    (impressions, shown), (engagements, engaged) = _open_inputs(config, rules, get_spark)
    spark = get_spark()
    for note in (*impressions.notes, *engagements.notes):
        print(f"note: {note}")
    frame = as_frame(impressions, spark, shown)
    with progress(spark, "count clicks by position"):
        found = observe(frame, as_frame(engagements, spark, engaged), rules, config.examination)
    if not found:
        raise _no_impressions(impressions, frame, rules)
    return found


def _no_impressions(source: Source, frame: DataFrame, rules: Rules) -> UserError:
    """The error for a window without an impression that counts, by the first condition that leaves none."""
    from pyspark.sql import functions as sql

    served_us = sql.unix_micros(SERVED_AT)
    in_window = frame.where(served_us.between(rules.window.start_us, rules.window.end_us - 1))
    final = served_us <= rules.window.as_of_us - rules.maturity_us
    num_in_window, num_placed, num_final = in_window.agg(
        sql.count("*"), sql.count(POSITION), sql.count(sql.when(final, POSITION))
    ).first() or (0, 0, 0)
    if num_in_window and not num_placed:
        expected, found = "impressions with a position", f"{num_in_window:,} in the window, none with one"
        remedy = (
            "log the position; without it nothing can be estimated, and every position counts as examined"
        )
    elif num_placed and not num_final:
        expected, found = "impressions whose labels are final", f"{num_placed:,} in the window, none final"
        remedy = (
            "choose a later --as-of: an impression counts when its longest attribution window (mining.maturity_h) "
            "is over"
        )
    else:
        expected, found = "impressions in the window", f"{num_in_window:,} usable"
        remedy = "check --date and --days, and that the log of these days has arrived"
    return UserError(f"impressions ({source.place})", expected=expected, found=found, remedy=remedy)


def _open_inputs(
    config: Config, rules: Rules, get_spark: Callable[[], SparkSession]
) -> list[tuple[Source, TableContract]]:
    score = [(rules.score_column, NULLABLE_NUMBER)] if rules.score_column else []
    contract = TableContract(
        "impressions", IMPRESSIONS.required, {SURFACE: TEXT, IS_RANDOM: BOOLEAN}
    ).extended(score)
    served = TimeRange(SERVED_AT, rules.window.start_us, rules.window.end_us - 1)
    engaged = TimeRange(ENGAGED_AT, rules.engagements_from_us, rules.engagements_to_us)
    wanted = ((config.input.impressions, contract, served), (config.input.engagements, ENGAGEMENTS, engaged))
    impressions, engagements = (
        open_source(
            table,
            needed,
            get_spark,
            rows=rows,
            rows_per_task=config.spark.rows_per_task,
            null_ids=config.input.null_ids,
        )
        for table, needed, rows in wanted
    )
    ENGAGEMENTS.check_same_keys(engagements.schema, engagements.place, impressions.schema, impressions.place)
    if REQUEST_ID not in engagements.schema.names:
        raise UserError(
            f"engagements ({engagements.place})",
            expected="request_id, which tells at what position an ad was engaged with",
            found=f"only {', '.join(engagements.schema.names)}",
            remedy="log the request with the engagement; without it no position can be compared with another",
        )
    return [(impressions, contract), (engagements, ENGAGEMENTS)]


def publish(
    surfaces: list[SurfaceEstimate], config: Config, window: Window, last_day: date, folder: str
) -> str | None:
    """Write ``examination.json``, with every estimate, and ``table.parquet``, with those chosen; returns the table's
    URI, or None where there is nothing to put in it.
    """
    store, root = filesystem.resolve(folder)
    document = {
        "schema_version": 1,
        "ds": last_day.isoformat(),
        "window": asdict(window),
        "options": config.examination.model_dump(mode="json"),
        "surfaces": {found.surface: as_json(found) for found in surfaces},
    }
    content = json.dumps(document, indent=1).encode()
    filesystem.write_atomically(store, filesystem.join(root, "examination.json"), content)
    rows = {found.surface: found.estimates[found.chosen] for found in surfaces if found.chosen is not None}
    if not rows:
        return None
    uri = filesystem.join(folder, "table.parquet")
    write_examination(uri, _table(rows))
    return uri


def _table(estimates: Mapping[str, Estimate]) -> pa.Table:
    parts = [
        pa.table(
            {
                "surface": [surface] * len(found.positions),
                "position": found.positions,
                PROBABILITY: found.probability,
                "low": found.low,
                "high": found.high,
                "estimator": [found.estimator] * len(found.positions),
                "level": [found.level] * len(found.positions),
            }
        )
        for surface, found in estimates.items()
    ]
    return pa.concat_tables(parts)


def as_json(found: SurfaceEstimate) -> dict[str, Any]:
    """All that is known of a surface, as JSON values."""
    return {
        "num_impressions": found.num_impressions,
        "chosen": found.chosen,
        "why": found.why,
        "estimates": {name: _plain(vars(estimate)) for name, estimate in found.estimates.items()},
        "abstained": found.abstained,
        "dwell": None if found.dwell is None else _plain(vars(found.dwell)),
        "dwell_histogram": {
            "dwell_ms": np.expm1(bin_middles()).round(1).tolist(),
            "num_impressions": found.unclicked_dwell.tolist(),
        },
        "thresholds_ms": found.thresholds_ms,
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}


def summary(surfaces: list[SurfaceEstimate]) -> str:
    """What a person wants to know at the end: the curves with their intervals, and what is offered."""
    lines = []
    for found in surfaces:
        lines.append(f"{found.surface}: {found.num_impressions:,} impressions")
        for name, estimate in found.estimates.items():
            mark = f"  ← used: {found.why}" if name == found.chosen else ""
            lines.append(
                f"  {name:<12}{estimate.num_clicks:>11,} clicks, ± {estimate.relative_width:.1%} in the median{mark}"
            )
        lines += [f"  {name:<12}abstains: {reason}" for name, reason in found.abstained.items()]
        if found.chosen is not None:
            lines.append(_curve_in_words(found.estimates[found.chosen]))
        if found.dwell is not None:
            typical = ", ".join(
                f"{share:.0%} near {ms:,.0f} ms"
                for share, ms in zip(found.dwell.shares, found.dwell.typical_ms, strict=True)
            )
            offered = ", ".join(f"{name}: {value}" for name, value in found.thresholds_ms.items())
            lines.append(f"  dwell without a click: {typical}")
            lines.append(f"  offered, not imposed: mining.examined.surfaces.{found.surface}: {{{offered}}}")
        else:
            lines.append(
                "  dwell does not fall apart into seen and unseen: the first position counts as certain"
            )
        lines.append("")
    return "\n".join(lines)


def _curve_in_words(estimate: Estimate) -> str:
    shown = np.flatnonzero(np.isin(estimate.positions, _SHOWN_POSITIONS))
    cells = (
        f"{estimate.positions[at]}: {estimate.probability[at]:.3f} "
        f"[{estimate.low[at]:.3f}, {estimate.high[at]:.3f}]"
        for at in shown
    )
    return "  P(examined) at position " + ", ".join(cells)
