"""Source of rows that Spark reads: a table of its catalog, or a path in a format other than Parquet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from scrollpast.config import InputTable
from scrollpast.errors import UserError
from scrollpast.mining.io.contracts import TableContract
from scrollpast.mining.io.day_partitions import DayPartitions
from scrollpast.mining.io.parquet_source import (
    files_with_suffix,
    fingerprint_of,
    note_of_skipped,
    visible_files,
)
from scrollpast.mining.spark.map_in_arrow import (
    Batches,
    BatchFunction,
    TimeRange,
    map_batches,
    schema_of_spark,
)
from scrollpast.mining.spark.session import first_line
from scrollpast.shards import filesystem

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class SparkSource:
    place: str
    schema: pa.Schema
    num_rows: int | None
    fingerprint: str | None
    frame: DataFrame
    notes: tuple[str, ...] = ()

    def map(self, spark: SparkSession, function: BatchFunction, schema: str) -> DataFrame:
        del spark  # the frame has it

        def read(batches: Batches) -> Batches:
            from pyspark import TaskContext

            context = TaskContext.get()
            number = context.partitionId() if context is not None else 0
            yield from function(number, batches)

        return map_batches(self.frame, read, schema)

    def describe_times(self) -> str:
        return "none"


def open_with_spark(
    table: InputTable,
    contract: TableContract,
    spark: SparkSession,
    rows: TimeRange | None,
    num_tasks: int | None,
) -> SparkSource:
    """Find the table and check its schema against the contract; Spark plans the read.

    Raises:
        UserError: Spark finds no such table or cannot read it, or a column is missing or of a wrong type.
    """
    from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as sql

    place = table.table or str(table.path)
    skipped = _files_of_other_formats(table)
    try:
        frame = _read_with_spark(table, spark, only_suffix=bool(skipped))
        schema = _arrow_schema_of(frame, contract)
    except (PySparkException, Py4JJavaError) as error:
        raise UserError(
            f"{contract.name} ({place})",
            expected="a table that Spark finds" if table.table else f"what Spark reads as {table.format!r}",
            found=first_line(error),
            remedy=f"check input.{contract.name}: the name or path, the format, its columns and options",
        ) from error
    contract.check(schema, place)
    if (days := DayPartitions.of(table, rows)) is not None:
        frame = frame.where(days.condition(frame, f"{contract.name} ({place})"))
    frame = frame.select(*contract.columns_in(schema))
    # A plan by path still lists the files of all partitions.
    uris = [uri for uri in frame.inputFiles() if days is None or days.may_hold(uri)]
    fingerprint = _fingerprint_of_uris(uris)
    if rows is not None:
        # Compared as timestamps, so that Spark can push the bounds down to the source.
        bounds = [sql.timestamp_micros(sql.lit(bound)) for bound in (rows.start_us, rows.end_us)]
        moment = sql.col(rows.column)
        frame = frame.where(moment.isNull() | moment.between(*bounds))
    if num_tasks is not None:
        frame = frame.repartition(num_tasks)
    notes = tuple(note_of_skipped(skipped, f"{contract.name} ({place})", table.format))
    return SparkSource(place, schema, num_rows=None, fingerprint=fingerprint, frame=frame, notes=notes)


def _files_of_other_formats(table: InputTable) -> list[str]:
    """Paths of files that Spark has to skip: their suffix is not the suffix of the format.

    Empty where only Spark can list the path, or where the options choose files by their names.
    """
    if table.path is None or "pathGlobFilter" in table.options:
        return []
    try:
        store, path = filesystem.resolve(table.path)
        found = visible_files(filesystem.list_files(store, path), path)
    except (OSError, UserError):
        return []
    kept, skipped = files_with_suffix(found, (table.format,))
    if not all(f".{table.format}" in file.base_name.lower() for file in kept):
        return []
    return [file.path[len(path) :].lstrip("/") for file in skipped]


def _read_with_spark(table: InputTable, spark: SparkSession, *, only_suffix: bool) -> DataFrame:
    if table.table is not None:
        return spark.table(table.table)
    reader = spark.read.format(table.format).options(**table.options)
    if table.columns is not None:
        reader = reader.schema(table.columns)
    if only_suffix:
        reader = reader.option("pathGlobFilter", f"*.{table.format}*")
    return reader.load(table.path)


def _arrow_schema_of(frame: DataFrame, contract: TableContract) -> pa.Schema:
    """Arrow schema of the frame; a column outside the contract keeps its name only, whatever its type."""
    from pyspark.sql.types import StructType

    wanted = [field for field in frame.schema if field.name in {**contract.required, **contract.optional}]
    known = schema_of_spark(StructType(wanted))
    return pa.schema(
        [known.field(name) if name in known.names else pa.field(name, pa.null()) for name in frame.columns]
    )


def _fingerprint_of_uris(uris: Iterable[str]) -> str | None:
    """Fingerprint as for Parquet files; ``None`` where there are no files, or where only Spark can list them."""
    infos: list[fs.FileInfo] = []
    try:
        for uri in sorted(uris):
            store, path = filesystem.resolve(unquote(uri))
            infos.append(store.get_file_info(path))
    except (OSError, UserError):
        return None
    are_seen = infos and all(info.type == fs.FileType.File for info in infos)
    return fingerprint_of("", infos) if are_seen else None
