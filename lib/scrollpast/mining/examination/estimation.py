"""Counts of a log for the estimators, and the errors of a log that allows no estimate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from scrollpast.config import Config
from scrollpast.errors import UserError
from scrollpast.mining.examination.counts import SurfaceCounts
from scrollpast.mining.examination.observation import observe
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
from scrollpast.mining.io.source import Source
from scrollpast.mining.io.sources import as_frame, open_source
from scrollpast.mining.rules.rules import Rules, Window
from scrollpast.mining.spark.map_in_arrow import TimeRange
from scrollpast.mining.spark.progress import progress

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def count_examination(
    config: Config, window: Window, get_spark: Callable[[], SparkSession]
) -> dict[str, SurfaceCounts]:
    """Count the clicks and impressions of a window that the estimators need, surface by surface.

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
    """Error for a window without a usable impression, by the first condition that no impression meets."""
    from pyspark.sql import functions as sql

    served_us = sql.unix_micros(SERVED_AT)
    in_window = frame.where(served_us.between(rules.window.start_us, rules.window.end_us - 1))
    final = served_us <= rules.window.as_of_us - rules.maturity_us
    num_in_window, num_placed, num_final = in_window.agg(
        sql.count("*"), sql.count(POSITION), sql.count(sql.when(final, POSITION))
    ).first() or (0, 0, 0)
    if num_in_window and not num_placed:
        expected, found = (
            "impressions with a position",
            f"{num_in_window:,} impressions in the window, 0 with a position",
        )
        remedy = "log the position; without positions nothing can be estimated, and every position counts as examined"
    elif num_placed and not num_final:
        expected, found = (
            "impressions whose labels are final",
            f"{num_placed:,} impressions in the window, 0 final",
        )
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
            expected="request_id, from which the position of the engagement follows",
            found=f"only {', '.join(engagements.schema.names)}",
            remedy="log the request with the engagement; without request_id positions cannot be compared",
        )
    return [(impressions, contract), (engagements, ENGAGEMENTS)]
