"""Spark 3.5 beside Spark 4: the mining jobs pass their tests under it, and mine the same bytes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.jobs.job_runs import MINE_NEGATIVES, ROOT, TIMEOUT_S, arguments_of, mine, run_alone
from tests.jobs.published_days import content_of
from tests.toy_logs import toy_log

PYTHON = Path(os.environ.get("SCROLLPAST_SPARK35_PYTHON") or ROOT / ".envs" / "spark35" / "bin" / "python")
JOBS = ("test_revoke_negatives.py", "test_build_vocabulary.py", "test_estimate_examination.py")
"""Between them: scans and the exchange, tables that are collected, windows and joins in Spark's own expressions."""
LEFT_OUT = "not finds_the_planted_curve and not same_log_gives"
"""Long ones, of the same expressions as the others."""
SMALL = ("--set", "mining.num_buckets=4", "--set", "spark.num_partitions=2")

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def spark_35() -> None:
    if not PYTHON.exists():
        pytest.skip(
            f"no Spark 3.5 at {PYTHON}: scripts/test.sh makes it, SCROLLPAST_SPARK35_PYTHON names another"
        )


def environment() -> dict[str, str]:
    """Without what names the Spark of this process."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}


def test_the_python_has_spark_35() -> None:
    version = [str(PYTHON), "-c", "import pyspark; print(pyspark.__version__)"]
    assert subprocess.run(version, capture_output=True, text=True, check=True).stdout.startswith("3.5.")


def test_a_day_has_the_same_bytes_as_under_spark_4(spark: SparkSession, tmp_path: Path) -> None:
    toy_log().write(tmp_path)
    newest = mine(tmp_path, tmp_path / "newest", *SMALL)
    assert newest.exit_code == 0, newest.stderr
    older = run_alone(
        *arguments_of(tmp_path, tmp_path / "older"), *SMALL, program=(str(PYTHON), str(MINE_NEGATIVES)),
        SPARK_HOME="", PYSPARK_PYTHON="", PYSPARK_DRIVER_PYTHON="",
    )  # fmt: skip
    assert older.exit_code == 0, older.stderr
    assert content_of(tmp_path / "older") == content_of(tmp_path / "newest")


def test_jobs_pass_their_tests() -> None:
    tests = [str(ROOT / "tests" / "jobs" / name) for name in JOBS]
    done = subprocess.run(
        [str(PYTHON), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", LEFT_OUT, *tests],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=4 * TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout and " skipped" not in done.stdout
