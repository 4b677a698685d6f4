"""Files of a published log: search by pattern, and reading of the needed columns, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from scrollpast.errors import UserError

_BATCH_ROWS = 256 * 1024
_BLOCK_BYTES = 16 << 20


def find_files(source: Path, patterns: Iterable[str], what: str) -> list[Path]:
    """Files below a folder that match any of the glob patterns, sorted; ``[]`` is an error.

    Raises:
        UserError: the folder does not exist, or no file matches.
    """
    if not source.is_dir():
        found = "a file" if source.exists() else "nothing"
        raise UserError(str(source), expected="the folder of a log", found=found, remedy="check SRC")
    patterns = list(patterns)
    files = sorted({path for pattern in patterns for path in source.glob(pattern) if path.is_file()})
    if not files:
        present = ", ".join(sorted(path.name for path in source.iterdir())[:8]) or "an empty folder"
        raise UserError(
            str(source),
            expected=f"{what} ({' or '.join(patterns)})",
            found=present,
            remedy="point SRC at the unpacked log",
        )
    return files


def find_optional(source: Path, patterns: Iterable[str]) -> Path | None:
    """First matching file below a folder, or ``None``."""
    return min(
        (path for pattern in patterns for path in source.glob(pattern) if path.is_file()), default=None
    )


def read_batches(
    path: Path, columns: Mapping[str, pa.DataType], optional: Iterable[str] = ()
) -> Iterator[pa.RecordBatch]:
    """Read columns of one Parquet or CSV file (with a header) in batches of bounded size.

    Args:
        path: a file ending in .parquet or .csv.
        columns: names and types of the columns to read.
        optional: names of columns that may be absent; an absent column is null.

    Raises:
        UserError: a column is missing, a value does not fit its type, or the file is not a Parquet or CSV file.
    """
    schema = pa.schema(columns)
    try:
        if path.suffix == ".csv":
            yield from _csv_batches(path, schema, set(optional))
        else:
            yield from _parquet_batches(path, schema, set(optional))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        found = " ".join(str(error).split())[:200]
        raise UserError(
            str(path), expected="columns of the published types", found=found, remedy="fetch the file again"
        ) from None


def _parquet_batches(path: Path, schema: pa.Schema, optional: set[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        present = _present(path, file.schema_arrow.names, schema, optional)
        for batch in file.iter_batches(_BATCH_ROWS, columns=present):
            yield _conform(batch, schema)


def column_names(path: Path) -> list[str]:
    """Names of the columns of a Parquet file, or of a CSV file with a header."""
    if path.suffix != ".csv":
        with pq.ParquetFile(path) as file:
            return list(file.schema_arrow.names)
    with path.open(encoding="utf-8-sig") as text:
        return [name.strip().strip('"') for name in text.readline().split(",")]


def _csv_batches(path: Path, schema: pa.Schema, optional: set[str]) -> Iterator[pa.RecordBatch]:
    names = column_names(path)
    present = _present(path, names, schema, optional)
    reader = pyarrow.csv.open_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES, column_names=names, skip_rows=1),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=present, column_types={name: schema.field(name).type for name in present}
        ),
    )
    for batch in reader:
        yield _conform(batch, schema)


def _present(path: Path, names: list[str], schema: pa.Schema, optional: set[str]) -> list[str]:
    missing = [name for name in schema.names if name not in names and name not in optional]
    if missing:
        raise UserError(
            str(path),
            expected=f"the column{'s' * (len(missing) > 1)} {', '.join(missing)}",
            found=", ".join(names),
            remedy="point SRC at the log as it was published",
        )
    return [name for name in schema.names if name in names]


def _conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    arrays = [
        batch[field.name].cast(field.type)
        if field.name in batch.schema.names
        else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.record_batch(arrays, schema=schema)
