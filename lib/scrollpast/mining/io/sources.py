"""Input tables: checked against their contract before a row is read, then read inside Spark's tasks.

Tasks read Parquet by path themselves, row group by row group, without the JVM. Every other source is read by Spark's
scan and passed to the same functions as Arrow batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from scrollpast.config import InputTable
from scrollpast.errors import UserError
from scrollpast.mining.io.contracts import TableContract
from scrollpast.mining.io.day_partitions import DayPartitions
from scrollpast.mining.io.normalization import Normalization, normalized
from scrollpast.mining.io.parquet_source import open_parquet
from scrollpast.mining.io.source import Source
from scrollpast.mining.io.spark_source import open_with_spark
from scrollpast.mining.spark.map_in_arrow import (
    Batches,
    TaskFunction,
    TimeRange,
    arrow_schema,
    as_batches,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def run(source: Source, spark: SparkSession, function: TaskFunction, schema: str) -> DataFrame:
    """DataFrame with the rows, each of them large, that ``function`` returns for every task's batches."""
    output = arrow_schema(schema)
    return source.map(spark, lambda number, batches: as_batches(function(number, batches), output), schema)


def as_frame(source: Source, spark: SparkSession, contract: TableContract) -> DataFrame:
    """Rows of a source as a DataFrame: ids as text or long, times in microseconds, whole numbers as long."""
    fields = [
        pa.field(name, _plain_type(source.schema.field(name).type))
        for name in contract.columns_in(source.schema)
    ]
    output = pa.schema(fields)

    def conform(_: int, batches: Batches) -> Batches:
        for batch in batches:
            columns = [batch[field.name].cast(field.type, safe=False) for field in output]
            yield pa.RecordBatch.from_arrays(columns, schema=output)

    names = {pa.string(): "string", pa.int64(): "long", pa.float64(): "double", pa.bool_(): "boolean"}
    schema = ", ".join(f"{field.name} {names.get(field.type, 'timestamp')}" for field in output)
    return source.map(spark, conform, schema)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC")
    if pa.types.is_boolean(kind):
        return pa.bool_()
    if pa.types.is_floating(kind):
        return pa.float64()
    return pa.int64() if pa.types.is_integer(kind) else pa.string()


def open_source(
    table: InputTable,
    contract: TableContract,
    get_spark: Callable[[], SparkSession],
    *,
    rows: TimeRange | None = None,
    rows_per_task: int,
    num_tasks: int | None = None,
    may_be_empty: bool = False,
    null_ids: Sequence[str] = (),
) -> Source:
    """Find a table, check its schema against the contract, and plan its read.

    Args:
        get_spark: called only where the table needs Spark to be found (by name, or another format).
        rows: rows outside this range need not be read.
        rows_per_task: approximate number of rows a task reads; overridden by ``num_tasks``.
        null_ids: ids that mean null, as text; they are read as null.

    Raises:
        UserError: no place is configured, the place is empty or unreadable, a column is missing or of a wrong
            type, or there are no rows.
    """
    if table.path is None and table.table is None:
        raise UserError(
            f"input.{contract.name}",
            expected="a path or a table",
            found="neither",
            remedy=f"pass --{contract.name} PATH or set input.{contract.name}.path in the configuration",
        )
    source: Source
    if table.path is None or table.format != "parquet":
        source = open_with_spark(table, contract, get_spark(), rows, num_tasks)
    else:
        days = DayPartitions.of(table, rows)
        source = open_parquet(table.path, contract, rows, days, rows_per_task, num_tasks, may_be_empty)
    return normalized(source, Normalization.of(table, contract, source.schema, null_ids))
