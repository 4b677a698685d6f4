"""The export from its command line: of a run and of one checkpoint, and what it says of input that does not serve."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.engine.distributed import process_group
from scrollpast.training.engine.step_model import StepModel
from scrollpast.training.serving.user_tower import UserTower
from tests.jobs.job_runs import JobRun, run_job
from tests.training.data.days import vocabulary
from tests.training.runs import small_day, small_run

pytestmark = pytest.mark.filterwarnings("ignore")


def run(*arguments: object) -> JobRun:
    return run_job("export_towers", *arguments)


def error_of(done: JobRun) -> str:
    assert done.exit_code == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.is_calm(), done.stderr
    return done.stderr.strip().removeprefix("export_towers.py: error: ")


def measured(values: list[float]) -> object:
    def measure(model: StepModel) -> Mapping[str, float | None]:
        return {"recall@100": values.pop(0)}

    return measure


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of 8 steps: ``plain`` was never evaluated, ``measured`` was best at step 4; and the vocabulary."""
    folder = tmp_path_factory.mktemp("runs")
    day = small_day(folder)
    with process_group("cpu"):
        small_run(day, folder / "plain", "epochs=2", "max_steps=8").train()
        evaluator = measured([0.9, 0.1])
        options = ("epochs=2", "max_steps=8", "evaluation.every_steps=4")
        small_run(day, folder / "measured", *options, evaluator=evaluator).train()  # type: ignore[arg-type]
    vocabulary().write(str(folder))
    return folder


@pytest.fixture
def known(runs: Path) -> tuple[str, Path]:
    return "--vocabulary", runs / "vocabulary"


def step_of(out: Path) -> int:
    return int(json.loads((out / "export.json").read_text())["step"])


Known = tuple[str, Path]


@pytest.mark.parametrize(("name", "step"), [("plain", 8), ("measured", 4)])
def test_of_a_run_the_best_checkpoint_is_exported_or_else_the_last(
    runs: Path, known: Known, name: str, step: int, tmp_path: Path
) -> None:
    done = run(runs / name, "--out", tmp_path / "export", *known)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == (
        f"exported {runs / name}/checkpoints/step={step:08d} to {tmp_path / 'export'}: "
        "40 ads, 100 rows of users, 4 dimensions\n"
    )
    assert step_of(tmp_path / "export") == step
    assert UserTower.load(str(tmp_path / "export"))([1], [[2]], {"age": [20]}).shape == (1, 4)


def test_a_checkpoint_is_exported_by_its_folder(runs: Path, known: Known, tmp_path: Path) -> None:
    checkpoint = runs / "measured" / "checkpoints" / "step=00000008"
    assert run(checkpoint, "--out", tmp_path, *known).exit_code == 0
    assert step_of(tmp_path) == 8


@pytest.mark.parametrize("kind", ["flat", "ivf_flat", "ivf_pq"])
def test_the_kind_of_the_index_is_chosen(runs: Path, known: Known, kind: str, tmp_path: Path) -> None:
    from scrollpast.ann_index.index import AdIndex

    assert run(runs / "plain", "--out", tmp_path, *known, "--index", kind).exit_code == 0
    assert json.loads((tmp_path / "export.json").read_text())["index"] == {"kind": kind}
    tower = UserTower.load(str(tmp_path))
    rows, _ = AdIndex.load(str(tmp_path / "ads.faiss")).search(tower([1], [[2]], {"age": [20]}).numpy(), 50)
    assert sorted(rows[0][rows[0] > 0]) == list(range(1, 41))
    assert (tower.ad_ids(rows)[0] == -1).sum() == 10


def test_an_export_is_replaced_only_when_asked_to(runs: Path, known: Known, tmp_path: Path) -> None:
    assert run(runs / "plain", "--out", tmp_path, *known).exit_code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    message = error_of(run(runs / "measured", "--out", tmp_path, *known))
    assert message == (
        f"{tmp_path}/export.json: expected a folder without an export, found one; "
        "pass another --out, or --overwrite to replace the export"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert run(runs / "measured", "--out", tmp_path, *known, "--overwrite").exit_code == 0
    assert step_of(tmp_path) == 4


def test_what_is_no_checkpoint_is_told(runs: Path, known: Known, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing", runs / "plain" / "checkpoints"):
        message = error_of(run(place, "--out", tmp_path / "export", *known))
        assert message.startswith(f"{place}/checkpoint.json: expected the file that publishes a checkpoint")
    assert not (tmp_path / "export").exists()


def test_a_vocabulary_of_another_version_is_told(runs: Path, tmp_path: Path) -> None:
    other = Vocabulary(
        ad_ids=np.arange(41),
        counts=np.arange(41),
        feature_codes={"advertiser": np.arange(41) % 4},
        values={"advertiser": ("a", "b", "c"), "user_age": ("30", "20")},
        num_user_rows=100,
    )
    uri = other.write(str(tmp_path))
    message = error_of(run(runs / "plain", "--out", tmp_path / "export", "--vocabulary", uri))
    assert f"expected {vocabulary().version}, with which" in message
    assert f"found {other.version}" in message
    assert not (tmp_path / "export").exists()


def test_a_vocabulary_that_moved_can_be_named(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the runs' vocabulary is said to be in "toy"
    message = error_of(run(runs / "plain", "--out", tmp_path / "export"))
    assert f"expected vocabulary {vocabulary().version}, with which" in message
    assert "--vocabulary" in message


def test_a_file_is_no_place_for_an_export(runs: Path, known: Known, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = error_of(run(runs / "plain", "--out", tmp_path / "file", *known))
    assert "expected a folder to export to, found a file" in message
