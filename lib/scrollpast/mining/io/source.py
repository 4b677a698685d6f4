"""Protocol of input tables, for every way of reading them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from scrollpast.mining.spark.map_in_arrow import (
    BatchFunction,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


class Source(Protocol):
    """Input table whose schema fits its contract."""

    @property
    def place(self) -> str: ...

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def num_rows(self) -> int | None:
        """Rows that will be read; ``None`` where the number is unknown before reading."""

    @property
    def fingerprint(self) -> str | None:
        """Digest that changes with the input; ``None`` where the source has none."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user: skipped files, columns that some files lack."""

    def map(self, spark: SparkSession, function: BatchFunction, schema: str) -> DataFrame:
        """DataFrame with the batches that ``function`` returns for every task's batches."""
        ...

    def describe_times(self) -> str:
        """Text of the first and last time of the table's rows, for the error of a window without rows."""
        ...
