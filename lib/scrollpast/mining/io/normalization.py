"""Conversion of a source's rows to the contract's units: ids that mean null, the first position, the unit of dwell.

Every job reads its tables through this module, so that all jobs convert alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scrollpast.config import Impressions, InputTable
from scrollpast.mining.io.contracts import DWELL_MS, POSITION, TableContract
from scrollpast.mining.spark.map_in_arrow import Batches, BatchFunction

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from scrollpast.mining.io.source import Source

_MS_PER_UNIT = {"ms": 1, "s": 1000}
_WHOLE_NUMBER = re.compile(r"-?\d{1,18}")


@dataclass(frozen=True)
class Normalization:
    """Changes of columns, batch by batch. Without a change the batch is returned unchanged."""

    text_ids: tuple[str, ...] = ()
    """Columns of ids that are text."""
    whole_ids: tuple[str, ...] = ()
    """Columns of ids that are whole numbers."""
    lists: tuple[str, ...] = ()
    """Columns of lists of ids."""
    null_ids: tuple[str, ...] = ()
    first_position: int = 0
    ms_per_dwell: int = 1

    @classmethod
    def of(
        cls, table: InputTable, contract: TableContract, schema: pa.Schema, null_ids: Sequence[str]
    ) -> Normalization:
        """Changes that a table's options configure.

        Args:
            schema: of the table.
            null_ids: ids that mean null, as text.
        """
        present = [name for name in contract.identifiers if name in schema.names and null_ids]
        whole = [name for name in present if pa.types.is_integer(schema.field(name).type)]
        are_numbers = any(_WHOLE_NUMBER.fullmatch(value) for value in null_ids)
        lists = [name for name in contract.lists if name in schema.names]
        units = table if isinstance(table, Impressions) else Impressions()
        return cls(
            text_ids=tuple(name for name in present if name not in whole),
            whole_ids=tuple(whole) if are_numbers else (),
            lists=tuple(lists),
            null_ids=tuple(null_ids),
            first_position=units.first_position,
            ms_per_dwell=_MS_PER_UNIT[units.dwell_unit],
        )

    @property
    def changes_nothing(self) -> bool:
        return self == Normalization(null_ids=self.null_ids)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        numbers = [int(value) for value in self.null_ids if _WHOLE_NUMBER.fullmatch(value)]
        for name in self.text_ids:
            batch = _without(batch, name, pa.array(self.null_ids, pa.string()))
        for name in self.whole_ids:
            batch = _without(batch, name, pa.array(numbers, pa.int64()))
        for name in self.lists:
            batch = _without_items(batch, name, self.null_ids, numbers)
        if self.first_position:
            batch = _replaced(batch, POSITION, pc.subtract(_whole(batch[POSITION]), self.first_position))
        if self.ms_per_dwell != 1:
            batch = _replaced(batch, DWELL_MS, pc.multiply(_whole(batch[DWELL_MS]), self.ms_per_dwell))
        return batch


@dataclass(frozen=True)
class NormalizedSource:
    """Source whose batches are normalized before any function reads them."""

    source: Source
    normalization: Normalization

    @property
    def place(self) -> str:
        return self.source.place

    @property
    def schema(self) -> pa.Schema:
        return self.source.schema

    @property
    def num_rows(self) -> int | None:
        return self.source.num_rows

    @property
    def fingerprint(self) -> str | None:
        return self.source.fingerprint

    @property
    def notes(self) -> tuple[str, ...]:
        return self.source.notes

    def describe_times(self) -> str:
        return self.source.describe_times()

    def map(self, spark: SparkSession, function: BatchFunction, schema: str) -> DataFrame:
        normalization = self.normalization

        def read(number: int, batches: Batches) -> Batches:
            return function(number, map(normalization, batches))

        return self.source.map(spark, read, schema)


def normalized(source: Source, normalization: Normalization) -> Source:
    """Wrap a source with its normalization; the source itself is returned where nothing changes."""
    return source if normalization.changes_nothing else NormalizedSource(source, normalization)


def _without(batch: pa.RecordBatch, name: str, nulls: pa.Array) -> pa.RecordBatch:
    """Batch with null in place of the values of a column that are among ``nulls``."""
    values = batch[name]
    if pa.types.is_null(values.type):
        return batch
    if pa.types.is_integer(nulls.type):
        is_null = pc.is_in(_whole(values), nulls)
    else:
        text = values.cast(pa.string()) if pa.types.is_dictionary(values.type) else values
        is_null = pc.is_in(text, nulls.cast(text.type))
    if not is_null.true_count:
        return batch
    return _replaced(batch, name, pc.if_else(is_null, pa.scalar(None, values.type), values))


def _without_items(
    batch: pa.RecordBatch, name: str, texts: Sequence[str], numbers: Sequence[int]
) -> pa.RecordBatch:
    """Batch without the null items of a column of lists, and without items that mean null; a null list is empty."""
    lists = batch[name]
    if pa.types.is_null(lists.type):
        return batch
    items, lengths = lists.flatten(), pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    is_whole = pa.types.is_integer(items.type)
    nulls = pa.array(numbers, pa.int64()) if is_whole else pa.array(texts, pa.string())
    items = items.cast(pa.int64() if is_whole else pa.string())
    stays = np.asarray(pc.and_(pc.is_valid(items), pc.invert(pc.is_in(items, nulls))))
    counts = np.bincount(np.repeat(np.arange(len(lists)), lengths)[stays], minlength=len(lists))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    return _replaced(
        batch, name, pa.LargeListArray.from_arrays(pa.array(offsets), items.filter(pa.array(stays)))
    )


def _replaced(batch: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    return batch.set_column(batch.schema.get_field_index(name), name, values)


def _whole(values: pa.Array) -> pa.Array:
    return values.cast(pa.int64())
