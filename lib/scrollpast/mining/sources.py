"""Input tables: checked against their contract before a row is read, then read inside Spark's tasks.

Parquet by path is read by the tasks themselves, row group by row group, which spares the rows the way through
the JVM; every other source is Spark's scan, handed to the same functions as Arrow batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.dataset as pds
import pyarrow.parquet as pq
from pyarrow import fs

from scrollpast.config import Table
from scrollpast.errors import ScrollpastError, UserError
from scrollpast.mining.contracts import TableContract
from scrollpast.shards import filesystem

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

BATCH_ROWS = 1 << 18
"""Rows that are judged at once: enough to amortise a NumPy call, few enough to stay in the cache."""

Batches = Iterator[pa.RecordBatch]
TaskFunction = Callable[[int, Batches], Iterable[tuple[Any, ...]]]
"""From the number of the task and its batches to rows."""


class Source(Protocol):
    """An input table whose schema fits its contract."""

    place: str
    schema: pa.Schema
    num_rows: int | None
    """Rows that will be read; ``None`` where only reading them tells."""
    fingerprint: str | None
    """Changes when the input does; ``None`` where that cannot be told."""

    def run(self, spark: SparkSession, function: TaskFunction, schema: str) -> DataFrame:
        """A DataFrame with the rows that ``function`` makes of every task's batches."""
        ...

    def describe_times(self) -> str:
        """From when to when the table's rows are, for a message that none was in the window."""
        ...


@dataclass(frozen=True)
class Piece:
    """One row group of a Parquet file: the columns it stores, and those that its folder's name gives."""

    path: str
    row_group: int
    num_rows: int
    stored: tuple[str, ...]
    from_path: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class TimeRange:
    """Rows to read: ``column`` (a timestamp) in [start_us, end_us], and those where it is null."""

    column: str
    start_us: int
    end_us: int


@dataclass(frozen=True)
class ParquetSource:
    place: str
    schema: pa.Schema
    num_rows: int | None
    fingerprint: str | None
    columns: tuple[str, ...]
    tasks: tuple[tuple[Piece, ...], ...]
    times: tuple[str, str] | None
    """First and last moment of the table, where its footers tell."""

    def run(self, spark: SparkSession, function: TaskFunction, schema: str) -> DataFrame:
        uri, columns, tasks = self.place, self.columns, self.tasks

        def read(batches: Batches) -> Batches:
            numbers = [number for batch in batches for number in batch["id"].to_pylist()]
            for number in numbers:
                yield from as_batches(function(number, _read_pieces(uri, tasks[number], columns)), output)

        output = arrow_schema(schema)
        return spark.range(0, len(tasks), 1, max(len(tasks), 1)).mapInArrow(read, schema)

    def describe_times(self) -> str:
        return f"rows from {self.times[0]} to {self.times[1]}" if self.times else "none"


@dataclass(frozen=True)
class SparkSource:
    place: str
    schema: pa.Schema
    num_rows: int | None
    fingerprint: str | None
    frame: DataFrame

    def run(self, spark: SparkSession, function: TaskFunction, schema: str) -> DataFrame:
        def read(batches: Batches) -> Batches:
            from pyspark import TaskContext

            context = TaskContext.get()
            number = context.partitionId() if context is not None else 0
            yield from as_batches(function(number, batches), output)

        output = arrow_schema(schema)
        return self.frame.mapInArrow(read, schema)

    def describe_times(self) -> str:
        return "none"


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
    if table.table is not None or (table.path is not None and table.format != "parquet"):
        return _open_with_spark(table, contract, get_spark(), rows, num_tasks)
    if table.path is None:
        raise UserError(
            f"input.{contract.name}",
            expected="a path or a table",
            found="neither",
            remedy=f"pass --{contract.name} PATH or set input.{contract.name}.path in the configuration",
        )
    return _open_parquet(table.path, contract, rows, rows_per_task, num_tasks, may_be_empty)


def _open_parquet(
    uri: str,
    contract: TableContract,
    rows: TimeRange | None,
    rows_per_task: int,
    num_tasks: int | None,
    may_be_empty: bool,
) -> ParquetSource:
    store, path = filesystem.resolve(uri)
    files = _list_parquet(store, path, uri, contract.name)
    fragments = _fragments(store, path, files)
    with ThreadPoolExecutor(16) as pool:
        footers = list(pool.map(lambda fragment: _footer(fragment, contract.name), fragments))
    dataset_schema: pa.Schema | None = None
    pieces: list[Piece] = []
    total = 0
    for fragment, footer in zip(fragments, footers, strict=True):
        from_path = tuple(sorted(pds.get_partition_keys(fragment.partition_expression).items()))
        schema = fragment.physical_schema
        stored = tuple(contract.columns_in(schema))
        for name, value in from_path:
            if name not in schema.names:
                schema = schema.append(pa.field(name, pa.scalar(value).type))
        contract.check(schema, fragment.path)
        dataset_schema = dataset_schema or schema
        contract.check_same_keys(schema, fragment.path, dataset_schema, fragments[0].path)
        total += footer.num_rows
        for group in range(footer.num_row_groups):
            if rows is None or _may_hold(footer.row_group(group), rows):
                num_rows = footer.row_group(group).num_rows
                pieces.append(Piece(fragment.path, group, num_rows, stored, from_path))
    if dataset_schema is None or (total == 0 and not may_be_empty):
        raise UserError(
            f"{contract.name} ({uri})",
            expected="at least one row",
            found=f"{len(files)} Parquet file{'s' if len(files) != 1 else ''} without rows",
            remedy="check that the log of this day has arrived",
        )
    num_rows = sum(piece.num_rows for piece in pieces)
    if num_tasks is None:
        num_tasks = -(-num_rows // rows_per_task)
    return ParquetSource(
        place=uri,
        schema=dataset_schema,
        num_rows=num_rows,
        fingerprint=_fingerprint(path, files),
        columns=tuple(contract.columns_in(dataset_schema)),
        tasks=_share_out(pieces, max(1, num_tasks)),
        times=_times(footers, rows) if rows is not None else None,
    )


def _list_parquet(store: fs.FileSystem, path: str, uri: str, name: str) -> list[fs.FileInfo]:
    try:
        info = store.get_file_info(path)
        if info.type == fs.FileType.File:
            return [info]
        found = filesystem.list_files(store, path) if info.type == fs.FileType.Directory else []
    except OSError as error:
        raise _unreadable(f"{name} ({uri})", str(error)) from error
    if info.type == fs.FileType.NotFound:
        raise _unreadable(f"{name} ({uri})", "nothing there")
    # Names that begin with '_' or '.' are marks and half-written files, as Spark and Hadoop take them.
    relative = [(file, file.path[len(path) :].strip("/").split("/")) for file in found]
    files = [
        file
        for file, parts in relative
        if file.size and not any(part[:1] in ("_", ".") and "=" not in part for part in parts)
    ]
    if not files:
        raise UserError(
            f"{name} ({uri})",
            expected="Parquet files",
            found="an empty folder",
            remedy="check that the log of this day has arrived",
        )
    return files


def _fragments(store: fs.FileSystem, path: str, files: list[fs.FileInfo]) -> list[pds.ParquetFileFragment]:
    dataset = pds.FileSystemDatasetFactory(
        store,
        [file.path for file in files],
        pds.ParquetFileFormat(coerce_int96_timestamp_unit="us"),
        pds.FileSystemFactoryOptions(
            partition_base_dir=path, partitioning=pds.HivePartitioning.discover(), exclude_invalid_files=False
        ),
    ).finish(pa.schema([]))
    return list(dataset.get_fragments())


def _footer(fragment: pds.ParquetFileFragment, name: str) -> pq.FileMetaData:
    try:
        return fragment.metadata
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(f"{name} ({fragment.path})", str(error)) from error


def _bounds(group: pq.RowGroupMetaData, column: str) -> tuple[pa.Scalar, pa.Scalar] | None:
    """First and last moment of a row group by its statistics; ``None`` where it may hold nulls as well."""
    for number in range(group.num_columns):
        chunk = group.column(number)
        if chunk.path_in_schema == column:
            statistics = chunk.statistics
            if statistics is None or not statistics.has_min_max or statistics.null_count != 0:
                return None
            low, high = pa.scalar(statistics.min), pa.scalar(statistics.max)
            return (low, high) if pa.types.is_timestamp(low.type) else None
    return None


def _may_hold(group: pq.RowGroupMetaData, rows: TimeRange) -> bool:
    bounds = _bounds(group, rows.column)
    if bounds is None:
        return True
    low_us, high_us = (bound.cast(pa.timestamp("us", bound.type.tz), safe=False).value for bound in bounds)
    return bool(high_us >= rows.start_us and low_us <= rows.end_us)


def _times(footers: Iterable[pq.FileMetaData], rows: TimeRange) -> tuple[str, str] | None:
    groups = [footer.row_group(number) for footer in footers for number in range(footer.num_row_groups)]
    bounds = [found for group in groups if (found := _bounds(group, rows.column)) is not None]
    if not bounds:
        return None
    return str(min(low.as_py() for low, _ in bounds)), str(max(high.as_py() for _, high in bounds))


def _share_out(pieces: list[Piece], num_tasks: int) -> tuple[tuple[Piece, ...], ...]:
    """Neighbouring row groups to tasks of about equal numbers of rows; no task is empty."""
    total = sum(piece.num_rows for piece in pieces)
    tasks: list[list[Piece]] = [[] for _ in range(num_tasks)]
    before = 0
    for piece in pieces:
        middle = before + piece.num_rows / 2
        tasks[min(int(middle * num_tasks / max(total, 1)), num_tasks - 1)].append(piece)
        before += piece.num_rows
    return tuple(tuple(task) for task in tasks if task)


def _read_pieces(uri: str, pieces: Iterable[Piece], columns: tuple[str, ...]) -> Batches:
    store, _ = filesystem.resolve(uri)
    for path, group in groupby(pieces, key=lambda piece: piece.path):
        same_file = list(group)
        stored, from_path = same_file[0].stored, dict(same_file[0].from_path)
        try:
            with store.open_input_file(path) as file:
                parquet = pq.ParquetFile(
                    file,
                    read_dictionary=[name for name in ("surface", "kind") if name in stored],
                    coerce_int96_timestamp_unit="us",
                )
                row_groups = [piece.row_group for piece in same_file]
                for batch in parquet.iter_batches(BATCH_ROWS, row_groups, list(stored), use_threads=False):
                    for name in columns:
                        if name not in stored:
                            value = pa.scalar(from_path.get(name))
                            batch = batch.append_column(name, pa.repeat(value, len(batch)))
                    yield batch
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(path, str(error)) from error


def _open_with_spark(
    table: Table, contract: TableContract, spark: SparkSession, rows: TimeRange | None, num_tasks: int | None
) -> SparkSource:
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as sql
    from pyspark.sql.pandas.types import to_arrow_schema

    place = table.table or str(table.path)
    try:
        if table.table is not None:
            frame = spark.table(table.table)
        else:
            frame = spark.read.format(table.format).options(**table.options).load(table.path)
    except AnalysisException as error:
        raise _unreadable(f"{contract.name} ({place})", str(error).splitlines()[0]) from error
    schema = to_arrow_schema(frame.schema)
    contract.check(schema, place)
    frame = frame.select(*contract.columns_in(schema))
    if rows is not None:
        # Compared as timestamps, so that Spark can push the bounds down to the source.
        bounds = [sql.timestamp_micros(sql.lit(bound)) for bound in (rows.start_us, rows.end_us)]
        moment = sql.col(rows.column)
        frame = frame.where(moment.isNull() | moment.between(*bounds))
    if num_tasks is not None:
        frame = frame.repartition(num_tasks)
    return SparkSource(place, schema, num_rows=None, fingerprint=_spark_fingerprint(frame), frame=frame)


def _spark_fingerprint(frame: DataFrame) -> str | None:
    files = sorted(frame.inputFiles())
    return hashlib.sha256("\n".join(files).encode()).hexdigest() if files else None


def _fingerprint(root: str, files: list[fs.FileInfo]) -> str:
    lines = sorted(f"{file.path[len(root) :]}\t{file.size}\t{file.mtime_ns}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def arrow_schema(schema: str) -> pa.Schema:
    """Arrow's view of a Spark schema text with the types that tasks return."""
    types = {"int": pa.int32(), "long": pa.int64(), "string": pa.string(), "binary": pa.binary()}
    return pa.schema([(name, types[kind]) for name, kind in (field.split() for field in schema.split(", "))])


def as_batches(rows: Iterable[tuple[Any, ...]], schema: pa.Schema) -> Batches:
    """Rows one by one as batches of one row: each holds a whole parcel, so that no copy of many is made."""
    for row in rows:
        yield pa.RecordBatch.from_arrays(
            [pa.array([value], field.type) for value, field in zip(row, schema, strict=True)], schema=schema
        )


def _unreadable(place: str, found: str) -> ScrollpastError:
    first_line = found.splitlines()[0] if found else "no reason given"
    return UserError(
        place,
        expected="a readable Parquet file or folder",
        found=first_line,
        remedy="check the path, the rights, and that its writer finished",
    )
