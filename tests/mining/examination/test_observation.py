"""Counts of a log for the estimates of examination, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from scrollpast.config import ExaminationOptions, load_config
from scrollpast.mining.examination.counts import SurfaceCounts
from scrollpast.mining.examination.observation import observe
from scrollpast.mining.rules.rules import Rules, Window
from tests.toy_logs import DAY, DAY_START_US, HOUR_US

NOON = DAY_START_US + 12 * HOUR_US
USER, AD = 7, 70
TIME = pa.timestamp("us", "UTC")
OPTIONS = ExaminationOptions(num_groups=10, num_strata=2)
GROUPS = 10


def counted(
    spark: SparkSession,
    impressions: Sequence[dict[str, Any]],
    engagements: Sequence[dict[str, Any]] = (),
    *settings: str,
    as_of: str = "2026-11-28",
) -> dict[str, SurfaceCounts]:
    """The counts of literal rows; what a row leaves out is a plain impression or click of one user and ad."""
    plain = {"request_id": 1, "user_id": USER, "ad_id": AD, "served_at": NOON, "position": 0, "dwell_ms": 900}
    shown = [{**plain, "surface": "feed", "is_random": False, "score": None, **row} for row in impressions]
    click = {"user_id": USER, "ad_id": AD, "kind": "click", "engaged_at": NOON + 5_000_000, "request_id": 1}
    engaged = [{**click, **row} for row in engagements]
    types = {"served_at": TIME, "engaged_at": TIME, "score": pa.float64(), "surface": pa.string()}

    def frame(rows: list[dict[str, Any]], names: Sequence[str]) -> Any:
        columns = {n: pa.array([row[n] for row in rows], types.get(n)) for n in names}
        return spark.createDataFrame(pa.table(columns))

    config = load_config(None, list(settings))
    window = Window.of_days(date.fromisoformat(DAY), 1, datetime.fromisoformat(f"{as_of}T00:00:00+00:00"))
    names = list(click)
    engagement_frame = frame(engaged or [click | {"user_id": -1}], names)
    return observe(frame(shown, list(shown[0])), engagement_frame, Rules.of(config.mining, window), OPTIONS)


def sums(values: np.ndarray[Any, Any]) -> list[Any]:
    """Over the groups of users."""
    summed: list[Any] = values.sum(axis=0).tolist()
    return summed


def test_a_click_is_counted_at_the_position_of_the_impression_that_it_names(spark: SparkSession) -> None:
    rows = [{"position": 0}, {"position": 2, "request_id": 2}]
    counts = counted(spark, rows, [{"request_id": 2}])["feed"]
    assert (sums(counts.impressions), sums(counts.clicks)) == ([1, 0, 1], [0, 0, 1])


def test_a_user_is_in_one_group(spark: SparkSession) -> None:
    counts = counted(spark, [{"request_id": number} for number in range(5)])["feed"]
    assert sorted(counts.impressions[:, 0].tolist()) == [0] * (GROUPS - 1) + [5]


@pytest.mark.parametrize(
    "engagement",
    [
        {"request_id": None},
        {"request_id": 9},
        {"user_id": 8},
        {"ad_id": 71},
        {"kind": "hide"},
        {"kind": "wink"},
        {"engaged_at": NOON - 61_000_000},
        {"engaged_at": NOON + 25 * HOUR_US},
    ],
    ids=str,
)
def test_an_engagement_that_does_not_answer_the_impression_is_no_click(
    spark: SparkSession, engagement: dict[str, Any]
) -> None:
    assert sums(counted(spark, [{}], [engagement])["feed"].clicks) == [0]


def test_what_was_not_known_yet_is_no_click_and_what_can_still_be_clicked_is_no_impression(
    spark: SparkSession,
) -> None:
    rows = [{}, {"request_id": 2, "served_at": DAY_START_US + 23 * HOUR_US, "position": 1}]
    counts = counted(spark, rows, [{}], as_of="2026-11-21")
    assert counts == {}
    counts = counted(spark, rows, [{}], "mining.maturity_h=2", as_of="2026-11-21")
    assert sums(counts["feed"].impressions) == [1]


@pytest.mark.parametrize(
    "row",
    [
        {"request_id": None}, {"user_id": None}, {"ad_id": None}, {"served_at": None}, {"position": None},
        {"position": -1}, {"position": 100}, {"dwell_ms": -5}, {"served_at": DAY_START_US - 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_row_that_is_broken_or_elsewhere_is_not_counted(spark: SparkSession, row: dict[str, Any]) -> None:
    assert sums(counted(spark, [{}, {"request_id": 2, **row}])["feed"].impressions) == [1]


def test_a_bot_is_not_counted(spark: SparkSession) -> None:
    rows = [{"request_id": n, "user_id": 8} for n in range(4)] + [{}]
    counts = counted(spark, rows, [], "mining.max_impressions_per_user_day=3")["feed"]
    assert sums(counts.impressions) == [1]


def test_dwell_is_counted_of_impressions_without_a_click_where_it_is_known(spark: SparkSession) -> None:
    rows = [{}, {"request_id": 2, "dwell_ms": None}, {"request_id": 3, "dwell_ms": 400}]
    counts = counted(spark, rows, [{}])["feed"]
    assert np.flatnonzero(counts.unclicked_dwell.sum(axis=0)).tolist() == [int(np.log1p(400) * 20)]


def test_an_ad_met_twice_is_harvested_at_both_positions(spark: SparkSession) -> None:
    """Met twice at 0 with one click and once at 2: half a click at 0, weighed with 2·1/(2 + 1)."""
    rows = [{}, {"request_id": 2}, {"request_id": 3, "position": 2}]
    counts = counted(spark, rows, [{}])["feed"]
    harvested, weight = counts.harvested.sum(axis=0), counts.harvested_weight.sum(axis=0)
    assert (harvested[0, 2], harvested[2, 0]) == (pytest.approx(1 / 3), 0)
    assert weight[0, 2] == weight[2, 0] == pytest.approx(2 / 3)


def test_what_was_delivered_twice_is_harvested_once(spark: SparkSession) -> None:
    rows = [{}, {}, {"request_id": 3, "position": 2}]
    counts = counted(spark, rows, [{}, {}])["feed"]
    assert counts.harvested.sum(axis=0)[0, 2] == pytest.approx(1 / 2)
    assert sums(counts.clicks) == [1, 0, 0]


def test_other_users_and_other_ads_and_other_surfaces_are_not_compared(spark: SparkSession) -> None:
    elsewhere = [{"user_id": 8}, {"ad_id": 71}, {"surface": "search"}]
    rows = [{}, *({"request_id": 2 + n, "position": 1, **row} for n, row in enumerate(elsewhere))]
    assert counted(spark, rows, [{}])["feed"].harvested_weight.sum() == 0


def test_random_slots_are_counted_apart_and_have_no_stratum(spark: SparkSession) -> None:
    rows = [
        {"score": 0.1},
        {"request_id": 2, "score": 0.9},
        {"request_id": 3, "is_random": True, "score": 5.0},
    ]
    counts = counted(spark, rows, [{"request_id": 3}], "mining.score_column=score")["feed"]
    assert (sums(counts.random_impressions), sums(counts.random_clicks)) == ([1], [1])
    assert counts.scored_impressions.sum() == 2
    assert counts.scored_clicks.sum() == 0


def test_a_surface_that_is_not_named_is_called_all(spark: SparkSession) -> None:
    assert list(counted(spark, [{"surface": None}])) == ["all"]
