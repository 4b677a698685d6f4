"""Counts for the estimators, computed in Spark: a few thousand numbers for a log of any size.

An engagement answers an impression where it names its request. Other engagements carry no information about the
position.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from scrollpast.config import ExaminationOptions
from scrollpast.mining.examination.counts import UNITS, SurfaceCounts, lay_out
from scrollpast.mining.examination.dwell import BINS_PER_UNIT, NUM_BINS
from scrollpast.mining.io.contracts import (
    AD_ID,
    DWELL_MS,
    ENGAGED_AT,
    IS_RANDOM,
    KIND,
    POSITION,
    REQUEST_ID,
    SERVED_AT,
    SURFACE,
    USER_ID,
    WHOLE_SURFACE,
)
from scrollpast.mining.rules.rules import Rules
from scrollpast.mining.spark.map_in_arrow import collect_table

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

_GROUP, _STRATUM, _SCORE, _BIN, _OTHER = "user_group", "stratum", "score", "bin", "other"
_UNKNOWN, _BROKEN = -1, -2
_PAIR = [SURFACE, _GROUP, USER_ID, AD_ID]
_IMPRESSION = [REQUEST_ID, AD_ID, POSITION]


def observe(
    impressions: DataFrame, engagements: DataFrame, rules: Rules, options: ExaminationOptions
) -> dict[str, SurfaceCounts]:
    """Count impressions and clicks of every surface.

    Args:
        impressions: as in the input contract; surface, is_random and the score may be absent.
        engagements: as in the input contract.
    """
    shown = _without_bots(_shown(impressions, rules, options), rules.max_impressions_per_user_day)
    if rules.score_column is not None:
        shown = _with_strata(shown, options.num_strata)
    clicked = _clicked(shown, engagements, rules).cache()
    try:
        cells = _counted(shown, clicked, [SURFACE, _GROUP, POSITION, IS_RANDOM, _STRATUM])
        dwell = _counted(shown, clicked, [SURFACE, _GROUP, _BIN])
        pairs = _harvested(shown, clicked)
        tables = collect_table(cells), collect_table(pairs), collect_table(dwell)
        return lay_out(*tables, options.num_groups, options.num_strata)
    finally:
        clicked.unpersist()


def _shown(impressions: DataFrame, rules: Rules, options: ExaminationOptions) -> DataFrame:
    """Valid impressions of the window whose labels are final, one row each."""
    from pyspark.sql import functions as sql

    def or_else(name: str, default: Column) -> Column:
        return sql.coalesce(sql.col(name), default) if name in impressions.columns else default

    window = rules.window
    until_us = min(window.end_us - 1, window.as_of_us - rules.maturity_us)
    dwell_ms = sql.col(DWELL_MS).cast("double")
    log_bin = sql.least(sql.floor(sql.log1p(dwell_ms) * BINS_PER_UNIT), sql.lit(NUM_BINS - 1))
    score = sql.col(rules.score_column).cast("double") if rules.score_column else sql.lit(None).cast("double")
    return impressions.select(
        REQUEST_ID,
        USER_ID,
        AD_ID,
        _micros(SERVED_AT).alias(SERVED_AT),
        or_else(SURFACE, sql.lit(WHOLE_SURFACE)).cast("string").alias(SURFACE),
        sql.col(POSITION).cast("long").alias(POSITION),
        or_else(IS_RANDOM, sql.lit(False)).alias(IS_RANDOM),
        sql.when(dwell_ms >= 0, log_bin).when(dwell_ms < 0, _BROKEN).otherwise(_UNKNOWN).alias(_BIN),
        score.alias(_SCORE),
        sql.lit(_UNKNOWN).alias(_STRATUM),
        sql.expr(f"pmod(xxhash64({USER_ID}), {options.num_groups})").alias(_GROUP),
    ).where(
        sql.col(REQUEST_ID).isNotNull()
        & sql.col(USER_ID).isNotNull()
        & sql.col(AD_ID).isNotNull()
        & sql.col(SERVED_AT).between(window.start_us, until_us)
        & sql.col(POSITION).between(0, options.num_positions - 1)
        & (sql.col(_BIN) != _BROKEN)
    )


def _micros(name: str) -> Column:
    from pyspark.sql import functions as sql

    return sql.unix_micros(sql.col(name).cast("timestamp"))


def _without_bots(shown: DataFrame, most_a_day: int) -> DataFrame:
    from pyspark.sql import functions as sql

    by_day = shown.groupBy(USER_ID, sql.expr(f"{SERVED_AT} div 86400000000").alias("day")).count()
    bots = by_day.where(sql.col("count") > most_a_day).select(USER_ID).distinct()
    return shown.join(sql.broadcast(bots), USER_ID, how="left_anti")


def _with_strata(shown: DataFrame, num_strata: int) -> DataFrame:
    """Add the quantile of the score on its surface, from 0; -1 where there is no score."""
    from pyspark.sql import functions as sql

    shares = [number / num_strata for number in range(1, num_strata)]
    cuts = shown.groupBy(SURFACE).agg(sql.percentile_approx(_SCORE, shares, 10 * num_strata).alias("cuts"))
    below = sql.size(sql.filter("cuts", lambda cut: cut < sql.col(_SCORE)))
    stratum = sql.when(sql.col(_SCORE).isNull(), _UNKNOWN).otherwise(below)
    # The right side has one row a surface.
    return shown.join(sql.broadcast(cuts), SURFACE, how="inner").withColumn(_STRATUM, stratum).drop("cuts")


def _clicked(shown: DataFrame, engagements: DataFrame, rules: Rules) -> DataFrame:
    """The impressions that an engagement of a positive kind answers, one row each."""
    from pyspark.sql import functions as sql

    kinds = rules.kinds
    names = [name for name, is_positive in zip(kinds.names, kinds.is_positive, strict=True) if is_positive]
    windows = zip(kinds.names, kinds.attribution_us.tolist(), strict=True)
    reach = reduce(lambda found, kind: found.when(sql.col(KIND) == kind[0], kind[1]), windows, sql)
    known = engagements.select(
        REQUEST_ID, USER_ID, AD_ID, KIND, _micros(ENGAGED_AT).alias(ENGAGED_AT), reach.alias("reach")
    ).where(sql.col(KIND).isin(names) & (sql.col(ENGAGED_AT) <= rules.window.as_of_us))
    late = sql.col(ENGAGED_AT) - sql.col(SERVED_AT)
    # A request holds an ad once: this drops repeated deliveries of an impression.
    return (
        shown.join(known, [REQUEST_ID, USER_ID, AD_ID], how="inner")
        .where(late.between(-rules.clock_skew_us, sql.col("reach")))
        .dropDuplicates(_IMPRESSION)
        .select(*shown.columns)
    )


def _counted(shown: DataFrame, clicked: DataFrame, keys: list[str]) -> DataFrame:
    """Count impressions and clicks by some columns.

    Repeated deliveries count as impressions: they are few, and equally frequent at every position.
    """
    from pyspark.sql import functions as sql

    both = shown.select(*keys, sql.lit(1).alias("impressions"), sql.lit(0).alias("clicks")).unionAll(
        clicked.select(*keys, sql.lit(0), sql.lit(1))
    )
    return both.groupBy(*keys).agg(
        sql.sum("impressions").alias("impressions"), sql.sum("clicks").alias("clicks")
    )


def _harvested(shown: DataFrame, clicked: DataFrame) -> DataFrame:
    """Weighted clicks of users at one position on ads that were shown to them at another position too.

    For a user and ad with n impressions at k, c of them clicked, and m impressions at l: c/n at k, with the weight
    nm/(n + m) of a difference of two means. The weight does not depend on clicks, so that the sum at k over the sum
    at l converges to θ(k)/θ(l).
    """
    from pyspark.sql import functions as sql

    met = shown.join(clicked.select(*_PAIR).distinct(), _PAIR, how="left_semi").dropDuplicates(_IMPRESSION)
    times = met.groupBy(*_PAIR, POSITION).agg(sql.count("*").alias("times"))
    clicks = clicked.groupBy(*_PAIR, POSITION).agg(sql.count("*").alias("clicks"))
    here = times.join(clicks, [*_PAIR, POSITION], how="left")
    there = times.select(*_PAIR, sql.col(POSITION).alias(_OTHER), sql.col("times").alias("times_there"))
    times_there, together = sql.col("times_there"), sql.col("times") + sql.col("times_there")

    def total(part: Column) -> Column:
        # Sums of integers do not depend on the order.
        return sql.sum(sql.round(part * times_there / together * UNITS).cast("long"))

    return (
        here.join(there, _PAIR, how="inner")
        .where(sql.col(POSITION) != sql.col(_OTHER))
        .groupBy(SURFACE, _GROUP, POSITION, _OTHER)
        .agg(
            total(sql.coalesce("clicks", sql.lit(0))).alias("clicks"), total(sql.col("times")).alias("weight")
        )
    )
