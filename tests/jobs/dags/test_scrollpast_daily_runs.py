"""The daily DAG run by a real Airflow on simulated days: three in a row, one that the gate holds, one again."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scripts.robustness.standalone import quick_java

from scrollpast.shards.manifest import read_manifest
from scrollpast.simulation.faults import Feeds, deliver_twice
from scrollpast.simulation.log import LogRequest, simulate_log
from scrollpast.simulation.shape import shape_from
from tests.jobs.dags.airflow_runs import Airflow, DagRun, needs_airflow

pytestmark = [needs_airflow, pytest.mark.airflow, pytest.mark.java, pytest.mark.slow]

DAYS = [date(2026, 11, day) for day in (17, 18, 19)]
TRAINED, FAULTY, AFTER, ABSENT = (date(2026, 11, day) for day in (19, 20, 21, 25))
FIXED = {"wait_for_impressions", "wait_for_engagements", "mine", "gate", "plan_training", "report", "notify"}
OF_TRAINING = {"vocabulary", "train", "evaluate", "publish"}
CONFIG = """
mining: {num_buckets: 2}
spark: {num_partitions: 2, conf: {spark.sql.shuffle.partitions: 2}}
training:
  max_steps: 4
  data: {batch_size: 32, num_workers: 0}
  model: {embedding_dim: 8, output_dim: 8, user_layers: [], ad_layers: []}
  negatives: {random: {count: 16}}
"""
PROPERTIES = """
spark.ui.enabled false
spark.ui.showConsoleProgress false
spark.driver.memory 1g
spark.log.level WARN
spark.driver.defaultJavaOptions {java}
"""


def write_logs(folder: Path) -> None:
    """Four days as a platform lays them out; of the last one, all impressions came twice."""
    # Broken rows have no time and would come with every day; late engagements would come with days that are none here.
    shape = shape_from(["impressions_per_user=60", "broken=0", "engagement_days_after=2"])
    simulate_log(LogRequest(48_000, 4, FAULTY, 1, shape), folder / "raw")
    feeds = Feeds(*(pq.read_table(folder / "raw" / name) for name in ("impressions", "engagements")))
    start_us = int(datetime(FAULTY.year, FAULTY.month, FAULTY.day, tzinfo=UTC).timestamp()) * 1_000_000
    feeds = deliver_twice(feeds, start_us)
    for name, table, moment in (
        ("impressions", feeds.impressions, "served_at"),
        ("engagements", feeds.engagements, "engaged_at"),
    ):
        days = pc.strftime(table[moment], "%Y-%m-%d")
        for day in map(str, (*DAYS, FAULTY, AFTER)):
            of_day = folder / "logs" / name / f"ds={day}"
            of_day.mkdir(parents=True)
            pq.write_table(table.filter(pc.equal(days, pa.scalar(day))), of_day / "part-0.parquet")
            (of_day / "_SUCCESS").touch()


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """An Airflow whose DAG works below its own folder, on a local Spark."""
    home = tmp_path_factory.mktemp("airflow")
    write_logs(home)
    (home / "conf.yaml").write_text(CONFIG)
    (home / "spark.conf").write_text(PROPERTIES.format(java=quick_java()))
    airflow = Airflow(
        home,
        {
            "JOB_PYTHON": sys.executable,
            "CONFIG": f"{home}/conf.yaml",
            "LOGS": f"{home}/logs",
            "ADS": f"{home}/raw/ads",
            "OUT": f"{home}/out",
            "FEATURES": "category_id",
            "USER_ROWS": "1024",
            "TRAIN_ON": "thursday",
            "TRAIN_DAYS": "2",
            "SPARK_PROPERTIES": f"{home}/spark.conf",
            "RETRIES": "2",
            "RETRY_DELAY_S": "1",
            "POKE_S": "1",
            "WAIT_H": "0.001",
            "NOTIFY": "notified.tell",
        },
    )
    migrated = airflow.run("airflow", "db", "migrate")
    assert migrated.returncode == 0, migrated.stderr
    return airflow


@pytest.fixture(scope="module")
def backfilled(airflow: Airflow) -> list[DagRun]:
    """Three days, one after the other."""
    return airflow.backfill(DAYS[0], DAYS[-1])


@pytest.fixture(scope="module")
def held(airflow: Airflow, backfilled: list[DagRun]) -> tuple[dict[str, bytes], DagRun, dict[str, bytes]]:
    """The day with the fault, though a training was asked for; what was there before, and what is after."""
    before = content_of(airflow)
    return before, airflow.test_dag(FAULTY, train=True), content_of(airflow)


def content_of(airflow: Airflow) -> dict[str, bytes]:
    """Every file of what the jobs publish."""
    out = airflow.home / "out"
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def told(airflow: Airflow, day: date) -> list[tuple[bool, str, str]]:
    events: list[dict[str, Any]] = [json.loads(line) for line in airflow.notified.read_text().splitlines()]
    return [(it["is_done"], it["task_id"], it["message"]) for it in events if it["day"] == str(day)]


def test_three_days_are_mined_in_order_and_reported(airflow: Airflow, backfilled: list[DagRun]) -> None:
    for day, run in zip(DAYS, backfilled, strict=True):
        assert run.exit_code == 0, run.output
        assert run.succeeded >= FIXED, run.states
        manifest = read_manifest(f"{airflow.home}/out/negatives/ds={day}")
        assert manifest.num_negatives > 0
        assert manifest.as_of.startswith(str(day.replace(day=day.day + 2)))
        assert (airflow.home / "out" / "reports" / f"ds={day}.html").exists()
        assert [(done, task) for done, task, _ in told(airflow, day)] == [(True, "notify")]
    created = [read_manifest(f"{airflow.home}/out/negatives/ds={day}").created_at for day in DAYS]
    assert created == sorted(created)


def test_a_model_is_trained_on_its_weekday_alone_and_on_the_days_before(
    airflow: Airflow, backfilled: list[DagRun]
) -> None:
    assert [run.succeeded >= OF_TRAINING for run in backfilled] == [False, False, True]
    assert {run.states["train"] for run in backfilled[:2]} == {"skipped"}
    current = json.loads((airflow.home / "out" / "models" / "current.json").read_text())
    assert current["trained_on"] == [f"{airflow.home}/out/negatives/ds={day}" for day in DAYS[:2]]
    assert current["evaluated_on"] == [f"{airflow.home}/out/negatives/ds={TRAINED}"]
    assert (Path(current["checkpoint"]) / "metrics.json").exists()


def test_a_day_that_the_gate_holds_stops_what_follows_and_is_not_tried_again(
    airflow: Airflow, held: tuple[dict[str, bytes], DagRun, dict[str, bytes]]
) -> None:
    _, run, _ = held
    assert run.exit_code == 1
    assert (run.states["mine"], run.states["gate"], run.tries["gate"]) == ("success", "failed", 1), run.output
    after = {*OF_TRAINING, "plan_training", "is_training_day", "report", "notify"}
    assert {run.states[task] for task in after} == {"upstream_failed"}
    ((is_done, task, message),) = told(airflow, FAULTY)
    assert (is_done, task) == (False, "gate")
    assert "duplicate_share" in message
    assert "--release" in message


def test_a_day_that_the_gate_holds_publishes_nothing(
    held: tuple[dict[str, bytes], DagRun, dict[str, bytes]],
) -> None:
    before, _, after = held
    assert {path: after.get(path) for path in before} == before
    new = after.keys() - before.keys()
    assert f"negatives/held/ds={FAULTY}/manifest.json" in new
    assert not any(path.endswith(f"ds={FAULTY}/manifest.json") and "held" not in path for path in new)
    assert not any(path.startswith(("models/", "reports/", "vocabulary/")) for path in new)


def test_the_same_day_again_changes_nothing(
    airflow: Airflow, held: tuple[dict[str, bytes], DagRun, dict[str, bytes]]
) -> None:
    _, _, before = held
    run = airflow.test_dag(TRAINED)
    assert run.exit_code == 0, run.output
    assert run.succeeded >= FIXED | OF_TRAINING
    assert "already published from the same input; nothing was done" in run.output
    assert "is the current model already; nothing was done" in run.output
    after = content_of(airflow)
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} == set()


def test_a_log_that_does_not_come_is_waited_for_and_then_told(
    airflow: Airflow, held: tuple[dict[str, bytes], DagRun, dict[str, bytes]]
) -> None:
    patient = replace(airflow, settings={**airflow.settings, "RETRIES": "0"})
    run = patient.test_dag(ABSENT)
    assert run.exit_code == 1
    assert run.states["mine"] == "upstream_failed", run.output
    assert {task for _, task, _ in told(airflow, ABSENT)} == {"wait_for_impressions", "wait_for_engagements"}
