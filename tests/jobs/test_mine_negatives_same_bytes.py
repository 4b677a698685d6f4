"""The same input and configuration give the same bytes, however the work is split, stored, retried or started."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.orc as paorc
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from scrollpast.hashing import hash_column
from scrollpast.shards.codec import decode_records
from tests.jobs.job_runs import ROOT, JobRun, arguments_of, mine, run_alone, run_here
from tests.jobs.published_days import Content, check_laws, content_of, day_of, published
from tests.toy_logs import DAY_START_US, HOUR_US, ToyLog, toy_log, write_parquet, write_shuffled

LOG = toy_log()
SMALL = ("--set", "mining.num_buckets=4", "--set", "spark.num_partitions=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return LOG.write(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def expected(spark: SparkSession, folder: Path) -> Content:
    """The content of the day, mined with two partitions on the session of this process."""
    return content_after(mine(folder, folder / "out"), folder / "out")


def content_after(run: JobRun, out: Path) -> Content:
    assert run.exit_code == 0, run.stderr
    return content_of(out)


# However the work is split


@pytest.mark.parametrize("partitions", [1, 7, 64])
def test_with_any_number_of_partitions(
    folder: Path, expected: Content, tmp_path: Path, partitions: int
) -> None:
    assert content_after(mine(folder, tmp_path, partitions=partitions), tmp_path) == expected


def test_with_rows_shuffled_over_other_files(folder: Path, expected: Content, tmp_path: Path) -> None:
    write_shuffled(LOG.impressions, tmp_path / "impressions", num_files=5, rows_per_group=123)
    write_shuffled(LOG.engagements, tmp_path / "engagements", num_files=3, rows_per_group=7)
    assert content_after(mine(tmp_path, tmp_path / "out", partitions=3), tmp_path / "out") == expected


@pytest.mark.slow
def test_with_workers_killed_at_every_stage(folder: Path, expected: Content, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    run = run_alone(
        *arguments_of(folder, tmp_path / "out"), *SMALL, "--set", "spark.master=local[2,4]",
        PYTHONPATH=f"{ROOT / 'lib'}{os.pathsep}{ROOT / 'tests' / 'jobs' / 'faults'}",
        FAULT="kill",
        FAULT_MARKS=str(marks),
    )  # fmt: skip
    assert run.is_calm()
    assert content_after(run, tmp_path / "out") == expected
    killed = {mark.name for mark in marks.iterdir()}
    assert killed == {
        "scan_engagements",
        "scan_impressions",
        "decide_bucket",
        "count_suspects",
        "seal_bucket",
    }


def test_another_seed_is_another_choice(folder: Path, expected: Content, tmp_path: Path) -> None:
    capped = ("--set", "mining.negatives_per_user=3")
    first = content_after(mine(folder, tmp_path / "1", *capped), tmp_path / "1")
    other = content_after(mine(folder, tmp_path / "2", *capped, "--set", "mining.seed=2"), tmp_path / "2")
    assert first.ledger["over_cap"] > 0
    assert first.shards != other.shards != expected.shards


# However it is started


# However it is stored

Writer = Callable[[pa.Table, Path], None]


def cast_times(table: pa.Table, kind: pa.DataType) -> pa.Table:
    """The same moments in another type: whole milliseconds, so that none of them is cut."""
    name = "served_at" if "served_at" in table.column_names else "engaged_at"
    return table.set_column(table.schema.get_field_index(name), name, pc.cast(table[name], kind))


def whole_milliseconds(log: ToyLog) -> ToyLog:
    def floor(column: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.floor_temporal(column, unit="millisecond")

    return log.with_impressions(served_at=floor(log.impressions["served_at"])).with_engagements(
        engaged_at=floor(log.engagements["engaged_at"])
    )


ROUND_LOG = whole_milliseconds(LOG)


@pytest.fixture(scope="module")
def round_expected(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Content:
    """The content of the same log with times of whole milliseconds, as microseconds in UTC."""
    folder = ROUND_LOG.write(tmp_path_factory.mktemp("round"))
    return content_after(mine(folder, folder / "out"), folder / "out")


@pytest.mark.parametrize("unit", ["ms", "ns", "naive", "Asia/Shanghai", "int96"])
def test_times_of_any_unit_and_zone(round_expected: Content, tmp_path: Path, unit: str) -> None:
    for name in ("impressions", "engagements"):
        table = getattr(ROUND_LOG, name)
        if unit == "int96":
            write_parquet(table, tmp_path / name, use_deprecated_int96_timestamps=True)
            continue
        kinds = {
            "ms": pa.timestamp("ms", "UTC"),
            "ns": pa.timestamp("ns", "UTC"),
            "naive": pa.timestamp("us"),
        }
        write_parquet(cast_times(table, kinds.get(unit) or pa.timestamp("us", unit)), tmp_path / name)
    found = content_after(mine(tmp_path, tmp_path / "out"), tmp_path / "out")
    # The quarantine shows broken rows as they came; all that was decided is the same.
    assert (found.shards, found.ledger_files) == (round_expected.shards, round_expected.ledger_files)


def test_columns_of_any_width_and_encoding(expected: Content, tmp_path: Path) -> None:
    narrow = LOG.with_impressions(
        user_id=LOG.impressions["user_id"].cast(pa.int32()),
        ad_id=LOG.impressions["ad_id"].cast(pa.uint8()),
        position=LOG.impressions["position"].cast(pa.int64()),
        surface=LOG.impressions["surface"].combine_chunks().dictionary_encode(),
    )
    narrow.write(tmp_path)
    assert content_after(mine(tmp_path, tmp_path / "out"), tmp_path / "out") == expected


def test_folders_named_by_day_and_surface(folder: Path, expected: Content, tmp_path: Path) -> None:
    surfaces = LOG.impressions["surface"].combine_chunks().fill_null("all")
    rest = LOG.with_impressions(surface=None).impressions
    for surface in pc.unique(surfaces).to_pylist():
        rows = rest.filter(pc.equal(surfaces, surface))
        write_parquet(rows, tmp_path / "impressions" / "ds=2026-11-20" / f"surface={surface}")
    found = content_after(
        mine(folder, tmp_path / "out", "--impressions", str(tmp_path / "impressions")), tmp_path / "out"
    )
    assert (found.shards, found.ledger_files) == (expected.shards, expected.ledger_files)


def test_tables_of_the_catalog_by_name(spark: SparkSession, expected: Content, tmp_path: Path) -> None:
    spark.createDataFrame(LOG.impressions).write.mode("overwrite").saveAsTable("log_impressions")
    spark.createDataFrame(LOG.engagements).createOrReplaceTempView("log_engagements")
    assert (
        content_after(
            run_on(tmp_path, impressions="table: log_impressions", engagements="table: log_engagements"),
            tmp_path,
        )
        == expected
    )


def run_on(out: Path, **tables: str) -> JobRun:
    """Mine the toy day from tables that a configuration file names."""
    path = out / "own.yaml"
    out.mkdir(exist_ok=True)
    lines = [f"  {name}: {{{place}}}" for name, place in tables.items()]
    path.write_text("\n".join(["input:", *lines, ""]), encoding="utf-8")
    arguments = [
        part for part in arguments_of(out, out) if not part.startswith(("--impressions", "--engagements"))
    ]
    return run_here(*arguments, "--config", str(path), *SMALL)


COLUMNS = {
    "impressions": "request_id BIGINT, user_id BIGINT, ad_id BIGINT, served_at TIMESTAMP, surface STRING, "
    "position INT, dwell_ms INT",
    "engagements": "user_id BIGINT, ad_id BIGINT, kind STRING, engaged_at TIMESTAMP, request_id BIGINT",
}


def write_csv(table: pa.Table, path: Path) -> None:
    pacsv.write_csv(table, path, pacsv.WriteOptions(quoting_style="none"))


def write_json(table: pa.Table, path: Path) -> None:
    import json

    with path.open("w", encoding="utf-8") as file:
        for row in table.to_pylist():
            file.write(
                json.dumps({name: value for name, value in row.items() if value is not None}, default=str)
                + "\n"
            )
    assert pajson.read_json(path).num_rows == len(table)


def write_orc(table: pa.Table, path: Path) -> None:
    paorc.write_table(table, path)


@pytest.mark.parametrize(
    ("format_name", "write"), [("csv", write_csv), ("json", write_json), ("orc", write_orc)]
)
def test_files_of_other_formats(
    spark: SparkSession, expected: Content, tmp_path: Path, format_name: str, write: Writer
) -> None:
    tables = {}
    for name, columns in COLUMNS.items():
        path = tmp_path / f"{name}.{format_name}"
        table = getattr(LOG, name)
        write(table.select([column.split()[0] for column in columns.split(", ")]), path)
        tables[name] = f'path: {path}, format: {format_name}, columns: "{columns}", options: {{header: true}}'
    assert content_after(run_on(tmp_path / "out", **tables), tmp_path / "out") == expected


def test_a_path_of_the_command_line_is_read_in_the_configured_format(
    spark: SparkSession, expected: Content, tmp_path: Path
) -> None:
    formats = []
    for name in COLUMNS:
        write_orc(getattr(LOG, name), tmp_path / name)
        formats += ["--set", f"input.{name}.format=orc"]
    assert content_after(mine(tmp_path, tmp_path / "out", *formats), tmp_path / "out") == expected


# Strings for ids


def test_string_ids_are_hashed_as_spark_hashes_them(
    spark: SparkSession, expected: Content, tmp_path: Path
) -> None:
    text = LOG.with_text_ids()
    text.write(tmp_path)
    content = content_after(mine(tmp_path, tmp_path / "out"), tmp_path / "out")
    users = spark.sql("SELECT concat('user-', id) AS name FROM range(30)")
    columns = (f"xxhash64(name) & {2**63 - 1} AS id", "pmod(xxhash64(name), 4) AS bucket")
    bucket_of = {row.id: row.bucket for row in users.selectExpr(*columns).collect()}
    for entry in published(tmp_path / "out").shards:
        data = (day_of(tmp_path / "out") / entry.path).read_bytes()
        shard = decode_records(data, pa.schema([("user_id", pa.int64())]), entry.path)
        assert {bucket_of[user] for user in shard["user_id"].to_pylist()} == {entry.bucket}
    # One way round the hash: the same log with the hashed ids as longs has the same laws.
    hashed = {}
    for name in ("impressions", "engagements"):
        table = getattr(text, name)
        for column in ("user_id", "ad_id"):
            values = table[column].combine_chunks()
            ids = pa.array(hash_column(values) & np.int64(2**63 - 1), mask=np.asarray(values.is_null()))
            table = table.set_column(table.schema.get_field_index(column), column, ids)
        hashed[name] = table
    check_laws(tmp_path / "out", **hashed)
    # Only what a hash of the ids chooses may differ from the log with long ids.
    choice = ("over_cap", "negative")
    assert {name: count for name, count in content.ledger.items() if name not in choice} == {
        name: count for name, count in expected.ledger.items() if name not in choice
    }


def test_a_run_reads_only_the_row_groups_of_its_window(
    folder: Path, expected: Content, tmp_path: Path
) -> None:
    """The rows of the days beside it stand in row groups that nobody can read, and nobody does."""
    day = LOG.impressions["served_at"].cast(pa.int64()).to_numpy() // (24 * HOUR_US) - DAY_START_US // (
        24 * HOUR_US
    )
    path = tmp_path / "impressions.parquet"
    with pq.ParquetWriter(path, LOG.impressions.schema) as file:
        for of_day in (-1, 0, 1):
            file.write_table(LOG.impressions.filter(pa.array(day == of_day)))
    for number in (0, 2):
        spoil(path, number)
    run = mine(folder, tmp_path / "out", "--impressions", str(path))
    assert content_after(run, tmp_path / "out") == expected


def spoil(path: Path, row_group: int) -> None:
    """Overwrite all data of a row group; the footer stays whole."""
    group, content = pq.ParquetFile(path).metadata.row_group(row_group), bytearray(path.read_bytes())
    for number in range(group.num_columns):
        column = group.column(number)
        start = column.dictionary_page_offset or column.data_page_offset
        content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)
