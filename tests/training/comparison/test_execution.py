"""Comparisons in this process: what is finished is kept, and the table does not tell in how many goes it came."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from scrollpast.errors import UserError
from scrollpast.training.comparison.cli import run_comparison
from scrollpast.training.engine.checkpoint import published_checkpoints
from scrollpast.training.engine.distributed import process_group
from scrollpast.training.evaluation.baselines.registry import BASELINES
from tests.training.comparison.days import comparison, toy_days

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return toy_days(tmp_path_factory.mktemp("days"))


@pytest.fixture(scope="module")
def device() -> Iterator[torch.device]:
    with process_group("cpu") as device:
        yield device


@pytest.fixture(scope="module")
def whole(days: dict[str, str], device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All seven arms, in one go."""
    out = tmp_path_factory.mktemp("whole")
    assert run_comparison(comparison(days, out), device) is not None
    return out


def results(out: Path) -> dict[Path, int]:
    """The results of runs by their path, with when they were written."""
    found = (out / "runs").rglob("result-*.parquet")
    return {path.relative_to(out): path.stat().st_mtime_ns for path in found}


def test_every_arm_is_trained_with_every_seed(whole: Path) -> None:
    names = sorted("/".join(path.parts[1:4]) for path in results(whole))
    arms = [("all", 2), ("filtered", 2), ("in_batch", 0), ("naive", 2), ("neighbours", 2), ("random", 0)]
    expected = [
        f"arm={arm}/ratio={ratio}/seed={seed}" for arm, ratio in [*arms, ("weighted", 2)] for seed in (0, 1)
    ]
    assert names == expected


def test_what_is_finished_is_kept_and_the_table_is_the_same(
    whole: Path, days: dict[str, str], device: torch.device, tmp_path: Path
) -> None:
    # First some arms with one seed, as if it had been stopped there; then all of them.
    part = run_comparison(
        comparison(days, tmp_path, "comparison.seeds=[1]", "comparison.arms=[weighted, random, naive]"),
        device,
    )
    assert part is not None
    before = results(tmp_path)
    assert len(before) == 3
    assert run_comparison(comparison(days, tmp_path, "comparison.seeds=[1, 0]"), device) is not None
    after = results(tmp_path)
    assert {path: after[path] for path in before} == before
    assert after.keys() == results(whole).keys()
    for name in ("comparison.json", "comparison.txt", "comparison.parquet"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_an_option_that_changes_what_is_learned_makes_new_runs_beside_the_old(
    whole: Path, days: dict[str, str], device: torch.device, tmp_path: Path
) -> None:
    arms = ["comparison.arms=[random, weighted]", "comparison.seeds=[0]", "comparison.metrics=[auc]"]
    assert run_comparison(comparison(days, tmp_path, *arms), device) is not None
    before = results(tmp_path)
    changed = [*arms, "training.negatives.hard.weight=5"]
    assert run_comparison(comparison(days, tmp_path, *changed), device) is not None
    after = results(tmp_path)
    assert {path: after[path] for path in before} == before
    assert len(after) == 2 * len(before)
    # Measured otherwise, nothing is trained again: a second result beside the first.
    fewer = [*arms, "comparison.max_users=40"]
    assert run_comparison(comparison(days, tmp_path, *fewer), device) is not None
    assert {path.parent for path in results(tmp_path)} == {path.parent for path in after}
    assert len(results(tmp_path)) == len(after) + len(before)


def test_a_run_that_was_trained_and_not_measured_is_not_trained_again(
    days: dict[str, str], device: torch.device, tmp_path: Path
) -> None:
    config = comparison(days, tmp_path, "comparison.arms=[in_batch, random]", "comparison.seeds=[0]")
    assert run_comparison(config, device) is not None
    table = (tmp_path / "comparison.json").read_bytes()
    for path in results(tmp_path):
        (tmp_path / path).unlink()
    checkpoints = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint.json")}
    assert len(checkpoints) == 2
    assert run_comparison(config, device) is not None
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint.json")} == checkpoints
    assert (tmp_path / "comparison.json").read_bytes() == table


def test_a_run_that_was_killed_on_the_way_goes_on_from_its_checkpoint(
    whole: Path, days: dict[str, str], device: torch.device, tmp_path: Path
) -> None:
    arms = ["comparison.arms=[in_batch, random]", "training.checkpoints.every_steps=1"]
    config = comparison(days, tmp_path, *arms, "training.checkpoints.keep_last=9")
    assert run_comparison(config, device) is not None
    table = (tmp_path / "comparison.json").read_bytes()
    # Files that a kill after the second step of a run leaves.
    (killed,) = (path for path in results(tmp_path) if "arm=random/ratio=0/seed=1" in str(path))
    (tmp_path / killed).unlink()
    *_, last = published_checkpoints(str((tmp_path / killed).parent))
    assert last.step == 3
    (Path(last.uri) / "checkpoint.json").unlink()
    first = Path(published_checkpoints(str((tmp_path / killed).parent))[0].uri) / "checkpoint.json"
    before = first.stat().st_mtime_ns
    assert run_comparison(config, device) is not None
    assert (tmp_path / "comparison.json").read_bytes() == table
    assert first.stat().st_mtime_ns == before


def test_arms_see_different_negatives(whole: Path) -> None:
    rows = json.loads((whole / "comparison.json").read_text())["rows"]
    values = [row["value"] for row in rows if row["metric"] == "auc" and row["arm"] not in BASELINES]
    assert len(values) == 7 == len(set(values))


def test_baselines_are_lines_of_the_table_that_are_measured_once(
    whole: Path, days: dict[str, str], device: torch.device
) -> None:
    content = json.loads((whole / "comparison.json").read_text())
    fitted = [baseline.name for baseline in BASELINES if baseline.missing is None]
    assert content["baselines"] == fitted
    rows = [row for row in content["rows"] if row["arm"] == "positives"]
    assert [row["metric"] for row in rows] == list(content["metrics"])
    assert {(row["num_seeds"], row["seed_deviation"]) for row in rows} == {(2, 0.0)}
    assert all(row["joint_low"] <= row["difference"] <= row["joint_high"] for row in rows)
    assert content["num_verdicts"] == 6 * len(content["metrics"])
    written = {path: path.stat().st_mtime_ns for path in (whole / "baselines").rglob("*.parquet")}
    assert len(written) == len(fitted)
    assert run_comparison(comparison(days, whole), device) is not None
    assert {path: path.stat().st_mtime_ns for path in (whole / "baselines").rglob("*.parquet")} == written


def test_an_arm_named_as_a_baseline_is_refused(
    days: dict[str, str], device: torch.device, tmp_path: Path
) -> None:
    named = comparison(days, tmp_path, "comparison.own_arms={positives: {like: naive}}")
    with pytest.raises(
        UserError, match=r"comparison.own_arms.positives: expected a name that no baseline has"
    ):
        run_comparison(named, device)


# Mistakes, told before anything is trained


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        (["comparison.path=null"], "--out: expected a folder, found none"),
        (["comparison.baseline=weighted@4"], "comparison.baseline weighted@4: expected one of"),
        (["training.vocabulary=nowhere"], "nowhere"),
        (["comparison.metrics=[precision]"], "comparison.metrics: expected a registered metric (recall@10, "),
        (
            ["comparison.own_arms={odd: {like: all, training: {epoch: 1}}}", "comparison.arms=[random, odd]"],
            "training.epoch (comparison.own_arms.odd): expected one of",
        ),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(
    days: dict[str, str], device: torch.device, tmp_path: Path, overrides: list[str], fragment: str
) -> None:
    with pytest.raises(UserError) as caught:
        run_comparison(comparison(days, tmp_path / "out", *overrides), device)
    assert fragment in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_days_that_are_not_later_are_refused(
    days: dict[str, str], device: torch.device, tmp_path: Path
) -> None:
    config = comparison(days, tmp_path / "out", f"comparison.evaluation_days=[{days['naive']}]")
    with pytest.raises(UserError, match="evaluate on later days"):
        run_comparison(config, device)


def test_choosing_checkpoints_on_what_is_measured_is_refused(
    days: dict[str, str], device: torch.device, tmp_path: Path
) -> None:
    chosen = f"training.evaluation.days=[{days['evaluation']}/manifest.json]"
    with pytest.raises(UserError, match="a choice made on a day biases its metrics"):
        run_comparison(comparison(days, tmp_path / "out", chosen), device)
