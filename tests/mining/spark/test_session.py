"""The Spark session of a job, and what becomes of Spark's errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from scrollpast.config import Spark
from scrollpast.errors import CorruptShardError, ScrollpastError, UserError
from scrollpast.mining.spark.session import condense, first_line, spark_session, without_spark_codes


def fail_in_a_task(spark: SparkSession, error: Exception) -> None:
    def fail(batches: Any) -> Any:
        yield from batches
        raise error

    spark.range(1).mapInArrow(fail, "id long").collect()


def test_a_session_that_runs_already_is_used_and_left_running(spark: SparkSession) -> None:
    with spark_session(Spark(), "another job", debug=False) as session:
        assert session.sparkContext is spark.sparkContext
    assert spark.range(3).count() == 3


@pytest.mark.slow
def test_an_archive_that_java_does_not_like_is_done_without(tmp_path: Path) -> None:
    (tmp_path / ".scrollpast").mkdir()
    (tmp_path / ".scrollpast" / "spark.jsa").write_bytes(b"of another Java")
    program = f"""
import sys
from scrollpast.config import Spark
from scrollpast.mining.spark.session import spark_session
sys.prefix = {str(tmp_path)!r}
with spark_session(Spark(master="local[1]"), "archive", debug=True) as spark:
    management = spark.sparkContext._jvm.java.lang.management.ManagementFactory
    print([option for option in management.getRuntimeMXBean().getInputArguments() if "jsa" in option])
    print(spark.range(3).count())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [f"['-XX:SharedArchiveFile={tmp_path}/.scrollpast/spark.jsa']", "3"]
    assert "archive" not in done.stderr


def test_times_are_utc_whatever_the_machine_says(spark: SparkSession) -> None:
    with spark_session(Spark(), "times", debug=False) as session:
        assert session.conf.get("spark.sql.session.timeZone") == "UTC"


def test_a_setting_of_the_configuration_reaches_spark(spark: SparkSession) -> None:
    with spark_session(Spark(conf={"spark.sql.shuffle.partitions": "3"}), "settings", debug=False) as session:
        assert session.conf.get("spark.sql.shuffle.partitions") == "3"
        session.conf.set("spark.sql.shuffle.partitions", "2")


def test_workers_run_the_python_that_started_the_job(spark: SparkSession) -> None:
    def executable(batches: Any) -> Any:
        import sys

        for _ in batches:
            yield pa.RecordBatch.from_pydict({"path": [sys.executable]})

    found = spark.range(1).mapInArrow(executable, "path string").first()
    assert found is not None
    assert os.path.realpath(found.path) == os.path.realpath(os.environ["PYSPARK_PYTHON"])


def test_an_error_of_ours_in_a_task_arrives_whole_with_its_exit_code(spark: SparkSession) -> None:
    mistake = UserError("impressions (a.parquet)", expected="rows", found="none", remedy="look again")
    with pytest.raises(ScrollpastError) as caught, spark_session(Spark(), "mistake", debug=False) as session:
        fail_in_a_task(session, mistake)
    assert str(caught.value) == "impressions (a.parquet): expected rows, found none; look again"
    assert caught.value.exit_code == 2


def test_a_failure_of_ours_in_a_task_keeps_its_own_exit_code(spark: SparkSession) -> None:
    fault = CorruptShardError("part-1", expected="a CRC", found="another", remedy="mine again")
    with pytest.raises(ScrollpastError) as caught, spark_session(Spark(), "fault", debug=False) as session:
        fail_in_a_task(session, fault)
    assert (str(caught.value), caught.value.exit_code) == (
        "part-1: expected a CRC, found another; mine again",
        1,
    )


def test_any_other_failure_in_a_task_is_one_line(spark: SparkSession) -> None:
    with pytest.raises(ScrollpastError) as caught, spark_session(Spark(), "failure", debug=False) as session:
        fail_in_a_task(session, ZeroDivisionError("nothing to divide by"))
    assert caught.value.exit_code == 1
    assert str(caught.value) == (
        "Spark: expected all tasks to succeed, found ZeroDivisionError: nothing to divide by; "
        "read Spark's log, or run again with --debug"
    )


def test_a_mistake_found_outside_spark_stays_as_it_is(spark: SparkSession) -> None:
    mistake = UserError("--date", expected="a day", found="'x'", remedy="write one")
    with pytest.raises(UserError) as caught, spark_session(Spark(), "outside", debug=False):
        raise mistake
    assert caught.value is mistake


def test_an_error_of_other_origin_is_not_taken_for_sparks() -> None:
    error = ValueError("scrollpast.errors.UserError: quoted")
    assert condense(error, None) is error


def test_an_error_of_the_jvm_without_python_names_its_reason() -> None:
    text = (
        "An error occurred while calling o1.collect.\n: org.apache.spark.SparkException: Job aborted\n"
        "Caused by: java.lang.OutOfMemoryError: Java heap space\n\tat java.base/java.util.Arrays.copyOf\n"
    )
    found = condense(PySparkException(text), "/tmp/spark.log")
    assert str(found) == (
        "Spark: expected all tasks to succeed, found java.lang.OutOfMemoryError: Java heap space; "
        "read Spark's log in /tmp/spark.log, or run again with --debug"
    )


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "[PARQUET_TYPE_ILLEGAL] Illegal Parquet type: INT64. SQLSTATE: 42846",
            "Illegal Parquet type: INT64",
        ),
        (
            "[TABLE_OR_VIEW_NOT_FOUND.WITH_HINT] The table `a` is not there; SQLSTATE: 42P01",
            "The table `a` is not there",
        ),
        ("plain words", "plain words"),
    ],
)
def test_names_that_spark_gives_its_errors_reach_nobody(message: str, shown: str) -> None:
    assert without_spark_codes(message) == shown
    assert first_line(ValueError(f"\n {message}\nmore")) == shown
