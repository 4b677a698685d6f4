"""Sources that Spark reads: tables of its catalog, and paths in other formats than Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from scrollpast.config import Spark, Table
from scrollpast.errors import ScrollpastError, UserError
from scrollpast.mining.batches import Batches, TimeRange
from scrollpast.mining.contracts import IMPRESSIONS
from scrollpast.mining.session import spark_session
from scrollpast.mining.sources import Source, open_source
from tests.toy_logs import DAY_START_US, HOUR_US, toy_log

DAY = TimeRange("served_at", DAY_START_US, DAY_START_US + 24 * HOUR_US - 1)
LOG = toy_log(50)


def open_with_spark(spark: SparkSession, rows: TimeRange | None = None, **table: Any) -> Source:
    return open_source(Table(**table), IMPRESSIONS, lambda: spark, rows=rows, rows_per_task=1000, num_tasks=2)


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
    counts = [row.n for row in source.run(spark, count_rows, "n long").collect()]
    assert sum(counts) == sum(inside)
    assert (source.num_rows, source.fingerprint) == (None, None)


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
