"""Bad input from end to end: one clear line, the right exit code, no stack trace, and nothing published."""

from __future__ import annotations

import glob
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from tests.jobs.job_runs import ROOT, JobRun, arguments_of, mine, run_alone, run_here
from tests.toy_logs import DAY, toy_log, write_parquet

LOG = toy_log(60)
FAULTS = f"{ROOT / 'lib'}{os.pathsep}{ROOT / 'tests' / 'jobs' / 'faults'}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return LOG.write(tmp_path / "log")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def unpublished(out: Path) -> object:
    """Whatever a test does here, no day is published by it."""
    yield
    assert glob.glob(f"{out}/**/manifest.json", recursive=True) == []


@pytest.fixture
def no_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mistake is told before Spark is started."""

    def start(*_: object, **__: object) -> None:
        raise AssertionError("Spark was started")

    monkeypatch.setattr("scrollpast.mining.spark.session.spark_session", start)


def mistake(run: JobRun) -> str:
    """The message of a user's mistake."""
    assert run.exit_code == 2, run.stderr
    assert run.stdout == ""
    assert run.is_calm()
    return run.error


def refused(folder: Path, out: Path, *arguments: str) -> str:
    return mistake(run_here(*arguments_of(folder, out), *arguments))


# Told before Spark starts


@pytest.mark.usefixtures("no_spark")
class TestBeforeSparkStarts:
    def test_a_missing_column(self, folder: Path, out: Path) -> None:
        path = write_parquet(LOG.with_impressions(dwell_ms=None).impressions, folder / "impressions")
        assert refused(folder, out) == (
            f"impressions ({path}): expected the column dwell_ms (int (nulls allowed)), found only ad_id, country, "
            "position, request_id, served_at, surface, user_id; rename or add the column where the table is made"
        )

    def test_a_column_of_a_wrong_type(self, folder: Path, out: Path) -> None:
        times = LOG.engagements["engaged_at"].cast(pa.string())
        path = write_parquet(LOG.with_engagements(engaged_at=times).engagements, folder / "engagements")
        assert refused(folder, out) == (
            f"engagements.engaged_at ({path}): expected timestamp (UTC), found string; "
            "cast the column where the table is made"
        )

    @pytest.mark.parametrize("column", ["user_id", "ad_id", "request_id"])
    def test_an_id_that_is_a_string_in_one_table_and_a_long_in_the_other(
        self, folder: Path, out: Path, column: str
    ) -> None:
        text = LOG.engagements[column].cast(pa.string())
        write_parquet(LOG.with_engagements(**{column: text}).engagements, folder / "engagements")
        assert refused(folder, out) == (
            f"engagements.{column} ({folder / 'engagements'}): expected int64, as in {folder / 'impressions'}, "
            "found string; give both the same type: a string never equals a long"
        )

    def test_a_path_that_is_not_there(self, folder: Path, out: Path) -> None:
        assert refused(folder, out, "--engagements", "/no/such/folder") == (
            "engagements (/no/such/folder): expected a readable Parquet file or folder, found nothing there; "
            "check the path, the rights, and that its writer finished"
        )

    def test_a_file_that_is_no_parquet(self, folder: Path, out: Path, tmp_path: Path) -> None:
        path = tmp_path / "log.csv"
        path.write_text("request_id,user_id\n1,2\n")
        assert refused(folder, out, "--impressions", str(path)).startswith(
            f"impressions ({path}): expected a readable Parquet file or folder, found "
        )

    def test_a_truncated_file(self, folder: Path, out: Path) -> None:
        path = folder / "impressions" / "part-0.parquet"
        path.write_bytes(path.read_bytes()[:-100])
        assert refused(folder, out).startswith(
            f"impressions ({path}): expected a readable Parquet file or folder, found "
        )

    def test_an_empty_folder(self, folder: Path, out: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        assert refused(folder, out, "--impressions", str(tmp_path / "empty")) == (
            f"impressions ({tmp_path / 'empty'}): expected Parquet files, found an empty folder; "
            "check that the log of this day has arrived"
        )

    @pytest.mark.parametrize("table", ["impressions", "engagements"])
    def test_a_table_without_rows(self, folder: Path, out: Path, table: str) -> None:
        write_parquet(getattr(LOG, table).slice(0, 0), folder / table)
        assert refused(folder, out) == (
            f"{table} ({folder / table}): expected at least one row, found 1 Parquet file without rows; "
            "check that the log of this day has arrived"
        )

    def test_a_day_without_rows_is_told_from_when_to_when_there_are_some(
        self, folder: Path, out: Path
    ) -> None:
        times = pc.min_max(LOG.impressions["served_at"])
        first, last = (times[end].as_py().isoformat() for end in ("min", "max"))
        assert refused(folder, out, "--date", "2026-11-15") == (
            f"impressions ({folder / 'impressions'}): expected rows served from 2026-11-15T00:00:00+00:00 to "
            f"2026-11-16T00:00:00+00:00, found rows from {first} to {last}; "
            "check --date and --days, and that the log of these days has arrived"
        )

    def test_ads_are_needed_but_not_given(self, folder: Path, out: Path) -> None:
        assert refused(folder, out, "--set", "mining.guard.keys=[advertiser_id]") == (
            "input.ads: expected a path or a table, found neither; "
            "pass --ads PATH or set input.ads.path in the configuration"
        )

    def test_an_attribute_that_ads_do_not_have(self, folder: Path, out: Path) -> None:
        text = refused(folder, out, f"--ads={folder / 'ads'}", "--set", "mining.guard.keys=[brand]")
        assert "expected the column brand (string, long or boolean), found only ad_id, advertiser_id;" in text

    def test_a_user_feature_that_impressions_do_not_have(self, folder: Path, out: Path) -> None:
        text = refused(folder, out, "--set", "mining.user_features=[age, country]")
        assert "impressions (" in text
        assert "expected the column age (string, long or boolean), found only ad_id, country," in text

    def test_a_score_that_is_no_number(self, folder: Path, out: Path) -> None:
        text = refused(folder, out, "--set", "mining.score_column=country")
        assert text.startswith("impressions.country (")
        assert "expected double (nulls allowed), found string;" in text

    def test_an_examination_table_that_is_not_there(self, folder: Path, out: Path) -> None:
        text = refused(folder, out, "--set", "mining.examined.table=/no/such/table")
        assert text.startswith(
            "mining.examined.table (/no/such/table): expected a readable Parquet table, found "
        )

    def test_an_output_that_is_a_file(self, folder: Path, tmp_path: Path) -> None:
        taken = tmp_path / "taken"
        taken.write_text("not a folder")
        for place in (taken, taken / "below"):
            text = refused(folder, place)
            assert text.startswith(
                f"output.path ({place}/ds={DAY}): expected a folder that can be written to, found "
            )
            assert text.endswith("check the path, the rights and the space, or choose another --out")

    def test_an_output_where_nobody_may_write(self, folder: Path) -> None:
        # /proc takes no file from anybody, root included, who may write where rights say no.
        assert refused(folder, Path("/proc/scrollpast")).startswith(
            f"output.path (/proc/scrollpast/ds={DAY}): expected a folder that can be written to, found "
        )

    def test_no_output_at_all(self, folder: Path) -> None:
        run = run_here("--date", DAY, f"--impressions={folder / 'impressions'}")
        assert mistake(run) == (
            "output.path: expected a folder for the published days, found none; "
            "pass --out PATH or set output.path in the configuration"
        )

    def test_an_unknown_option(self, folder: Path, out: Path) -> None:
        text = refused(folder, out, "--set", "mining.negative_per_user=3")
        assert text.endswith("found unknown option 'negative_per_user'; did you mean negatives_per_user?")

    def test_a_value_out_of_range(self, folder: Path, out: Path, tmp_path: Path) -> None:
        (tmp_path / "own.yaml").write_text("mining:\n  negatives_per_user: 0\n")
        assert refused(folder, out, "--config", str(tmp_path / "own.yaml")) == (
            f"mining.negatives_per_user ({tmp_path / 'own.yaml'}): expected a value in [1, 1024], found 0; "
            "see conf/base.yaml for every option"
        )

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--date", "soon"], "--date: expected a day as 2026-11-21, found 'soon'; write year-month-day"),
            (["--date", "2026-11-31"], "--date: expected a day of November 2026, which has 30 days, found '2026"),
            (["--as-of", "2026-02-29T06:00"], "--as-of: expected a day of February 2026, which has 28 days, found "),
            (["--as-of", "2026-02-20T25:00"], "--as-of: expected a moment as 2026-11-23 or 2026-11-23T06:00:00, "),
            (["--as-of", "now"], "--as-of: expected a moment as 2026-11-23 or 2026-11-23T06:00:00, found 'now'; "),
            (["--days", "1000000"], "--days: expected at most 739,940, the days that end with 2026-11-20, found "),
            (
                ["--as-of", "2026-11-19T23:00:00"],
                "--as-of: expected days that have begun at the moment of --as-of, found --date 2026-11-20, and 2026-11",
            ),
        ],
    )  # fmt: skip
    def test_days_and_moments_that_cannot_be(
        self, folder: Path, out: Path, arguments: list[str], message: str
    ) -> None:
        assert refused(folder, out, *arguments).startswith(message)

    def test_a_day_in_the_future(self, folder: Path, out: Path) -> None:
        tables = [f"--{name}={folder / name}" for name in ("impressions", "engagements")]
        text = mistake(run_here("--date", "2999-01-01", *tables, f"--out={out}"))
        this_year = str(datetime.now(UTC).year)
        assert text.startswith(
            "--date: expected days that have begun at the moment of --as-of, found --date 2999-01-01, and "
            + this_year
        )

    def test_a_command_line_that_argparse_refuses(self, folder: Path, out: Path) -> None:
        run = run_here(*arguments_of(folder, out), "--days", "many")
        assert run.exit_code == 2
        assert run.stderr.endswith(
            "mine_negatives.py: error: argument --days: expected a whole number, 1 or more, found 'many'\n"
        )


# Found out while Spark reads


def test_a_day_without_positive_engagements_is_refused(spark: SparkSession, folder: Path, out: Path) -> None:
    hides = LOG.engagements.filter(pc.equal(LOG.engagements["kind"], "hide"))
    write_parquet(hides, folder / "engagements")
    text = mistake(mine(folder, out))
    assert re.fullmatch(
        rf"engagements \({folder / 'engagements'}\): expected engagements of a positive kind from "
        r"2026-11-20T00:00:00\+00:00 on, known at 2026-11-28T00:00:00\+00:00, found \d+ hide near the window; "
        "wait for the engagement feed: without engagements every clicked ad would become a negative; "
        "--set mining.require_engagements=false mines without engagements",
        text,
    )


def test_a_day_without_rows_in_a_table_without_statistics(
    spark: SparkSession, folder: Path, out: Path
) -> None:
    five_days = pa.scalar(5 * 86_400_000_000, pa.duration("us"))
    earlier = pc.subtract(LOG.engagements["engaged_at"], five_days)
    write_parquet(LOG.with_engagements(engaged_at=earlier).engagements, folder / "engagements")
    write_parquet(LOG.impressions, folder / "impressions", write_statistics=False)
    assert mistake(mine(folder, out, "--date", "2026-11-15")) == (
        f"impressions ({folder / 'impressions'}): expected rows served from 2026-11-15T00:00:00+00:00 to "
        "2026-11-16T00:00:00+00:00, found none; check --date and --days, and that the log of these days has arrived"
    )


def test_rows_without_a_time_make_no_day(spark: SparkSession, folder: Path, out: Path) -> None:
    """They count in every window, as they belong to none; a window of nothing else has no log yet."""
    five_days = pa.scalar(5 * 86_400_000_000, pa.duration("us"))
    earlier = pc.subtract(LOG.engagements["engaged_at"], five_days)
    write_parquet(LOG.with_engagements(engaged_at=earlier).engagements, folder / "engagements")
    is_first = pa.array(number < 20 for number in range(len(LOG.impressions)))
    times = pc.if_else(is_first, pa.scalar(None, pa.timestamp("us", "UTC")), LOG.impressions["served_at"])
    write_parquet(LOG.with_impressions(served_at=times).impressions, folder / "impressions")
    text = mistake(mine(folder, out, "--date", "2026-11-15"))
    assert "expected rows served from 2026-11-15T00:00:00+00:00 to 2026-11-16T00:00:00+00:00, found " in text


def spoil_a_row_group(path: Path) -> None:
    """Overwrite bytes in the middle of the last row group's data; footer and schema stay whole."""
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    offset = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[offset : offset + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)


@pytest.mark.slow
def test_a_broken_row_group_is_named_by_its_file(folder: Path, out: Path, tmp_path: Path) -> None:
    path = write_parquet(LOG.impressions, folder / "impressions", rows_per_group=300)
    spoil_a_row_group(path)
    # local[2] tries nothing again: the file would only be as broken as before.
    settings = ("--set", "spark.num_partitions=2", "--set", "spark.master=local[2]")
    run = run_alone(*arguments_of(folder, out), *settings, TMPDIR=str(tmp_path))
    text = mistake(run)
    assert text.startswith(f"{path}: expected a readable Parquet file or folder, found ")
    assert text.endswith("; check the path, the rights, and that its writer finished")
    assert text.isprintable()
    # The message says all there is to say: no log of Spark's is left behind for it.
    assert list(tmp_path.glob("scrollpast-spark-*.log")) == []


def failure(run: JobRun) -> str:
    """The message of a failure that is not the user's."""
    assert run.exit_code == 1, run.stderr
    assert run.stdout == ""
    assert run.is_calm()
    return run.error


def broken(fault: str, folder: Path, out: Path, marks: Path, *arguments: str) -> JobRun:
    marks.mkdir()
    return run_alone(
        *arguments_of(folder, out),
        *(
            "--set",
            "spark.num_partitions=2",
            "--set",
            "mining.num_buckets=4",
            "--set",
            "spark.master=local[2,4]",
        ),
        *arguments,
        PYTHONPATH=FAULTS,
        FAULT=fault,
        FAULT_MARKS=str(marks),
        TMPDIR=str(marks.parent),
    )


@pytest.mark.slow
def test_a_failure_in_a_task_names_sparks_log(folder: Path, out: Path, tmp_path: Path) -> None:
    # local[2] tries nothing again: the scan would only fail four times.
    text = failure(broken("fail", folder, out, tmp_path / "marks", "--set", "spark.master=local[2]"))
    found = re.fullmatch(
        r"Spark: expected all tasks to succeed, found RuntimeError: the scan was broken on purpose; "
        r"read Spark's log in (\S+), or run again with --debug; nothing was published",
        text,
    )
    assert found is not None, text
    assert "the scan was broken on purpose" in Path(found[1]).read_text(encoding="utf-8")


@pytest.mark.java
@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("spark.conf.spark.driver.memory=lots", "Invalid maximum heap size: -Xmxlots"),
        (
            "spark.master=nowhere",
            "SparkException: Master must either be yarn or start with spark, k8s, or local",
        ),
    ],
)
def test_a_session_that_does_not_start_says_why(
    folder: Path, out: Path, tmp_path: Path, setting: str, reason: str
) -> None:
    run = run_alone(*arguments_of(folder, out), "--set", setting, TMPDIR=str(tmp_path))
    log = next(tmp_path.glob("scrollpast-spark-*.log"))
    assert failure(run) == (
        f"Spark: expected a session to start, found {reason}; "
        f"check the section spark of the configuration and read Spark's log in {log}; nothing was published"
    )


@pytest.mark.slow
def test_a_ledger_that_does_not_add_up_publishes_nothing(folder: Path, out: Path, tmp_path: Path) -> None:
    text = failure(broken("lose a row", folder, out, tmp_path / "marks"))
    assert [mark.name for mark in (tmp_path / "marks").iterdir()] == ["decide"]
    found = re.fullmatch(
        r"ledger: expected ([\d,]+) impressions, as many as were read, found ([\d,]+) \(-1\); "
        r"this is a defect of the job, please report it with the log; nothing was published",
        text,
    )
    assert found is not None, text
    expected, counted = (int(number.replace(",", "")) for number in found.groups())
    assert counted == expected - 1
    # Shards were written by then: who reads them by their names finds none.
    assert list(out.glob("ds=*")) == []


def test_debug_shows_the_stack_trace(spark: SparkSession, folder: Path, out: Path) -> None:
    run = run_here(*arguments_of(folder, out), "--date", "yesterday", "--debug")
    assert run.exit_code == 2
    assert "Traceback (most recent call last):" in run.stderr


def test_broken_ids_do_not_stop_the_good_ones(spark: SparkSession, folder: Path, tmp_path: Path) -> None:
    everything_null = pa.nulls(len(LOG.impressions), pa.int64())
    half = np.arange(len(LOG.impressions)) % 2 == 0
    users = pc.if_else(pa.array(half), LOG.impressions["user_id"].combine_chunks(), everything_null)
    write_parquet(
        LOG.with_impressions(
            user_id=users, position=pa.nulls(len(half)), surface=pa.nulls(len(half))
        ).impressions,
        folder / "impressions",
    )
    # The gate would hold such a day.
    run = mine(folder, tmp_path / "published", "--set", "gate.bounds.invalid_share=null")
    assert run.exit_code == 0, run.stderr
