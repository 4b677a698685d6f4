"""Imported tables appear together or not at all, and never over others unless told."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scrollpast.errors import UserError
from scrollpast.importing import writing
from scrollpast.importing.contract import impressions_schema, table_of
from scrollpast.importing.writing import LogWriter

SCHEMA = impressions_schema(pa.int64(), pa.int64())


def served(*days: int) -> pa.Table:
    times = [dt.datetime(2026, 11, day, tzinfo=dt.UTC) for day in days]
    return table_of(SCHEMA, {"served_at": pa.array(times)}, len(times))


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    with LogWriter(tmp_path) as writer:
        writer.impressions(served(1, 2))
    with pytest.raises(KeyError), LogWriter(tmp_path, overwrite=True) as writer:  # noqa: PT012 -- fails midway
        writer.impressions(served(3))
        raise KeyError
    assert pq.read_table(tmp_path / "impressions").num_rows == 2
    assert {path.name for path in tmp_path.iterdir()} == {"impressions", "engagements", "ads"}


def test_tables_that_are_there_are_kept_unless_told(tmp_path: Path) -> None:
    with LogWriter(tmp_path) as writer:
        writer.impressions(served(1))
    with pytest.raises(UserError, match="pass --overwrite"):
        LogWriter(tmp_path)


def test_a_table_of_users_is_made_where_a_log_has_one(tmp_path: Path) -> None:
    with LogWriter(tmp_path) as writer:
        writer.users(pa.table({"user_id": [1, 2]}))
    assert writer.num_rows["users"] == 2
    assert pq.read_table(tmp_path / "users").num_rows == 2
    with LogWriter(tmp_path, overwrite=True):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"impressions", "engagements", "ads"}


def test_a_large_table_is_cut_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_ROWS_PER_FILE", 3)
    with LogWriter(tmp_path) as writer:
        for day in range(1, 8):
            writer.impressions(served(day))
    assert len(list((tmp_path / "impressions").iterdir())) == 3
    assert pq.read_table(tmp_path / "impressions").num_rows == 7


def test_the_window_is_that_of_the_impressions(tmp_path: Path) -> None:
    with LogWriter(tmp_path) as writer:
        writer.impressions(served(5, 3))
        writer.impressions(served(9))
    assert writer.first is not None and writer.last is not None
    assert (writer.first.day, writer.last.day) == (3, 9)
