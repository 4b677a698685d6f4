"""Result files of runs: the same file for the same inputs, another for other inputs, and no partial file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scrollpast.config import ComparisonOptions, load_config
from scrollpast.errors import CorruptShardError
from scrollpast.training.comparison.arms import Cell
from scrollpast.training.comparison.results import Result, is_there, result_name, run_folder
from tests.training.comparison.days import toy_days

CELL = Cell("weighted", 2)


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return toy_days(tmp_path_factory.mktemp("days"))


def folder(
    days: dict[str, str],
    *overrides: str,
    day_set: str = "filtered",
    vocabulary_version: str = "v",
    num_ranks: int = 1,
) -> str:
    options = load_config(None, [f"training.{override}" for override in overrides]).training
    return run_folder("out", CELL, options, (days[day_set],), vocabulary_version, num_ranks=num_ranks)


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    uri = str(tmp_path / "runs" / "result.parquet")
    assert not is_there(uri)
    numbers = {"recall@100": np.array([0.5, np.nan]), "auc": np.array([0.25, 1.0])}
    Result({"arm": "weighted", "steps": 7}, np.array([3, 2**62]), numbers).write(uri)
    assert is_there(uri)
    found = Result.read(uri)
    assert (found.facts["arm"], found.facts["steps"]) == ("weighted", 7)
    assert found.user_id.tolist() == [3, 2**62]
    assert found.numbers.keys() == numbers.keys()
    for name, values in numbers.items():
        np.testing.assert_array_equal(found.numbers[name], values)


def test_what_is_no_result_is_said_to_be_none(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "result.parquet"
    for write in (
        lambda: path.write_bytes(b"PAR1 and then nothing"),
        lambda: pq.write_table(pa.table({"user_id": [1]}), path),
    ):
        write()
        with pytest.raises(CorruptShardError, match="move the file away and run again"):
            Result.read(str(path))


def test_the_folder_names_the_run(days: dict[str, str]) -> None:
    assert folder(days, "seed=3").startswith("out/runs/arm=weighted/ratio=2/seed=3/inputs=")
    assert folder(days) == folder(days)


@pytest.mark.parametrize(
    "override",
    [
        "epochs=2",
        "max_steps=5",
        "data.batch_size=512",
        "model.embedding_dim=8",
        "negatives.hard.weight=0.5",
        "optimizer.dense_learning_rate=0.1",
        "start_from=other",
    ],
)
def test_what_is_learned_by_makes_another_run(days: dict[str, str], override: str) -> None:
    assert folder(days, override) != folder(days)


@pytest.mark.parametrize(
    "override",
    [
        "path=elsewhere",
        "vocabulary=elsewhere",
        "days=[elsewhere]",
        "log_every_steps=1",
        "checkpoints.every_steps=5",
        "data.num_workers=0",
        "data.cache_bytes=0",
    ],
)
def test_where_things_are_does_not(days: dict[str, str], override: str) -> None:
    assert folder(days, override) == folder(days)


def test_other_days_and_another_vocabulary_make_another_run(days: dict[str, str]) -> None:
    assert folder(days, day_set="naive") != folder(days)
    assert folder(days, vocabulary_version="w") != folder(days)


def test_days_that_the_checkpoint_is_chosen_on_count_by_what_they_hold(days: dict[str, str]) -> None:
    chosen = folder(days, f"evaluation.days=[{days['evaluation']}]")
    assert chosen != folder(days)
    assert chosen == folder(days, f"evaluation.days=[{days['evaluation']}/manifest.json]")


def test_two_ranks_with_half_a_batch_each_are_the_same_run(days: dict[str, str]) -> None:
    assert folder(days, "data.batch_size=512", num_ranks=2) == folder(days, "data.batch_size=1024")
    assert folder(days, num_ranks=2) != folder(days)


def test_what_is_measured_on_names_the_result(days: dict[str, str]) -> None:
    later, before = (days["evaluation"],), (days["filtered"],)
    name = result_name(ComparisonOptions(), 0.9, later, before)
    assert name != result_name(ComparisonOptions(max_users=5), 0.9, later, before)
    assert name != result_name(ComparisonOptions(), 1.0, later, before)
    assert name != result_name(ComparisonOptions(), 0.9, (*later, days["naive"]), before)
    # Metrics, baseline and seeds are not part of the name: the file has all numbers.
    assert name == result_name(
        ComparisonOptions(metrics=["auc"], baseline="in_batch", seeds=[9]), 0.9, later, before
    )
