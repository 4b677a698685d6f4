"""Errors of the training job on bad input: one line, exit code 2 or 1, nothing written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scrollpast.shards.vocabulary import Vocabulary
from tests.jobs.job_runs import JobRun, run_job
from tests.training.data.days import record, vocabulary, write_day
from tests.training.runs import SMALL, small_day

pytestmark = pytest.mark.filterwarnings("ignore")


def train(*arguments: str, out: Path, overrides: tuple[str, ...] = ()) -> JobRun:
    options = [part for option in (*SMALL, *overrides) for part in ("--set", option)]
    return run_job("train_two_tower", *arguments, "--out", out, *options)


def error_of(run: JobRun, exit_code: int = 2) -> str:
    assert run.exit_code == exit_code, run.stderr
    lines = run.stderr.splitlines()
    assert len(lines) == 1, run.stderr
    assert run.is_calm()
    return lines[0].removeprefix("train_two_tower.py: error: ")


@pytest.fixture
def day(tmp_path: Path) -> str:
    return small_day(tmp_path)


@pytest.fixture
def known(tmp_path: Path) -> str:
    return f"training.vocabulary={vocabulary().write(str(tmp_path))}"


def change_manifest(day: str, **fields: Any) -> None:
    path = Path(day) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_shard_that_is_missing_is_named(day: str, known: str, tmp_path: Path) -> None:
    shard = next(Path(day).glob("bucket=*/*.tfrecord"))
    shard.unlink()
    message = error_of(train(day, out=tmp_path / "run", overrides=(known,)), exit_code=1)
    assert shard.name in message
    assert "mine" in message
    assert not (tmp_path / "run").exists()


def test_a_manifest_of_another_schema_version_is_refused(day: str, known: str, tmp_path: Path) -> None:
    change_manifest(day, schema_version=99)
    message = error_of(train(day, out=tmp_path / "run", overrides=(known,)), exit_code=1)
    assert "schema_version" in message and "found 99" in message


def test_a_day_that_names_another_vocabulary_is_refused(day: str, known: str, tmp_path: Path) -> None:
    other = Vocabulary(
        ad_ids=np.arange(5),
        counts=np.arange(5),
        feature_codes={},
        values={"user_age": ("20",)},
        num_user_rows=9,
    )
    change_manifest(day, ads=other.write(str(tmp_path / "other")))
    message = error_of(train(day, out=tmp_path / "run", overrides=(known,)))
    assert other.version in message and vocabulary().version in message
    assert f"{day}/manifest.json" in message


def test_days_without_any_vocabulary_say_how_to_build_one(day: str, tmp_path: Path) -> None:
    assert "jobs/build_vocabulary.py" in error_of(train(day, out=tmp_path / "run"))


def test_days_without_negatives_are_refused_as_long_as_hard_ones_are_wanted(
    known: str, tmp_path: Path
) -> None:
    random = np.random.Generator(np.random.Philox(1))
    empty = write_day(tmp_path / "empty", [[record(random, user, 3, 0) for user in range(40)]])
    message = error_of(train(empty, out=tmp_path / "run", overrides=(known,)))
    assert "expected negatives" in message
    assert "set training.negatives.hard.enabled to false" in message
    off = (known, "training.negatives.hard.enabled=false")
    assert train(empty, out=tmp_path / "run", overrides=off).exit_code == 0


def test_tables_that_do_not_fit_are_listed_with_their_sizes(day: str, tmp_path: Path) -> None:
    known = vocabulary()
    large = Vocabulary(
        known.ad_ids, known.counts, known.feature_codes, known.values, num_user_rows=50_000_000
    ).write(str(tmp_path / "large"))
    options = (f"training.vocabulary={large}", "training.model.sharding.memory_gib=0.5")
    message = error_of(train(day, out=tmp_path / "run", overrides=options))
    assert "user 50,000,000 × 4 = 0.75 GiB" in message
    assert "--num-user-rows" in message


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("training.negatives.in_batch.enabld=true",), "did you mean enabled?"),
        (("training.epochs=0",), "training.epochs"),
        (
            ("training.evaluation.metric=precision",),
            "training.evaluation.metric: expected a registered metric",
        ),
        (("training.model.sharding.types=[grid_shard]",), "training.model.sharding.types"),
        (
            tuple(f"training.negatives.{name}.enabled=false" for name in ("in_batch", "random", "hard")),
            "at least one source of negatives",
        ),
        (("training.data.batch_size=64", "training.data.num_lanes=7"), "training.data.num_lanes"),
    ],
)
def test_options_out_of_bounds_are_named(
    day: str, known: str, overrides: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    assert expected in error_of(train(day, out=tmp_path / "run", overrides=(known, *overrides)))
    assert not (tmp_path / "run").exists()


def test_without_days_or_out_it_says_what_to_name(day: str, known: str, tmp_path: Path) -> None:
    assert "name folders ds=…" in error_of(train(out=tmp_path / "run", overrides=(known,)))
    message = error_of(train(out=tmp_path / "run", overrides=(known, f"output.path={tmp_path}/nothing")))
    assert "expected published days ds=…, found none" in message
    found = train(out=tmp_path / "run", overrides=(known, f"output.path={tmp_path}"))
    assert found.exit_code == 0, found.stderr


def test_an_evaluation_that_would_leak_is_refused_before_training(
    day: str, known: str, tmp_path: Path
) -> None:
    options = (known, f"training.evaluation.days=[{day}]")
    assert "evaluate on later days" in error_of(train(day, out=tmp_path / "run", overrides=options))


@pytest.mark.parametrize(
    ("asked", "expected", "found"),
    [
        (["data.batch_size=32"], "training.data.batch_size=64", "training.data.batch_size=32"),
        (["max_steps=3"], "training.max_steps=None", "training.max_steps=3"),
        (
            ["evaluation.metric=auc"],
            "training.evaluation.metric='recall@100'",
            "training.evaluation.metric='auc'",
        ),
        (
            ["seed=1", "optimizer.table_learning_rate=0.1"],
            "training.optimizer.table_learning_rate=0.05, training.seed=0",
            "training.optimizer.table_learning_rate=0.1, training.seed=1",
        ),
    ],
)
def test_a_finished_run_refuses_options_that_would_give_another_result(
    day: str, known: str, tmp_path: Path, asked: list[str], expected: str, found: str
) -> None:
    out = tmp_path / "run"
    assert train(day, out=out, overrides=(known,)).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    options = tuple(f"training.{option}" for option in asked)
    message = error_of(train(day, out=out, overrides=(known, *options)))
    assert f"checkpoints/step=00000005/checkpoint.json: expected {expected}, found {found}; " in message
    assert "another --out" in message
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def test_a_finished_run_takes_options_without_effect_and_trains_more_epochs(
    day: str, known: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert train(day, out=out, overrides=(known,)).exit_code == 0
    same = train(day, out=out, overrides=(known, "training.data.num_workers=0", "training.log_every_steps=7"))
    assert (same.exit_code, "nothing was trained" in same.stdout) == (0, True), same.stderr
    longer = train(day, out=out, overrides=(known, "training.epochs=2"))
    assert longer.stdout.startswith("going on from "), longer.stderr
    assert "trained 10 steps" in longer.stdout


def test_a_feature_of_one_value_is_noted_before_training(day: str, tmp_path: Path) -> None:
    toy = vocabulary()
    plain = Vocabulary(
        ad_ids=toy.ad_ids,
        counts=toy.counts,
        feature_codes={"advertiser": np.minimum(toy.feature_codes["advertiser"], 0)},
        values={"advertiser": (), "user_age": ("30",)},
        num_user_rows=toy.num_user_rows,
    )
    uri = plain.write(str(tmp_path))
    done = train(day, out=tmp_path / "run", overrides=(f"training.vocabulary={uri}",))
    assert done.exit_code == 0, done.stderr
    first, second, *_ = done.stdout.splitlines()
    assert first.startswith(f"note: ad feature advertiser of ads ({uri}) is null throughout; ")
    assert second.startswith("note: user feature age of impressions or users has one value only, '30'; ")


def test_a_finished_run_refuses_other_days_and_another_vocabulary(
    day: str, known: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert train(day, out=out, overrides=(known,)).exit_code == 0
    random = np.random.Generator(np.random.Philox(9))
    other_day = write_day(tmp_path / "other", [[record(random, 1, 5, 9)]])
    message = error_of(train(other_day, out=out, overrides=(known,)))
    assert f"expected the unchanged days of the run: {day}, found {other_day} with other records" in message
    assert "nothing was trained" in message
    larger = vocabulary()
    larger = Vocabulary(
        ad_ids=np.append(larger.ad_ids, 41),
        counts=np.append(larger.counts, 0),
        feature_codes={name: np.append(codes, 0) for name, codes in larger.feature_codes.items()},
        values=larger.values,
        num_user_rows=larger.num_user_rows,
    )
    other = f"training.vocabulary={larger.write(str(tmp_path / 'vocabularies'))}"
    message = error_of(train(day, out=out, overrides=(other,)))
    assert f"expected vocabulary {vocabulary().version}, found {larger.version}" in message
