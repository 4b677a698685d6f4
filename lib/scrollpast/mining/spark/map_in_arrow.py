"""Functions over Arrow batches in Spark tasks, and the schema of shuffle messages."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

BATCH_ROWS = 1 << 18
"""Rows in a batch: enough to amortise a NumPy call, few enough to stay in the cache."""

SHUFFLE_MESSAGE = "bucket int, content string, payload binary"
"""Schema of a shuffle message: target bucket, content, payload."""
_EXCHANGED_PARTITIONS_AT_MOST = 200

Batches = Iterator[pa.RecordBatch]
BatchFunction = Callable[[int, Batches], Batches]
"""Function from the number of the task and its batches to batches."""
TaskFunction = Callable[[int, Batches], Iterable[tuple[Any, ...]]]
"""Function from the number of the task and its batches to rows."""


@dataclass(frozen=True)
class TimeRange:
    """Rows to read: ``column`` (a timestamp) in [start_us, end_us], or null."""

    column: str
    start_us: int
    end_us: int


def by_bucket(messages: DataFrame, num_buckets: int, num_partitions: int | None) -> DataFrame:
    """Shuffle messages so that those of a bucket are adjacent in one partition."""
    chosen = num_partitions or min(num_buckets, _EXCHANGED_PARTITIONS_AT_MOST)
    return messages.repartition(chosen, "bucket").sortWithinPartitions("bucket")


def arrow_schema(schema: str) -> pa.Schema:
    """Arrow schema of a Spark schema text with the types that tasks return."""
    types = {"int": pa.int32(), "long": pa.int64(), "string": pa.string(), "binary": pa.binary()}
    return pa.schema([(name, types[kind]) for name, kind in (field.split() for field in schema.split(", "))])


def as_batches(rows: Iterable[tuple[Any, ...]], schema: pa.Schema) -> Batches:
    """Batches of one row each: a row holds a whole message, and larger batches would copy many messages."""
    for row in rows:
        yield pa.RecordBatch.from_arrays(
            [pa.array([value], field.type) for value, field in zip(row, schema, strict=True)], schema=schema
        )


def map_batches(frame: DataFrame, function: Callable[[Batches], Batches], schema: str) -> DataFrame:
    """``frame.mapInArrow(function, schema)`` for many short tasks."""

    def run(batches: Batches) -> Batches:
        # Spark's worker collects garbage after every task, which scans all imported objects each time
        # for 20 to 60 ms. Objects that exist at the beginning of a task live as long as the worker.
        gc.freeze()
        return function(batches)

    return frame.mapInArrow(run, schema)  # type: ignore[arg-type]


def collect_table(frame: DataFrame) -> pa.Table:
    """All rows of a frame that fits the driver; public in Spark 4, private in Spark 3.5."""
    if hasattr(frame, "toArrow"):
        return frame.toArrow()
    older: Any = frame  # 3.5 gets no new features: its private method is stable
    return pa.Table.from_batches(older._collect_as_arrow(), schema=schema_of_spark(frame.schema))  # noqa: SLF001


def schema_of_spark(schema: StructType) -> pa.Schema:
    """Spark's schema as Arrow's, with times in UTC, the only zone in Spark 3.5."""
    import pyspark
    from pyspark.sql.pandas.types import to_arrow_schema

    zone = {} if pyspark.__version__.startswith("3.") else {"timezone": "UTC"}
    return to_arrow_schema(schema, **zone)  # type: ignore[arg-type]
