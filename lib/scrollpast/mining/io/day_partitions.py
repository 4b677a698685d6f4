"""Day partitions of a log: only partitions that can hold rows of the window are listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import unquote

from scrollpast.config import InputTable, Log
from scrollpast.errors import UserError
from scrollpast.mining.spark.map_in_arrow import TimeRange

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


@dataclass(frozen=True)
class DayPartitions:
    """Partitions of a table whose rows may lie in a range of time."""

    column: str
    """Name of the column, and of folders: ``column=2026-11-20`` or ``column=20261120``."""

    first: date
    last: date

    @staticmethod
    def of(table: InputTable, rows: TimeRange | None) -> DayPartitions | None:
        """Partitions of the days (UTC) in the range and of `Log.day_slack` days around; None = the whole table."""
        if not isinstance(table, Log) or table.day_column is None or rows is None:
            return None
        slack = timedelta(days=table.day_slack)
        return DayPartitions(table.day_column, _day(rows.start_us) - slack, _day(rows.end_us) + slack)

    @property
    def days(self) -> list[date]:
        """Every day from the first to the last."""
        return [self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1)]

    def value(self, path: str) -> str | None:
        """Value of the column in the name of a file's folder; None where no folder does."""
        for folder in path.split("/")[:-1]:
            name, equals, value = folder.partition("=")
            if equals and name == self.column:
                return unquote(value)
        return None

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(text for day in self.days for text in _texts(day))

    def may_hold(self, path: str) -> bool:
        """True if the file's folder is one of these partitions, or no folder names the column."""
        value = self.value(path)
        return value is None or value in self._names

    def chosen(self, paths: Sequence[str], place: str) -> list[int]:
        """Positions of the files that are in one of the partitions, by their folders' names.

        Raises:
            UserError: a file is in no folder of the column, or no file is in one of these partitions.
        """
        values = [self.value(path) for path in paths]
        if None in values:
            raise self._error(
                place, f"the folder {self.column}=… above every file", paths[values.index(None)]
            )
        found = [position for position, value in enumerate(values) if value in self._names]
        if not found:
            known = sorted(str(value) for value in values)
            raise self._error(place, f"a folder of {self}", f"{self.column}={known[0]} to {known[-1]}")
        return found

    def condition(self, frame: DataFrame, place: str) -> Column:
        """Partition condition that Spark and the metastore evaluate without opening a file.

        Raises:
            UserError: the column is missing, or is no day.
        """
        from pyspark.sql import functions as sql
        from pyspark.sql import types

        if self.column not in frame.columns:
            raise self._error(place, f"the column {self.column}", ", ".join(frame.columns))
        kind, column = frame.schema[self.column].dataType, sql.col(self.column)
        if isinstance(kind, types.DateType):
            return column.isin(self.days)
        if isinstance(kind, types.StringType):
            return column.isin(sorted(self._names))
        if isinstance(kind, (types.IntegerType, types.LongType)):
            return column.isin([int(f"{day:%Y%m%d}") for day in self.days])
        raise self._error(
            place, f"{self.column} as date, as text or as a number YYYYMMDD", kind.simpleString()
        )

    def __str__(self) -> str:
        return f"{self.column}={self.first} to {self.last}"

    @staticmethod
    def _error(place: str, expected: str, found: str) -> UserError:
        return UserError(
            place,
            expected=expected,
            found=found,
            remedy="check day_column and day_slack of this input, and that the log of these days has arrived",
        )


def _day(moment_us: int) -> date:
    return datetime.fromtimestamp(moment_us // 1_000_000, UTC).date()


def _texts(day: date) -> tuple[str, str]:
    return day.isoformat(), f"{day:%Y%m%d}"
