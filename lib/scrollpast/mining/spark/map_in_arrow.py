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
"""Rows that are judged at once: enough to amortise a NumPy call, few enough to stay in the cache."""

SHUFFLE_MESSAGE = "bucket int, content string, payload binary"
"""Schema of a shuffle message: target bucket, content, payload."""
_EXCHANGED_PARTITIONS_AT_MOST = 200

Batches = Iterator[pa.RecordBatch]
BatchFunction = Callable[[int, Batches], Batches]
"""From the number of the task and its batches to batches."""
TaskFunction = Callable[[int, Batches], Iterable[tuple[Any, ...]]]
"""From the number of the task and its batches to rows."""


@dataclass(frozen=True)
class TimeRange:
    """Rows to read: ``column`` (a timestamp) in [start_us, end_us], and those where it is null."""

    column: str
    start_us: int
    end_us: int


def by_bucket(messages: DataFrame, num_buckets: int, num_partitions: int | None) -> DataFrame:
    """Messages behind a shuffle: those of a bucket are in one partition, side by side."""
    chosen = num_partitions or min(num_buckets, _EXCHANGED_PARTITIONS_AT_MOST)
    return messages.repartition(chosen, "bucket").sortWithinPartitions("bucket")


def arrow_schema(schema: str) -> pa.Schema:
    """Arrow's view of a Spark schema text with the types that tasks return."""
    types = {"int": pa.int32(), "long": pa.int64(), "string": pa.string(), "binary": pa.binary()}
    return pa.schema([(name, types[kind]) for name, kind in (field.split() for field in schema.split(", "))])


def as_batches(rows: Iterable[tuple[Any, ...]], schema: pa.Schema) -> Batches:
    """Rows one by one as batches of one row: each holds a whole message, so that no copy of many is made."""
    for row in rows:
        yield pa.RecordBatch.from_arrays(
            [pa.array([value], field.type) for value, field in zip(row, schema, strict=True)], schema=schema
        )


def map_batches(frame: DataFrame, function: Callable[[Batches], Batches], schema: str) -> DataFrame:
    """``frame.mapInArrow(function, schema)`` for many short tasks."""

    def run(batches: Batches) -> Batches:
        # Spark's worker collects garbage behind every task and would look at everything that is imported each
        # time, for 20 to 60 ms. What lives at the beginning of a task lives as long as the worker.
        gc.freeze()
        return function(batches)

    return frame.mapInArrow(run, schema)  # type: ignore[arg-type]


def collect_table(frame: DataFrame) -> pa.Table:
    """All rows of a frame that the driver can hold; Spark 4 names what Spark 3.5 does within itself."""
    if hasattr(frame, "toArrow"):
        return frame.toArrow()
    older: Any = frame  # 3.5 is not developed any further: what it keeps to itself does not move
    return pa.Table.from_batches(older._collect_as_arrow(), schema=schema_of_spark(frame.schema))  # noqa: SLF001


def schema_of_spark(schema: StructType) -> pa.Schema:
    """Spark's schema as Arrow's, with times in UTC; Spark 3.5 has no others."""
    import pyspark
    from pyspark.sql.pandas.types import to_arrow_schema

    zone = {} if pyspark.__version__.startswith("3.") else {"timezone": "UTC"}
    return to_arrow_schema(schema, **zone)  # type: ignore[arg-type]
