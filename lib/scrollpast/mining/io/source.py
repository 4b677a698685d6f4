"""Protocol of input tables, whichever way they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from scrollpast.mining.spark.map_in_arrow import (
    BatchFunction,
)

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
        """Digest that changes with the input; ``None`` where the source has none."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for a person: files that were skipped, columns that some files lack."""

    def map(self, spark: SparkSession, function: BatchFunction, schema: str) -> DataFrame:
        """A DataFrame with the batches that ``function`` makes of every task's batches."""
        ...

    def describe_times(self) -> str:
        """From when to when the table's rows are, for a message that none was in the window."""
        ...
