"""The daily DAG as a scheduler meets it every few seconds: imported, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.jobs.dags.airflow_runs import DAG_FILE, PEER, Airflow, needs_airflow

pytestmark = [needs_airflow, pytest.mark.airflow]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    return Airflow(tmp_path_factory.mktemp("airflow"))


@pytest.fixture(scope="module")
def imported(airflow: Airflow) -> dict[str, Any]:
    return airflow.import_dag()


def test_importing_it_opens_no_file_no_connection_and_no_process(imported: dict[str, Any]) -> None:
    assert imported["events"] == []


def test_importing_it_loads_nothing_heavy(imported: dict[str, Any]) -> None:
    assert "scrollpast" in imported["modules"]
    assert {"pyarrow", "numpy", "pandas", "numba", "pyspark", "torch"}.isdisjoint(imported["modules"])


def test_a_run_goes_from_the_logs_to_a_notification(imported: dict[str, Any]) -> None:
    assert {name: task["upstream"] for name, task in imported["tasks"].items()} == {
        "wait_for_impressions": [],
        "wait_for_engagements": [],
        "mine": ["wait_for_engagements", "wait_for_impressions"],
        "gate": ["mine"],
        "plan_training": ["gate"],
        "is_training_day": ["plan_training"],
        "vocabulary": ["is_training_day", "plan_training"],
        "train": ["plan_training", "vocabulary"],
        "evaluate": ["plan_training", "train"],
        "publish": ["evaluate", "plan_training"],
        "report": ["gate", "plan_training", "publish"],
        "notify": ["report"],
    }


def test_days_follow_each_other(imported: dict[str, Any]) -> None:
    assert (imported["max_active_runs"], imported["catchup"]) == (1, False)
    assert [name for name, task in imported["tasks"].items() if task["depends_on_past"]] == ["mine"]


def test_its_parameters_name_a_day_and_ask_for_a_model(imported: dict[str, Any]) -> None:
    assert imported["params"] == {"day": None, "train": False}


def test_its_variables_say_how_it_runs(airflow: Airflow) -> None:
    chosen = {
        "MINING_POOL": "spark",
        "TRAINING_POOL": "torch",
        "RETRIES": "5",
        "POKE_S": "7",
        "WAIT_H": "0.5",
    }
    tasks = airflow.import_dag(**chosen)["tasks"]
    assert {task["retries"] for task in tasks.values()} == {5}
    pools = {name: task["pool"] for name, task in tasks.items() if task["pool"] != "default_pool"}
    in_torch = dict.fromkeys(("train", "evaluate", "publish"), "torch")
    assert pools == {"mine": "spark", "vocabulary": "spark", **in_torch}
    for name in ("wait_for_impressions", "wait_for_engagements"):
        assert (tasks[name]["mode"], tasks[name]["poke_s"], tasks[name]["timeout_s"]) == (
            "reschedule",
            7,
            1800,
        )


def test_a_variable_that_makes_no_sense_is_named(airflow: Airflow) -> None:
    done = airflow.run("python", PEER, "import", DAG_FILE, TRAIN_ON="mondays")
    assert done.returncode == 1
    assert "SCROLLPAST_TRAIN_ON: expected one of daily, never, monday" in done.stderr
