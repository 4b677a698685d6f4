"""Parquet files as a source: planned from their footers, and read inside the tasks without the JVM."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as pds
import pyarrow.parquet as pq
from pyarrow import fs

from scrollpast.errors import UserError
from scrollpast.mining.io.contracts import TableContract
from scrollpast.mining.io.day_partitions import DayPartitions
from scrollpast.mining.spark.map_in_arrow import (
    BATCH_ROWS,
    Batches,
    BatchFunction,
    TimeRange,
    map_batches,
)
from scrollpast.shards import filesystem

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_WHOLE_NUMBER = re.compile(r"-?\d{1,18}")
_ROWS_WITH_LISTS = 1 << 14
"""Rows in a batch of a table with lists: a list may hold thousands of ids."""
_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class FilePiece:
    """One row group of a Parquet file: the columns it stores, and those that its folder's name gives."""

    path: str
    row_group: int
    num_rows: int
    stored: tuple[str, ...]
    from_path: tuple[tuple[str, pa.Scalar], ...]


@dataclass(frozen=True)
class ParquetSource:
    place: str
    schema: pa.Schema
    num_rows: int | None
    fingerprint: str | None
    columns: tuple[str, ...]
    tasks: tuple[tuple[FilePiece, ...], ...]
    times: tuple[str, str] | None
    """First and last moment of the table, where its footers hold them."""
    notes: tuple[str, ...] = ()
    batch_rows: int = BATCH_ROWS

    def map(self, spark: SparkSession, function: BatchFunction, schema: str) -> DataFrame:
        uri, columns, tasks, batch_rows = self.place, self.columns, self.tasks, self.batch_rows

        def read(batches: Batches) -> Batches:
            numbers = [number for batch in batches for number in batch["id"].to_pylist()]
            for number in numbers:
                yield from function(number, _read_pieces(uri, tasks[number], columns, batch_rows))

        return map_batches(spark.range(0, len(tasks), 1, max(len(tasks), 1)), read, schema)

    def describe_times(self) -> str:
        return f"rows from {self.times[0]} to {self.times[1]}" if self.times else "none"


def open_parquet(
    uri: str,
    contract: TableContract,
    rows: TimeRange | None,
    days: DayPartitions | None,
    rows_per_task: int,
    num_tasks: int | None,
    may_be_empty: bool,
) -> ParquetSource:
    """Check the schema of every file against the contract, and assign the row groups to tasks.

    Raises:
        UserError: no file exists, or none of these days; a file is not Parquet, a column is missing or of a wrong type,
            or there are no rows.
    """
    store, path = filesystem.resolve(uri)
    files, skipped = _list_parquet(store, path, uri, contract.name)
    if days is not None:
        below = [file.path[len(path) :] for file in files]
        files = [files[position] for position in days.chosen(below, f"{contract.name} ({uri})")]
    fragments = _fragments(store, files)
    with ThreadPoolExecutor(16) as pool:
        footers = list(pool.map(lambda fragment: _footer(fragment, contract.name), fragments))
    # A file may lack a nullable column that another has: its rows are filled with nulls.
    fields: dict[str, pa.Field] = {}
    num_files_with: Counter[str] = Counter()
    pieces: list[FilePiece] = []
    total = 0
    values = _values_from_paths(path, files, contract)
    for fragment, footer, from_path in zip(fragments, footers, values, strict=True):
        schema = fragment.physical_schema
        stored = tuple(contract.columns_in(schema))
        for name, value in from_path.items():
            if name not in schema.names:
                schema = schema.append(pa.field(name, value.type))
        contract.check(schema, fragment.path, is_part=True)
        num_files_with.update(contract.columns_in(schema))
        for field in schema:
            if field.name not in fields or pa.types.is_null(fields[field.name].type):
                fields[field.name] = field
        contract.check_same_keys(schema, fragment.path, pa.schema(fields.values()), fragments[0].path)
        total += footer.num_rows
        for group in range(footer.num_row_groups):
            if rows is None or _may_hold(footer.row_group(group), rows):
                num_rows = footer.row_group(group).num_rows
                pieces.append(FilePiece(fragment.path, group, num_rows, stored, tuple(from_path.items())))
    contract.check(pa.schema(fields.values()), fragments[0].path)
    if total == 0 and not may_be_empty:
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
        schema=pa.schema(fields.values()),
        num_rows=num_rows,
        fingerprint=fingerprint_of(path, files),
        columns=tuple(name for name in (*contract.required, *contract.optional) if num_files_with[name]),
        tasks=_share_out(pieces, max(1, num_tasks)),
        times=_times(footers, rows) if rows is not None else None,
        notes=(
            *note_of_skipped(
                [file.path[len(path) :].lstrip("/") for file in skipped],
                f"{contract.name} ({uri})",
                "parquet",
            ),
            *_notes_of_filled(num_files_with, len(files), contract),
        ),
        batch_rows=_ROWS_WITH_LISTS if contract.lists else BATCH_ROWS,
    )


def note_of_skipped(names: Sequence[str], place: str, suffix: str) -> list[str]:
    """Note that names skipped files of a folder; empty where no file was skipped."""
    if not names:
        return []
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return [
        f"{place}: skipped {', '.join(names[:3])}{more}: the table's other files have the suffix .{suffix}"
    ]


def _notes_of_filled(num_files_with: Counter[str], num_files: int, contract: TableContract) -> list[str]:
    return [
        f"{contract.name}.{name}: {num_files - count:,} of {num_files:,} files lack the column; it is null in "
        "their rows"
        for name, count in sorted(num_files_with.items())
        if count < num_files
    ]


def _list_parquet(
    store: fs.FileSystem, path: str, uri: str, name: str
) -> tuple[list[fs.FileInfo], list[fs.FileInfo]]:
    """Files of a table, and files that are skipped for their suffix."""
    try:
        info = store.get_file_info(path)
        if info.type == fs.FileType.File:
            return [info], []
        found = filesystem.list_files(store, path) if info.type == fs.FileType.Directory else []
    except OSError as error:
        raise _unreadable(f"{name} ({uri})", str(error)) from error
    if info.type == fs.FileType.NotFound:
        raise _unreadable(f"{name} ({uri})", "nothing there")
    files = visible_files(found, path)
    if not files:
        raise UserError(
            f"{name} ({uri})",
            expected="Parquet files",
            found="an empty folder",
            remedy="check that the log of this day has arrived",
        )
    return files_with_suffix(files, ("parquet", "parq", "pq"))


def visible_files(files: Iterable[fs.FileInfo], root: str) -> list[fs.FileInfo]:
    """Non-empty files, without the markers and unfinished files of Spark and Hadoop.

    Names of these files, or of their folders below ``root``, begin with '_' or '.'.
    """
    relative = [(file, file.path[len(root) :].strip("/").split("/")) for file in files]
    return [
        file
        for file, parts in relative
        if file.size and not any(part[:1] in ("_", ".") and "=" not in part for part in parts)
    ]


def files_with_suffix(
    files: list[fs.FileInfo], suffixes: Sequence[str]
) -> tuple[list[fs.FileInfo], list[fs.FileInfo]]:
    """Split files by suffix into files of a table and other files, such as README.txt.

    Where a file has a suffix of the format, a file with another suffix is no part of the table. A file without a
    suffix, or with a number as its suffix (``part.0``), is part of the table. Where no file has a suffix of the format,
    all files are.
    """
    endings = tuple(f".{suffix}" for suffix in suffixes)

    def suffixes_of(file: fs.FileInfo) -> list[str]:
        return [suffix.lower() for suffix in PurePosixPath(file.path).suffixes]

    if not any(set(suffixes_of(file)) & set(endings) for file in files):
        return files, []
    is_data = [
        not found or bool(set(found) & set(endings)) or found[-1][1:].isdigit()
        for found in map(suffixes_of, files)
    ]
    return (
        [file for file, kept in zip(files, is_data, strict=True) if kept],
        [file for file, kept in zip(files, is_data, strict=True) if not kept],
    )


def _fragments(store: fs.FileSystem, files: list[fs.FileInfo]) -> list[pds.ParquetFileFragment]:
    parquet = pds.ParquetFileFormat(coerce_int96_timestamp_unit="us")
    return [parquet.make_fragment(file.path, store) for file in files]


def _values_from_paths(
    root: str, files: list[fs.FileInfo], contract: TableContract
) -> list[dict[str, pa.Scalar]]:
    """Columns of the contract whose values are in folder names ``column=value``, file by file.

    Values become int64 if all values of the column are whole numbers and the contract accepts int64; else text.
    """
    expected = {**contract.required, **contract.optional}
    texts = [_folder_values(file.path[len(root) :], expected) for file in files]
    names = {name for values in texts for name in values}
    types = {}
    for name in names:
        known = [values[name] for values in texts if values.get(name) is not None]
        is_whole = all(_WHOLE_NUMBER.fullmatch(str(text)) for text in known)
        types[name] = pa.int64() if is_whole and expected[name].accepts(pa.int64()) else pa.string()
    return [
        {name: pa.array([text], pa.string()).cast(types[name])[0] for name, text in sorted(values.items())}
        for values in texts
    ]


def _folder_values(path: str, names: Container[str]) -> dict[str, str | None]:
    values: dict[str, str | None] = {}
    for folder in path.split("/")[:-1]:
        name, equals, value = folder.partition("=")
        if equals and name in names:
            values[name] = None if value == _NULL_FOLDER else unquote(value)
    return values


def _footer(fragment: pds.ParquetFileFragment, name: str) -> pq.FileMetaData:
    try:
        return fragment.metadata
    except (OSError, pa.ArrowException) as error:
        remedy = (
            "check the rights, and that its writer finished; move the file away if it is no part of the table"
        )
        raise _unreadable(f"{name} ({fragment.path})", str(error), remedy) from error


def _bounds_us(group: pq.RowGroupMetaData, column: str) -> tuple[int, int] | None:
    """First and last moment of a row group by its statistics; ``None`` where it may hold nulls as well."""
    for number in range(group.num_columns):
        chunk = group.column(number)
        if chunk.path_in_schema == column:
            statistics = chunk.statistics
            if statistics is None or not statistics.has_min_max or statistics.null_count != 0:
                return None
            bounds = pa.array([statistics.min, statistics.max])
            if not pa.types.is_timestamp(bounds.type):
                return None
            # A time without a zone is UTC; fractions of a microsecond are truncated, as in the rows.
            low, high = (
                bounds.cast(pa.timestamp("us", bounds.type.tz), safe=False).cast(pa.int64()).to_pylist()
            )
            return low, high
    return None


def _may_hold(group: pq.RowGroupMetaData, rows: TimeRange) -> bool:
    bounds = _bounds_us(group, rows.column)
    return bounds is None or (bounds[1] >= rows.start_us and bounds[0] <= rows.end_us)


def _times(footers: Iterable[pq.FileMetaData], rows: TimeRange) -> tuple[str, str] | None:
    groups = [footer.row_group(number) for footer in footers for number in range(footer.num_row_groups)]
    bounds = [found for group in groups if (found := _bounds_us(group, rows.column)) is not None]
    if not bounds:
        return None
    first, last = pa.array([min(low for low, _ in bounds), max(high for _, high in bounds)], pa.int64()).cast(
        pa.timestamp("us", "UTC")
    )
    return first.as_py().isoformat(), last.as_py().isoformat()


def _share_out(pieces: list[FilePiece], num_tasks: int) -> tuple[tuple[FilePiece, ...], ...]:
    """Assign neighbouring row groups to tasks with about equal numbers of rows; no task is empty."""
    total = sum(piece.num_rows for piece in pieces)
    tasks: list[list[FilePiece]] = [[] for _ in range(num_tasks)]
    before = 0
    for piece in pieces:
        middle = before + piece.num_rows / 2
        tasks[min(int(middle * num_tasks / max(total, 1)), num_tasks - 1)].append(piece)
        before += piece.num_rows
    return tuple(tuple(task) for task in tasks if task)


def _read_pieces(
    uri: str, pieces: Iterable[FilePiece], columns: tuple[str, ...], batch_rows: int = BATCH_ROWS
) -> Batches:
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
                for batch in parquet.iter_batches(batch_rows, row_groups, list(stored), use_threads=False):
                    for name in columns:
                        if name not in stored:
                            value = from_path.get(name, pa.scalar(None))
                            batch = batch.append_column(name, pa.repeat(value, len(batch)))
                    yield batch
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(path, str(error)) from error


def fingerprint_of(root: str, files: list[fs.FileInfo]) -> str:
    """Hash of the paths (below ``root``), sizes and times of files."""
    lines = sorted(f"{file.path[len(root) :]}\t{file.size}\t{file.mtime_ns}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _unreadable(
    place: str, found: str, remedy: str = "check the path, the rights, and that its writer finished"
) -> UserError:
    first_line = found.splitlines()[0] if found else "no reason given"
    # The reason may quote bytes of the broken file, which could disturb a terminal.
    first_line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in first_line)
    return UserError(
        place,
        expected="a readable Parquet file or folder",
        found=first_line,
        remedy=remedy,
    )
