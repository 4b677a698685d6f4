"""Atomic writing of the imported tables: all become visible together, or no table does."""

from __future__ import annotations

import datetime as dt
import shutil
from collections import Counter
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scrollpast.errors import UserError
from scrollpast.importing.contract import TABLES, USERS

_ROWS_PER_FILE = 2_000_000


class LogWriter:
    """Writer of batches of impressions, engagements, ads and users, with counts of rows, kinds and days.

    The table of users is made if batches of it are written; the other tables always are.

    A context manager: the folders are renamed into place when the block succeeds, and removed when it fails.

    Args:
        out: folder that receives impressions/, engagements/, ads/ and users/.
        overwrite: replace existing tables.

    Raises:
        UserError: a table exists and ``overwrite`` is not given.
    """

    def __init__(self, out: Path, overwrite: bool = False) -> None:
        there = [name for name in (*TABLES, USERS) if (out / name).exists()]
        if there and not overwrite:
            raise UserError(
                str(out), expected="no tables yet", found=", ".join(there), remedy="pass --overwrite"
            )
        self.out = out
        self.num_rows: Counter[str] = Counter()
        self.num_kinds: Counter[str] = Counter()
        self.first: dt.datetime | None = None
        self.last: dt.datetime | None = None
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._num_files: Counter[str] = Counter()
        self._rows_of_file: Counter[str] = Counter()

    def __enter__(self) -> LogWriter:
        for name in (*TABLES, USERS):
            shutil.rmtree(self._partial(name), ignore_errors=True)
        for name in TABLES:
            self._partial(name).mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers.values():
            writer.close()
        for name in (*TABLES, USERS):
            if kind is None:
                shutil.rmtree(self.out / name, ignore_errors=True)
                if self._partial(name).exists():
                    self._partial(name).rename(self.out / name)
            else:
                shutil.rmtree(self._partial(name), ignore_errors=True)

    def impressions(self, table: pa.Table) -> None:
        """Write a batch of impressions."""
        self._write("impressions", table)
        span = pc.min_max(table["served_at"]).as_py()
        if span["min"] is not None:
            self.first = min(filter(None, [self.first, span["min"]]))
            self.last = max(filter(None, [self.last, span["max"]]))

    def engagements(self, table: pa.Table) -> None:
        """Write a batch of engagements."""
        self._write("engagements", table)
        for count in pc.value_counts(table["kind"].combine_chunks()).to_pylist():
            self.num_kinds[count["values"]] += count["counts"]

    def ads(self, table: pa.Table) -> None:
        """Write a batch of ads."""
        self._write("ads", table)

    def users(self, table: pa.Table) -> None:
        """Write a batch of users."""
        self._partial(USERS).mkdir(parents=True, exist_ok=True)
        self._write(USERS, table)

    def _write(self, name: str, table: pa.Table) -> None:
        if self._rows_of_file[name] >= _ROWS_PER_FILE:
            self._writers.pop(name).close()
        if name not in self._writers:
            path = self._partial(name) / f"part-{self._num_files[name]:05d}.parquet"
            self._writers[name] = pq.ParquetWriter(path, table.schema, compression="zstd", store_schema=False)
            self._num_files[name] += 1
            self._rows_of_file[name] = 0
        self._writers[name].write_table(table)
        self._rows_of_file[name] += table.num_rows
        self.num_rows[name] += table.num_rows

    def _partial(self, name: str) -> Path:
        return self.out / f".{name}.partial"
