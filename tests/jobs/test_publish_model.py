"""The publication of models from its command line: what becomes current, and what does not."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from scrollpast.training.engine.distributed import process_group
from scrollpast.training.engine.trainer import Trainer
from tests.jobs.job_runs import JobRun, run_job
from tests.training.data.days import records, vocabulary
from tests.training.evaluation.toy import day
from tests.training.runs import small_options

pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass(frozen=True)
class Trained:
    """Two runs on the same day, the better one by AUC on the later day first, and a run on a day before."""

    better: Path
    worse: Path
    older: Path
    later: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    random = np.random.Generator(np.random.Philox(3))
    days = [
        day(folder, f"2026-11-{at}", f"2026-11-{at}T00:00:00Z", f"2026-11-{at + 1}T00:00:00Z", rows)
        for at, rows in (
            (19, records(random, 0, 60)),
            (20, records(random, 0, 60)),
            (21, records(random, 20, 60)),
        )
    ]
    known = vocabulary()
    uri = known.write(str(folder))
    runs = {"older": (days[0], 0), "first": (days[1], 0), "second": (days[1], 1)}
    with process_group("cpu"):
        for name, (learned, seed) in runs.items():
            facts = {"vocabulary": {"uri": uri, "version": known.version}, "days": [learned]}
            options = small_options("epochs=2", f"seed={seed}")
            Trainer(options, [learned], known, str(folder / name), torch.device("cpu"), facts=facts).train()
    auc = {}
    for name in ("first", "second"):
        out = folder / f"{name}.json"
        assert run_job("evaluate_two_tower", folder / name, days[2], "--out", out).exit_code == 0
        auc[name] = json.loads(out.read_text())["metrics"]["auc"]["mean"]
    worse, better = sorted(auc, key=lambda name: auc[name])
    return Trained(folder / better, folder / worse, folder / "older", days[2])


def publish(trained: Trained, run: Path, models: Path, *arguments: str) -> JobRun:
    done = run_job(
        "publish_model",
        run,
        trained.later,
        "--models",
        models,
        "--metric",
        "auc",
        "--largest-loss",
        "0",
        *arguments,
    )
    assert done.exit_code == 0, done.stderr
    return done


def current(models: Path) -> str:
    """Name of the run that is current."""
    return Path(json.loads((models / "current.json").read_text())["checkpoint"]).parents[1].name


def test_the_first_model_becomes_current(trained: Trained, tmp_path: Path) -> None:
    done = publish(trained, trained.worse, tmp_path)
    assert done.stdout.splitlines()[-1].startswith(f"published {tmp_path}/current.json: {trained.worse}")
    content = json.loads((tmp_path / "current.json").read_text())
    assert (content["trained_until"], content["evaluated_on"]) == ("2026-11-21T00:00:00Z", [trained.later])
    assert content["metrics"]["auc"]["difference"] is None


def test_a_model_that_is_not_worse_takes_its_place_and_says_whose(trained: Trained, tmp_path: Path) -> None:
    publish(trained, trained.worse, tmp_path)
    publish(trained, trained.better, tmp_path)
    assert current(tmp_path) == trained.better.name
    content = json.loads((tmp_path / "current.json").read_text())
    assert content["metrics"]["auc"]["difference"]["value"] > 0
    assert f"/{trained.worse.name}/" in content["replaced"]


def test_a_model_that_is_worse_leaves_the_pointer_as_it_is(trained: Trained, tmp_path: Path) -> None:
    publish(trained, trained.better, tmp_path)
    before = (tmp_path / "current.json").read_bytes()
    last = publish(trained, trained.worse, tmp_path).stdout.splitlines()[-1]
    assert last.startswith(f"kept {trained.better}")
    assert "auc loses" in last or "auc is worse" in last
    assert (tmp_path / "current.json").read_bytes() == before


def test_a_model_of_earlier_days_does_not_come_back_by_a_backfill(trained: Trained, tmp_path: Path) -> None:
    publish(trained, trained.worse, tmp_path)
    assert "--force goes back" in publish(trained, trained.older, tmp_path, "--largest-loss", "1").stdout
    assert current(tmp_path) == trained.worse.name


def test_publishing_the_current_model_again_does_nothing(trained: Trained, tmp_path: Path) -> None:
    publish(trained, trained.better, tmp_path)
    before = (tmp_path / "current.json").read_bytes()
    assert "nothing was done" in publish(trained, trained.better, tmp_path).stdout
    assert (tmp_path / "current.json").read_bytes() == before


def test_a_person_can_roll_back_also_when_the_current_model_is_gone(trained: Trained, tmp_path: Path) -> None:
    copy = shutil.copytree(trained.better, tmp_path / "copy")
    publish(trained, copy, tmp_path)
    shutil.rmtree(copy)
    refused = run_job("publish_model", trained.worse, trained.later, "--models", tmp_path)
    assert (refused.exit_code, current(tmp_path)) == (2, "copy")
    publish(trained, trained.worse, tmp_path, "--force")
    assert current(tmp_path) == trained.worse.name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metric", "click rate"), "--metric: expected a registered metric (recall@10, "),
        (
            ("--metric", "served share in top 10"),
            "--metric: expected a metric whose larger values are better,",
        ),
    ],
)
def test_a_mistake_is_one_line_and_publishes_nothing(
    trained: Trained, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = run_job("publish_model", trained.better, trained.later, "--models", tmp_path, *arguments)
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert message in done.stderr
    assert not (tmp_path / "current.json").exists()
