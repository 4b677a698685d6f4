"""Input tables: checked against their contract before a row is read, then read inside Spark's tasks.

Parquet by path is read by the tasks themselves, row group by row group, which spares the rows the way through
the JVM; every other source is Spark's scan, handed to the same functions as Arrow batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from scrollpast.config import Table
from scrollpast.errors import UserError
from scrollpast.mining.batches import TaskFunction, TimeRange
from scrollpast.mining.contracts import TableContract
from scrollpast.mining.day_partitions import DayPartitions
from scrollpast.mining.parquet_source import open_parquet
from scrollpast.mining.spark_source import SparkSource, open_with_spark

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


class Source(Protocol):
    """An input table whose schema fits its contract."""

    @property
    def place(self) -> str: ...

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def num_rows(self) -> int | None:
        """Rows that will be read; ``None`` where only reading them tells."""

    @property
    def fingerprint(self) -> str | None:
        """Changes when the input does; ``None`` where that cannot be told."""

    def run(self, spark: SparkSession, function: TaskFunction, schema: str) -> DataFrame:
        """A DataFrame with the rows that ``function`` makes of every task's batches."""
        ...

    def describe_times(self) -> str:
        """From when to when the table's rows are, for a message that none was in the window."""
        ...


def open_source(
    table: Table,
    contract: TableContract,
    get_spark: Callable[[], SparkSession],
    *,
    rows: TimeRange | None = None,
    rows_per_task: int,
    num_tasks: int | None = None,
    may_be_empty: bool = False,
) -> Source:
    """Find a table, hold its schema against the contract, and plan how to read it.

    Args:
        get_spark: called only where the table needs Spark to be found (by name, or another format).
        rows: rows outside this range need not be read.
        rows_per_task: rows one task reads, about; ``num_tasks`` overrides it.

    Raises:
        UserError: no place is configured, nothing is there, it is no Parquet, a column is missing or of a
            wrong type, or there are no rows.
    """
    if table.path is None or table.format != "parquet":
        return open_frame(table, contract, get_spark, rows=rows, num_tasks=num_tasks)
    days = DayPartitions.of(table, rows)
    return open_parquet(table.path, contract, rows, days, rows_per_task, num_tasks, may_be_empty)


def open_frame(
    table: Table,
    contract: TableContract,
    get_spark: Callable[[], SparkSession],
    *,
    rows: TimeRange | None = None,
    num_tasks: int | None = None,
) -> SparkSource:
    """Find a table and hold its schema against the contract, to be read by Spark itself whatever its format.

    Raises:
        UserError: no place is configured, Spark cannot read it, or a column is missing or of a wrong type.
    """
    if table.path is None and table.table is None:
        raise UserError(
            f"input.{contract.name}",
            expected="a path or a table",
            found="neither",
            remedy=f"pass --{contract.name} PATH or set input.{contract.name}.path in the configuration",
        )
    return open_with_spark(table, contract, get_spark(), rows, num_tasks)
