"""State of a task by the exit code of its job: done, retried, or failed for good."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.jobs.dags.airflow_runs import Airflow, needs_airflow

pytestmark = [needs_airflow, pytest.mark.airflow]

JOB = """
import sys
print("loading")
print(f"exit.py: error: place: expected a, found {' '.join(sys.argv[1:])}; do b", file=sys.stderr)
sys.exit(int(sys.argv[-1]))
"""
SAID = "place: expected a, found {}; do b"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """An Airflow whose jobs end as they are told."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "jobs").mkdir()
    (home / "jobs" / "exit.py").write_text(JOB)
    return Airflow(home, {"HOME": str(home), "JOB_PYTHON": sys.executable})


def test_a_job_of_plain_python(airflow: Airflow) -> None:
    ends = airflow.end_tasks("RunJob", 0, 1, 2, 3, 143)
    said = {code: f"exit code {code}: exit.py: error: {SAID.format(code)}" for code in ("1", "2", "3", "143")}
    assert ends == {
        "0": "returned None",
        "1": f"AirflowException: {said['1']}",
        "2": f"AirflowFailException: {said['2']}",
        "3": f"AirflowFailException: {said['3']}",
        "143": f"AirflowException: {said['143']}",
    }


@pytest.mark.slow
def test_a_job_through_spark_submit(airflow: Airflow) -> None:
    ends = airflow.end_tasks("SubmitJob", 0, 1, 2, 3)
    assert ends["0"] == "returned ''"
    assert ends["1"].startswith("AirflowException: Cannot execute: spark-submit")
    assert ends["2"] == f"AirflowFailException: {SAID.format(2)}"
    # Not a failure of mining: the gate says what was said, and stops the run.
    assert ends["3"] == f"returned {SAID.format(3)!r}"


def test_a_spark_that_does_not_start_is_tried_again(airflow: Airflow, tmp_path: Path) -> None:
    ends = airflow.end_tasks("SubmitJob", 0, SPARK_PROPERTIES=str(tmp_path / "absent.conf"))
    assert ends["0"].startswith("AirflowException: Cannot execute")
