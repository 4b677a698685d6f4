"""Training plan: the days that a model is trained on, and the folder of its run."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np

from scrollpast.orchestration.training_plan import TrainingPlan, plan_training
from scrollpast.shards.manifest import MANIFEST_NAME
from tests.training.data.days import records, write_day

DAY = date(2026, 11, 20)


def publish(folder: Path, *days: int, seed: int = 1) -> None:
    for day in days:
        random = np.random.Generator(np.random.Philox(seed))
        write_day(folder, [records(random, 0, 5)], ds=f"2026-11-{day}")


def plan(folder: Path, num_days: int = 3) -> TrainingPlan:
    found = plan_training(str(folder), "models", DAY, num_days)
    assert found is not None
    return found


def test_it_takes_the_published_days_before_the_one_that_is_held_out(tmp_path: Path) -> None:
    publish(tmp_path, 16, 17, 19, 20, 21)
    planned = plan(tmp_path)
    assert planned.days == tuple(f"{tmp_path}/ds=2026-11-{day}" for day in (17, 19))
    assert planned.held_out == f"{tmp_path}/ds=2026-11-20"
    assert planned.run.startswith("models/ds=2026-11-20/inputs=")


def test_without_a_day_before_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    publish(tmp_path, 16, 20, 21)
    assert plan_training(str(tmp_path), "models", DAY, 3) is None


def test_the_same_days_give_the_same_run_and_other_content_another(tmp_path: Path) -> None:
    publish(tmp_path, 18, 19)
    before = plan(tmp_path)
    assert plan(tmp_path) == before
    (tmp_path / "ds=2026-11-19" / MANIFEST_NAME).unlink()
    publish(tmp_path, 19, seed=2)
    assert plan(tmp_path).days == before.days
    assert plan(tmp_path).run != before.run
