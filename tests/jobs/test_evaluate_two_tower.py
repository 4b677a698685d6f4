"""The evaluation job from its command line, on a run of the training job's loop."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scrollpast.ann_index.index import AdIndex
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.engine.checkpoint import published_checkpoints
from scrollpast.training.engine.distributed import process_group
from scrollpast.training.engine.trainer import Trainer
from tests.jobs.job_runs import JobRun, run_job
from tests.training.data.days import records, vocabulary
from tests.training.evaluation.toy import day
from tests.training.runs import small_options

pytestmark = pytest.mark.filterwarnings("ignore")


def evaluate(*arguments: str) -> JobRun:
    return run_job("evaluate_two_tower", *arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A run's folder, the day it was trained on, and a later one."""
    folder = tmp_path_factory.mktemp("trained")
    random = np.random.Generator(np.random.Philox(3))
    before = day(folder, "2026-11-20", "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z", records(random, 0, 60))
    after = day(folder, "2026-11-21", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z", records(random, 20, 60))
    known = vocabulary()
    facts = {"vocabulary": {"uri": known.write(str(folder)), "version": known.version}, "days": [before]}
    with process_group("cpu"):
        options = small_options("epochs=2")
        Trainer(options, [before], known, str(folder / "run"), torch.device("cpu"), facts=facts).train()
    return folder / "run", before, after


def test_it_prints_a_table_and_writes_what_it_printed(trained: tuple[Path, str, str], tmp_path: Path) -> None:
    run, before, after = trained
    done = evaluate(str(run), after, "--out", str(tmp_path / "metrics.json"))
    assert done.exit_code == 0, done.stderr
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert (content["trained_on"], content["evaluated_on"]) == ([before], [after])
    verdict = content["verdict"]
    assert done.stdout.splitlines()[0] == (
        f"exposure-weighted recall@100: model {verdict['model']:.4f}, "
        f"best baseline ({verdict['best_baseline']}) {verdict['baseline']:.4f}, difference "
        f"{verdict['difference']:+.4f} [{verdict['low']:+.4f}, {verdict['high']:+.4f}]: {verdict['verdict']}"
    )
    assert verdict["best_baseline"] in content["baselines"]
    assert {"positives", "click rate", "item neighbours"} <= set(content["baselines"])
    assert content["exposure_weighted"]["clip"] == 0.9
    assert (
        0
        < content["exposure_weighted"]["effective_sample_size"]
        <= content["exposure_weighted"]["num_targets"]
    )
    assert any(line.startswith("baselines") for line in done.stdout.splitlines())
    assert content["vocabulary"]["version"] == vocabulary().version
    shown = next(line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["recall@10"])
    assert shown[1] == f"{content['metrics']['recall@10']['mean']:.4f}"
    assert content["metrics"]["recall@10"]["low"] < content["metrics"]["recall@10"]["mean"]
    assert content["metrics"]["quantised/recall@100"]["mean"] == content["metrics"]["recall@100"]["mean"]
    again = evaluate(str(run), after, "--out", str(tmp_path / "again.json"))
    assert again.exit_code == 0
    assert json.loads((tmp_path / "again.json").read_text())["metrics"] == content["metrics"]


def test_it_measures_the_index_that_the_export_writes_by_default(
    trained: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _, after = trained
    searched: list[AdIndex] = []
    search = AdIndex.search

    def watched(index: AdIndex, users: np.ndarray, k: int) -> Any:
        searched.append(index)
        return search(index, users, k)

    monkeypatch.setattr(AdIndex, "search", watched)
    # Another --seed chooses other users and intervals; the clusters stay those of the export.
    done = evaluate(str(run), after, "--out", str(tmp_path / "metrics.json"), "--seed", "7")
    assert done.exit_code == 0, done.stderr
    assert run_job("export_towers", run, "--out", tmp_path / "export").exit_code == 0
    kind = json.loads((tmp_path / "export" / "export.json").read_text())["index"]["kind"]
    assert f"\nthrough the exported index ({kind})  " in done.stdout
    assert json.loads((tmp_path / "metrics.json").read_text())["index"] == {"kind": kind}
    assert searched
    for number, index in enumerate(searched):
        index.save(str(tmp_path / f"{number}.faiss"))
        assert (tmp_path / f"{number}.faiss").read_bytes() == (tmp_path / "export" / "ads.faiss").read_bytes()


def test_an_evaluation_that_finds_the_same_again_leaves_the_file_alone(
    trained: tuple[Path, str, str], tmp_path: Path
) -> None:
    run, _, after = trained
    out = tmp_path / "metrics.json"
    assert evaluate(str(run), after, "--out", str(out)).exit_code == 0
    out.write_text(json.dumps(json.loads(out.read_text()) | {"created_at": "yesterday"}))
    done = evaluate(str(run), after, "--out", str(out))
    assert done.stdout.splitlines()[-1] == f"{out} says the same already; nothing was written"
    assert json.loads(out.read_text())["created_at"] == "yesterday"
    evaluate(str(run), after, "--out", str(out), "--seed", "1")
    assert json.loads(out.read_text())["created_at"] != "yesterday"


def test_a_day_that_was_trained_on_is_refused(trained: tuple[Path, str, str]) -> None:
    run, before, _ = trained
    done = evaluate(str(run), before)
    assert done.exit_code == 2
    assert "evaluate on later days" in done.stderr


def test_another_vocabulary_is_refused(trained: tuple[Path, str, str], tmp_path: Path) -> None:
    run, _, after = trained
    other = Vocabulary(np.arange(3), np.arange(3), {}, {}, num_user_rows=5).write(str(tmp_path))
    done = evaluate(str(run), after, "--vocabulary", other)
    assert done.exit_code == 2
    assert f"expected {vocabulary().version}, with which" in done.stderr


def test_what_is_no_checkpoint_is_said_to_be_none(trained: tuple[Path, str, str], tmp_path: Path) -> None:
    done = evaluate(str(tmp_path), trained[2])
    assert done.exit_code == 2
    assert "checkpoint.json: expected the file that publishes a checkpoint, found none" in done.stderr


def test_a_damaged_checkpoint_is_one_line(trained: tuple[Path, str, str], tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy)
    for part in copy.rglob("*.distcp"):
        part.write_bytes(b"")
    done = evaluate(str(copy), trained[2])
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "expected a checkpoint of this model" in done.stderr


def test_an_export_carries_the_metrics_of_the_evaluation(
    trained: tuple[Path, str, str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    checkpoint = published_checkpoints(str(run))[-1].uri

    def about(name: str) -> dict[str, Any]:
        done = run_job("export_towers", checkpoint, "--out", tmp_path / name, "--index", "flat")
        assert done.exit_code == 0, done.stderr
        return dict(json.loads((tmp_path / name / "export.json").read_text()))

    assert (about("before")["metrics"], about("before-2")["evaluated_on"]) == (None, None)
    assert evaluate(checkpoint, trained[2]).exit_code == 0
    written = Path(checkpoint) / "metrics.json"
    evaluation = json.loads(written.read_text())
    after = about("after")
    assert after["metrics"] == {
        name: value and value["mean"] for name, value in evaluation["metrics"].items()
    }
    assert after["metrics"]["recall@100"] > 0
    assert after["evaluated_on"] == [trained[2]]
    for damaged in (
        "{",
        "[]",
        json.dumps({**evaluation, "step": 1}),
        json.dumps({**evaluation, "metrics": 3}),
    ):
        written.write_text(damaged)
        refused = run_job("export_towers", checkpoint, "--out", tmp_path / "refused")
        assert refused.exit_code == 1
        assert f"{written}: expected an evaluation of schema_version 1 and step " in refused.stderr
        assert "evaluate the checkpoint again" in refused.stderr
    assert not (tmp_path / "refused").exists()


def test_a_folder_without_truth_is_the_users_mistake(trained: tuple[Path, str, str], tmp_path: Path) -> None:
    run, _, after = trained
    done = evaluate(str(run), after, "--out", str(tmp_path / "metrics.json"), "--truth", str(tmp_path))
    assert done.exit_code == 2
    assert f"--truth {tmp_path}: expected a simulated log with truth_users/" in done.stderr
    assert not (tmp_path / "metrics.json").exists()
