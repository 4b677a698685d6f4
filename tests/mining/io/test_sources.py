"""Input tables: found, held against their contract, planned from their footers, read in tasks."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from scrollpast.config import InputTable, Log
from scrollpast.errors import UserError
from scrollpast.mining.io.contracts import ENGAGEMENTS, IMPRESSIONS, TableContract
from scrollpast.mining.io.parquet_source import FilePiece, ParquetSource, _read_pieces, _share_out
from scrollpast.mining.io.sources import open_source
from scrollpast.mining.spark.map_in_arrow import TimeRange
from tests.toy_logs import DAY_START_US, HOUR_US, toy_log, write_parquet

DAY = TimeRange("served_at", DAY_START_US, DAY_START_US + 24 * HOUR_US - 1)
LOG = toy_log(50)


def no_spark() -> SparkSession:
    raise AssertionError("Spark was started for Parquet files")


def open_parquet(
    path: Path,
    contract: TableContract = IMPRESSIONS,
    rows: TimeRange | None = None,
    num_tasks: int | None = 1,
    table: InputTable | None = None,
    **options: Any,
) -> ParquetSource:
    source = open_source(
        table or InputTable(path=str(path)),
        contract,
        no_spark,
        rows=rows,
        rows_per_task=1000,
        num_tasks=num_tasks,
        **options,
    )
    assert isinstance(source, ParquetSource)
    return source


def message_of(path: Path, contract: TableContract = IMPRESSIONS, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        open_parquet(path, contract, **options)
    return str(caught.value)


def read(source: ParquetSource) -> pa.Table:
    """All rows, as the tasks read them one after the other."""
    batches = [batch for task in source.tasks for batch in _read_pieces(source.place, task, source.columns)]
    return pa.concat_tables(
        [pa.Table.from_batches([batch]) for batch in batches], promote_options="permissive"
    )


def served_at(*hours: float, unit: str = "us", zone: str | None = "UTC") -> pa.Array:
    start = datetime(2026, 11, 20, tzinfo=UTC)
    moments = [start + timedelta(hours=hour) for hour in hours]
    return (
        pa.array(moments, pa.timestamp("us", "UTC")).cast(pa.timestamp(unit)).cast(pa.timestamp(unit, zone))
    )


def impressions_at(times: pa.Array) -> pa.Table:
    """One impression at every time."""
    number = np.arange(len(times))
    columns = {"request_id": number, "user_id": number, "ad_id": number, "served_at": times}
    return pa.table({**columns, "position": number, "dwell_ms": number})


# Planning


def test_a_row_group_outside_the_window_is_not_read(tmp_path: Path) -> None:
    times = served_at(-30, -20, 5, 6, 40, 41)
    write_parquet(impressions_at(times), tmp_path, rows_per_group=2)
    source = open_parquet(tmp_path, rows=DAY)
    assert source.num_rows == 2
    assert [piece.row_group for task in source.tasks for piece in task] == [1]


def test_the_first_and_the_last_moment_of_the_window_are_inside(tmp_path: Path) -> None:
    write_parquet(impressions_at(served_at(-0.001, 0, 24 - 1e-9, 24)), tmp_path, rows_per_group=1)
    assert open_parquet(tmp_path, rows=DAY).num_rows == 2


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", None])
def test_row_groups_are_left_out_whatever_the_unit_and_zone_of_times(
    tmp_path: Path, unit: str, zone: str | None
) -> None:
    table = impressions_at(served_at(-30, 5, 40, unit=unit, zone=zone))
    write_parquet(table, tmp_path, rows_per_group=1)
    source = open_parquet(tmp_path, rows=DAY)
    assert source.num_rows == 1
    assert source.describe_times() == "rows from 2026-11-18T18:00:00+00:00 to 2026-11-21T16:00:00+00:00"


def test_files_whose_times_have_a_zone_stand_beside_files_whose_times_have_none(tmp_path: Path) -> None:
    pq.write_table(impressions_at(served_at(1)), tmp_path / "a.parquet")
    pq.write_table(impressions_at(served_at(2, zone=None)), tmp_path / "b.parquet")
    source = open_parquet(tmp_path, rows=DAY)
    assert source.num_rows == 2
    assert source.describe_times() == "rows from 2026-11-20T01:00:00+00:00 to 2026-11-20T02:00:00+00:00"


def test_int96_times_have_no_statistics_and_are_read(tmp_path: Path) -> None:
    write_parquet(
        impressions_at(served_at(-30, 5)), tmp_path, rows_per_group=1, use_deprecated_int96_timestamps=True
    )
    source = open_parquet(tmp_path, rows=DAY)
    assert source.num_rows == 2
    assert source.describe_times() == "none"
    assert read(source)["served_at"].type == pa.timestamp("us")
    assert read(source)["served_at"][1].as_py() == datetime(2026, 11, 20, 5)  # noqa: DTZ001


def test_a_row_group_with_a_null_time_is_read_since_the_row_is_invalid_and_counted(tmp_path: Path) -> None:
    times = pa.array([None, datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    write_parquet(impressions_at(times), tmp_path)
    assert open_parquet(tmp_path, rows=DAY).num_rows == 2


def test_a_file_without_statistics_is_read(tmp_path: Path) -> None:
    write_parquet(impressions_at(served_at(-30)), tmp_path, write_statistics=False)
    assert open_parquet(tmp_path, rows=DAY).num_rows == 1


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 40))
def test_every_row_group_is_in_one_task_and_no_task_is_empty(sizes: list[int], num_tasks: int) -> None:
    pieces = [FilePiece("a.parquet", number, size, (), ()) for number, size in enumerate(sizes)]
    tasks = _share_out(pieces, num_tasks)
    assert [piece for task in tasks for piece in task] == pieces
    assert len(tasks) <= num_tasks
    assert all(tasks)


@given(st.integers(1, 40))
def test_tasks_have_about_equal_numbers_of_rows(num_tasks: int) -> None:
    pieces = [FilePiece("a.parquet", number, 10, (), ()) for number in range(400)]
    sizes = [sum(piece.num_rows for piece in task) for task in _share_out(pieces, num_tasks)]
    assert max(sizes) - min(sizes) <= 10


@pytest.mark.parametrize(("num_tasks", "expected"), [(None, 3), (2, 2), (100, 27)])
def test_the_number_of_tasks_follows_the_rows_or_the_setting(
    tmp_path: Path, num_tasks: int | None, expected: int
) -> None:
    write_parquet(toy_log(330).impressions, tmp_path, rows_per_group=100)
    assert len(open_parquet(tmp_path, num_tasks=num_tasks).tasks) == expected


def by_day(folder: Path, *names: str) -> None:
    """A log with one row in each of these folders, all rows in the middle of the day of `DAY`."""
    for name in names:
        write_parquet(impressions_at(served_at(12)), folder / name)


@pytest.mark.parametrize("style", ["%Y-%m-%d", "%Y%m%d"])
@pytest.mark.parametrize(("slack", "expected"), [(0, 1), (1, 3), (2, 5)])
def test_only_partitions_that_may_hold_the_window_are_opened(
    tmp_path: Path, style: str, slack: int, expected: int
) -> None:
    start = datetime(2026, 11, 20, tzinfo=UTC)
    by_day(tmp_path, *(f"dt={start + timedelta(days=day):{style}}" for day in range(-4, 5)))
    # Whatever lies in another partition is not even looked at.
    (tmp_path / f"dt={start - timedelta(days=4):{style}}" / "broken.parquet").write_bytes(b"PAR1 no more")
    log = Log(path=str(tmp_path), day_column="dt", day_slack=slack)
    before = open_parquet(tmp_path, rows=DAY, table=log)
    assert before.num_rows == expected
    by_day(tmp_path, f"dt={start + timedelta(days=9):{style}}")
    assert open_parquet(tmp_path, rows=DAY, table=log).fingerprint == before.fingerprint


@pytest.mark.parametrize(
    ("folders", "expected", "found"),
    [
        (["dt=2026-11-22", "dt=2026-11-25"], "a folder of dt=2026-11-19 to 2026-11-21", "dt=2026-11-22 to 2026-11-25"),
        (["dt=2026-11-20", "day=1"], "the folder dt=… above every file", "/day=1/part-0.parquet"),
    ],
)  # fmt: skip
def test_partitions_that_do_not_serve_are_the_users_mistake(
    tmp_path: Path, folders: list[str], expected: str, found: str
) -> None:
    by_day(tmp_path, *folders)
    text = message_of(tmp_path, rows=DAY, table=Log(path=str(tmp_path), day_column="dt"))
    assert text.startswith(f"impressions ({tmp_path}): expected {expected}, found ")
    assert found in text
    assert "check day_column and day_slack of this input" in text


# Reading


def test_only_the_columns_of_the_contract_are_read(tmp_path: Path) -> None:
    write_parquet(LOG.impressions, tmp_path)
    found = read(open_parquet(tmp_path))
    assert set(found.column_names) == set(LOG.impressions.column_names) - {"country"}


def test_folders_named_by_a_value_give_it_as_a_column(tmp_path: Path) -> None:
    table = LOG.with_impressions(surface=None).impressions
    for surface in ("feed", "search"):
        write_parquet(table, tmp_path / "ds=2026-11-20" / f"surface={surface}")
    found = read(open_parquet(tmp_path))
    assert len(found) == 2 * len(table)
    assert found["surface"].to_pylist() == ["feed"] * len(table) + ["search"] * len(table)


def test_a_number_in_a_folders_name_is_text_where_the_contract_wants_text(tmp_path: Path) -> None:
    table = LOG.with_impressions(surface=None, position=None).impressions
    write_parquet(table, tmp_path / "surface=1" / "position=7")
    write_parquet(table, tmp_path / "surface=__HIVE_DEFAULT_PARTITION__" / "position=8")
    write_parquet(table, tmp_path / "surface=home%20page" / "position=9")
    found = read(open_parquet(tmp_path)).group_by(["surface", "position"]).aggregate([])
    assert sorted(found.to_pydict()["position"]) == [7, 8, 9]
    assert set(found["surface"].to_pylist()) == {"1", None, "home page"}


def test_a_file_may_lack_an_optional_column_that_another_has(tmp_path: Path) -> None:
    pq.write_table(LOG.with_impressions(surface=None).impressions, tmp_path / "a.parquet")
    pq.write_table(LOG.impressions, tmp_path / "b.parquet")
    num_rows = len(LOG.impressions)
    found = read(open_parquet(tmp_path))["surface"]
    assert found[:num_rows].null_count == num_rows
    assert found[num_rows:].to_pylist() == LOG.impressions["surface"].to_pylist()


def test_a_single_file_is_a_table(tmp_path: Path) -> None:
    path = write_parquet(LOG.impressions, tmp_path)
    assert read(open_parquet(path)).num_rows == len(LOG.impressions)


def test_marks_and_half_written_files_are_no_input(tmp_path: Path) -> None:
    write_parquet(LOG.impressions, tmp_path)
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".part-0.parquet.crc").write_bytes(b"crc")
    (tmp_path / "empty.parquet").touch()
    write_parquet(LOG.impressions, tmp_path / "_temporary" / "0")
    assert open_parquet(tmp_path).num_rows == len(LOG.impressions)


def test_a_folder_named_by_an_underscored_column_is_input(tmp_path: Path) -> None:
    write_parquet(LOG.impressions, tmp_path / "_day=1")
    assert open_parquet(tmp_path).num_rows == len(LOG.impressions)


# The fingerprint


def fingerprint_of(path: Path) -> str | None:
    return open_parquet(path).fingerprint


def test_the_fingerprint_stays_while_the_files_do(tmp_path: Path) -> None:
    write_parquet(LOG.impressions, tmp_path)
    assert fingerprint_of(tmp_path) == fingerprint_of(tmp_path) is not None


def test_another_file_another_size_or_another_time_is_another_fingerprint(tmp_path: Path) -> None:
    path = write_parquet(LOG.impressions, tmp_path)
    seen = [fingerprint_of(tmp_path)]
    os.utime(path, (1, 1))
    seen.append(fingerprint_of(tmp_path))
    write_parquet(LOG.impressions.slice(1), tmp_path)
    os.utime(path, (1, 1))
    seen.append(fingerprint_of(tmp_path))
    pq.write_table(LOG.impressions, tmp_path / "late.parquet")
    seen.append(fingerprint_of(tmp_path))
    assert len(set(seen)) == 4


def test_a_table_that_was_moved_as_it_is_has_the_same_fingerprint(tmp_path: Path) -> None:
    write_parquet(LOG.impressions, tmp_path / "here")
    before = fingerprint_of(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert fingerprint_of(tmp_path / "there") == before


# Mistakes, before Spark starts


def test_no_place_at_all() -> None:
    with pytest.raises(UserError) as caught:
        open_source(InputTable(), IMPRESSIONS, no_spark, rows_per_task=1)
    assert str(caught.value) == (
        "input.impressions: expected a path or a table, found neither; "
        "pass --impressions PATH or set input.impressions.path in the configuration"
    )


def test_nothing_there(tmp_path: Path) -> None:
    path = tmp_path / "absent"
    assert message_of(path) == (
        f"impressions ({path}): expected a readable Parquet file or folder, found nothing there; "
        "check the path, the rights, and that its writer finished"
    )


def test_an_empty_folder(tmp_path: Path) -> None:
    assert message_of(tmp_path) == (
        f"impressions ({tmp_path}): expected Parquet files, found an empty folder; "
        "check that the log of this day has arrived"
    )


def test_a_missing_column_is_named_with_its_type_and_what_is_there(tmp_path: Path) -> None:
    path = write_parquet(
        LOG.with_impressions(dwell_ms=None, user_id=None, country=None).impressions, tmp_path
    )
    assert message_of(tmp_path) == (
        f"impressions ({path}): expected the columns user_id (string or long), dwell_ms (int (nulls allowed)), "
        "found only ad_id, position, request_id, served_at, surface; rename or add the column where the table is made"
    )


def test_a_column_of_a_wrong_type(tmp_path: Path) -> None:
    path = write_parquet(
        LOG.with_impressions(served_at=LOG.impressions["served_at"].cast(pa.int64())).impressions, tmp_path
    )
    assert message_of(tmp_path) == (
        f"impressions.served_at ({path}): expected timestamp (UTC), found int64; "
        "cast the column where the table is made"
    )


def test_ids_of_two_types_in_two_files(tmp_path: Path) -> None:
    pq.write_table(LOG.impressions, tmp_path / "a.parquet")
    pq.write_table(LOG.with_text_ids().impressions, tmp_path / "b.parquet")
    assert message_of(tmp_path) == (
        f"impressions.request_id ({tmp_path}/b.parquet): expected int64, as in {tmp_path}/a.parquet, found string; "
        "give both the same type: a string never equals a long"
    )


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("request_id,user_id\n1,2\n" * 100)
    for place in (tmp_path, path):
        text = message_of(place)
        assert text.startswith(f"impressions ({path}): expected a readable Parquet file or folder, found ")
        assert "not a parquet file" in text


@pytest.mark.parametrize("kept", [0, 3, 100, -1])
def test_a_truncated_file(tmp_path: Path, kept: int) -> None:
    path = write_parquet(LOG.impressions, tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    text = message_of(path)
    assert text.startswith(f"impressions ({path}): expected a readable Parquet file or folder, found ")
    assert text.isprintable()


def test_a_table_without_rows(tmp_path: Path) -> None:
    write_parquet(LOG.impressions.slice(0, 0), tmp_path)
    assert message_of(tmp_path) == (
        f"impressions ({tmp_path}): expected at least one row, found 1 Parquet file without rows; "
        "check that the log of this day has arrived"
    )


def test_engagements_without_rows_may_be_allowed(tmp_path: Path) -> None:
    write_parquet(LOG.engagements.slice(0, 0), tmp_path)
    assert open_parquet(tmp_path, ENGAGEMENTS, may_be_empty=True).num_rows == 0


def test_a_scheme_that_nothing_serves() -> None:
    with pytest.raises(UserError, match="expected a file system for nowhere://"):
        open_source(InputTable(path="nowhere://logs"), IMPRESSIONS, no_spark, rows_per_task=1)


def test_a_file_that_breaks_while_it_is_read_is_named(tmp_path: Path) -> None:
    path = write_parquet(LOG.impressions, tmp_path)
    source = open_parquet(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=rf"^{path}: expected a readable Parquet file"):
        read(source)
