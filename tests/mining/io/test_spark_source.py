"""Sources that Spark reads: tables of its catalog, and paths in other formats than Parquet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as sql

from scrollpast.config import Log, Spark
from scrollpast.errors import ScrollpastError, UserError
from scrollpast.mining.io.contracts import IMPRESSIONS
from scrollpast.mining.io.source import Source
from scrollpast.mining.io.sources import open_source, run
from scrollpast.mining.io.spark_source import SparkSource
from scrollpast.mining.spark.map_in_arrow import Batches, TimeRange
from scrollpast.mining.spark.session import spark_session
from tests.toy_logs import DAY_START_US, HOUR_US, toy_log

DAY = TimeRange("served_at", DAY_START_US, DAY_START_US + 24 * HOUR_US - 1)
LOG = toy_log(50)


def open_with_spark(spark: SparkSession, rows: TimeRange | None = None, **table: Any) -> Source:
    return open_source(Log(**table), IMPRESSIONS, lambda: spark, rows=rows, rows_per_task=1000, num_tasks=2)


def count_rows(_: int, batches: Batches) -> Any:
    yield (sum(len(batch) for batch in batches),)


def test_a_table_of_the_catalog_is_read_within_the_window(spark: SparkSession) -> None:
    spark.createDataFrame(LOG.impressions).createOrReplaceTempView("served")
    source = open_with_spark(spark, DAY, table="served")
    inside = [
        moment.as_py() is not None and 0 <= (moment.value - DAY_START_US) < 24 * HOUR_US
        for moment in LOG.impressions["served_at"]
    ]
    assert 0 < sum(inside) < len(inside)
    counts = [row.n for row in run(source, spark, count_rows, "n long").collect()]
    assert sum(counts) == sum(inside)
    assert (source.num_rows, source.fingerprint) == (None, None)


@pytest.mark.parametrize("kind", ["date", "string", "int"])
def test_of_a_partitioned_table_the_plan_holds_only_days_around_the_window(
    spark: SparkSession, tmp_path: Path, kind: str
) -> None:
    style, folder = ("yyyyMMdd", "ds=20261120") if kind == "int" else ("yyyy-MM-dd", "ds=2026-11-20")
    day = f"cast(date_format(served_at, '{style}') as {kind}) as ds"
    rows = spark.createDataFrame(LOG.impressions).where("served_at is not null").selectExpr("*", day)
    name, place = f"by_{kind}", tmp_path / "rows"
    rows.write.partitionBy("ds").option("path", str(place)).saveAsTable(name)
    try:
        source = open_with_spark(spark, DAY, table=name, day_column="ds", day_slack=0)
        assert isinstance(source, SparkSource)
        plan = source.frame._jdf.queryExecution().executedPlan().toString()
        assert re.search(r"PartitionFilters: \[[^]]*ds#\d+ (IN|=|INSET)", plan), plan
        read = {Path(uri).parent.name for uri in source.frame.inputFiles()}
        assert read == {folder} < {found.name for found in place.glob("ds=*")}
        counts = [row.n for row in run(source, spark, count_rows, "n long").collect()]
        assert sum(counts) == pq.read_table(place / folder).num_rows
        fingerprint = source.fingerprint
        later = sql.lit("20270101" if kind == "int" else "2027-01-01").cast(kind)
        rows.limit(1).withColumn("ds", later).write.insertInto(name)
        again = open_with_spark(spark, DAY, table=name, day_column="ds", day_slack=0)
        assert again.fingerprint == fingerprint is not None, "a new day is no news for this one"
    finally:
        spark.sql(f"drop table {name}")


@pytest.mark.parametrize(
    ("column", "expected"),
    [("no_such", "the column no_such"), ("dwell_s", "dwell_s as date, as text or as a number YYYYMMDD")],
)
def test_a_day_column_that_is_none_is_the_users_mistake(
    spark: SparkSession, column: str, expected: str
) -> None:
    rows = spark.createDataFrame(LOG.impressions).selectExpr("*", "dwell_ms / 1000 as dwell_s")
    rows.createOrReplaceTempView("timed")
    with pytest.raises(UserError, match=rf"impressions \(timed\): expected {expected}, found "):
        open_with_spark(spark, DAY, table="timed", day_column=column)


def test_a_file_rewritten_in_place_is_another_fingerprint(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "a log.json"  # the space is there since Spark names files by URI
    columns = (
        "request_id BIGINT, user_id BIGINT, ad_id BIGINT, served_at TIMESTAMP, position INT, dwell_ms INT"
    )
    seen = []
    for user in (1, 1, 22):
        if not seen or user == 22:
            path.write_text(f'{{"user_id": {user}}}\n')
        source = open_with_spark(spark, path=str(path), format="json", columns=columns)
        seen.append(source.fingerprint)
    assert seen[0] == seen[1] is not None
    assert seen[2] not in (None, seen[0])


@pytest.mark.parametrize(
    ("table", "place", "expected"),
    [
        ({"table": "no_such_table"}, "no_such_table", "a table that Spark finds"),
        ({"path": "/no/such/folder", "format": "json"}, "/no/such/folder", "what Spark reads as 'json'"),
        ({"path": "/tmp", "format": "no_format"}, "/tmp", "what Spark reads as 'no_format'"),
        ({"path": "/tmp", "format": "csv", "columns": "user_id BIGNT"}, "/tmp", "what Spark reads as 'csv'"),
    ],
)
def test_what_spark_cannot_read_is_the_users_mistake(
    spark: SparkSession, table: dict[str, str], place: str, expected: str
) -> None:
    with pytest.raises(ScrollpastError) as caught, spark_session(Spark(), "sources", debug=False):
        open_with_spark(spark, **table)
    text = str(caught.value)
    assert caught.value.exit_code == 2
    assert text.startswith(f"impressions ({place}): expected {expected}, found ")
    assert text.endswith("; check input.impressions: the name or path, the format, its columns and options")
    assert "\n" not in text and "at org.apache" not in text


def test_a_table_of_the_catalog_is_held_against_the_contract(spark: SparkSession) -> None:
    spark.createDataFrame(LOG.with_impressions(dwell_ms=None).impressions).createOrReplaceTempView("undwelt")
    with pytest.raises(UserError, match=r"^impressions \(undwelt\): expected the column dwell_ms"):
        open_with_spark(spark, table="undwelt")
