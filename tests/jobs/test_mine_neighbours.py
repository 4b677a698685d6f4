"""Mining neighbours from its command line: on planted towers, from a log to a trained model, and mistakes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from scripts.bench.synthetic_days import Plan, plant_day, plant_towers

from scrollpast.shards.manifest import read_manifest
from scrollpast.shards.vocabulary_of_days import resolve_vocabulary
from scrollpast.training.engine.metrics_log import read_curve
from scrollpast.training.serving.user_tower import UserTower
from tests.jobs.job_runs import ROOT, TIMEOUT_S, JobRun, run_alone, run_job
from tests.mining.neighbours.planted_world import (
    CLOSE,
    OPTIONS,
    PLAN,
    World,
    engaged_by_user,
    neighbours_of,
    records_of,
)

SETTINGS = [
    part
    for name in ("first_rank", "last_rank", "negatives_per_user")
    for part in ("--set", f"neighbours.{name}={getattr(OPTIONS, name)}")
]


def done(found: JobRun) -> str:
    assert found.exit_code == 0, found.stderr
    return found.stdout


def mistake(found: JobRun) -> str:
    assert (found.exit_code, found.stdout) == (2, ""), found.stderr
    assert found.is_calm()
    (line,) = found.stderr.splitlines()
    return line.removeprefix("mine_neighbours.py: error: ")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.plant(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> str:
    return plant_day(PLAN, tmp_path_factory.mktemp("served"))


def test_the_job_prints_what_became_of_all_candidates(
    spark: SparkSession, world: World, day: str, tmp_path: Path
) -> None:
    arguments = (day, "--towers", world.export, "--out", tmp_path, *SETTINGS)
    text = done(run_job("mine_neighbours", *arguments))
    manifest = read_manifest(f"{tmp_path}/ds=2026-11-20")
    shown = {line.split()[0]: int(line.split()[1].replace(",", "")) for line in text.splitlines()[1:6]}
    assert shown == {**manifest.ledger, "total": sum(manifest.ledger.values())}
    assert list(shown) == ["engaged", "above_margin", "not_drawn", "kept", "total"]
    asked = manifest.input["records"]["num_asked"]
    assert f"\n{asked} records searched, {shown['kept'] / asked:.1f} neighbours each\n" in text
    assert text.endswith(f"\npublished {tmp_path}/ds=2026-11-20/manifest.json\n")
    again = done(run_job("mine_neighbours", *arguments))
    assert again == text.replace("\npublished", "\nalready published from the same input; nothing was done:")
    changed = mistake(run_job("mine_neighbours", *arguments, "--sample", 5))
    assert "found a published day, and a change of --sample; pass --overwrite" in changed
    done(run_job("mine_neighbours", *arguments, "--sample", 5, "--overwrite"))
    assert read_manifest(f"{tmp_path}/ds=2026-11-20").input["records"]["num_asked"] <= 5


def test_a_session_of_its_own_gives_the_same_bytes(
    spark: SparkSession, world: World, day: str, tmp_path: Path
) -> None:
    arguments = (day, "--towers", world.export, *SETTINGS)
    done(run_job("mine_neighbours", *arguments, "--out", tmp_path / "here"))
    job = (sys.executable, str(ROOT / "jobs" / "mine_neighbours.py"))
    alone = run_alone(*map(str, arguments), "--out", str(tmp_path / "alone"), program=job)
    assert alone.exit_code == 0, alone.stderr
    assert alone.is_calm() and alone.stderr == ""
    here, there = (read_manifest(str(tmp_path / name / "ds=2026-11-20")) for name in ("here", "alone"))
    assert here.shards == there.shards
    assert here.ledger_files == there.ledger_files


def test_neighbours_of_a_catalogue_of_3000_ads_have_the_ranks_that_are_asked_for(
    spark: SparkSession, tmp_path: Path
) -> None:
    plan = Plan(num_ads=3000, num_users=200, ads_per_cluster=600)
    ad_RD = plant_towers(plan, tmp_path / "export", "ivf_flat")
    rows = range(1, plan.num_ads + 1)
    tower = UserTower.load(str(tmp_path / "export"))
    world = World(str(tmp_path / "export"), tower, ad_RD, {plan.ad_ids(row): row for row in rows})
    day = plant_day(plan, tmp_path / "served")
    text = done(run_job("mine_neighbours", day, "--towers", world.export, "--out", tmp_path / "out"))
    ranks = []
    for record in records_of([f"{tmp_path}/out/ds=2026-11-20"]):
        if found := neighbours_of(record):
            scores = world.scores(record)
            ranks += [int((scores > scores[world.row_of[ad]] + CLOSE).sum()) + 1 for ad in found]
    assert len(ranks) > 200
    assert 101 <= min(ranks) <= max(ranks) <= 500
    assert "\nevery ad was compared with every user: all ads of these ranks are candidates\n" in text


# From a log to a model that learned from neighbours


@pytest.mark.slow
def test_from_a_log_to_a_model_that_learns_from_neighbours(spark: SparkSession, tmp_path: Path) -> None:
    log, served, export = tmp_path / "log", tmp_path / "served", tmp_path / "export"
    done(run_job("simulate_logs", log, "--rows", "60000", "--days", "2", "--seed", "3"))
    tables = [part for name in ("impressions", "engagements") for part in (f"--{name}", log / name)]
    done(
        run_job("mine_negatives", "--date", "2026-11-20", "--days", "2", "--as-of", "2026-11-25", *tables,
            "--out", served, "--set", "mining.num_buckets=4")
    )  # fmt: skip
    day = served / "ds=2026-11-20"
    done(run_job("build_vocabulary", day, "--num-user-rows", "1000", "--out", served))
    train(day, tmp_path / "run")
    done(run_job("export_towers", tmp_path / "run", "--out", export))
    ranks = ("--set", "neighbours.first_rank=11", "--set", "neighbours.last_rank=100")
    text = done(run_job("mine_neighbours", day, "--towers", export, "--out", tmp_path / "near", *ranks))
    near = str(tmp_path / "near" / "ds=2026-11-20")
    kept = read_manifest(near).ledger["kept"]
    assert kept > 100, text
    engaged = engaged_of_log(str(day))
    for row in records_of([near]):
        assert not set(neighbours_of(row)) & engaged[row["user_id"]]
    assert resolve_vocabulary([near], None)[0].version == resolve_vocabulary([str(day)], None)[0].version

    train(
        Path(near), tmp_path / "again", "negatives.neighbour.enabled=true", "negatives.neighbour.weight=1.0"
    )
    points = [point for point in read_curve(str(tmp_path / "again")) if "loss" in point]
    assert len(points) > 2
    # Beside neighbours, what was served is drawn as before.
    assert all(point["gradient/neighbour"] > 0 and point["gradient/hard"] > 0 for point in points)
    before = [point["gradient/neighbour"] for point in read_curve(str(tmp_path / "run")) if "loss" in point]
    assert set(before) == {0.0}


def train(day: Path, out: Path, *options: str) -> None:
    """Some steps on a day, in a process of their own."""
    settings = ["max_steps=12", "epochs=4", "log_every_steps=4", "data.batch_size=64", "model.embedding_dim=8",
                "model.output_dim=8", "negatives.random.count=16", "negatives.hard.weight=1.0", *options]  # fmt: skip
    command = [sys.executable, str(ROOT / "jobs" / "train_two_tower.py"), str(day), "--out", str(out)]
    for setting in settings:
        command += ["--set", f"training.{setting}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment)
    assert process.returncode == 0, process.stderr


def engaged_of_log(day: str) -> dict[int, set[int]]:
    engaged = engaged_by_user([day])
    for row in records_of([day]):
        pairs = zip(row["negative_ad_id"], row["negative_kind"], strict=True)
        engaged[row["user_id"]].update(ad for ad, kind in pairs if kind != 0)
    return engaged


# Mistakes


@pytest.fixture
def no_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("Spark was started to tell a mistake")

    monkeypatch.setattr("scrollpast.mining.spark.session.spark_session", start)


@pytest.mark.usefixtures("no_spark")
def test_what_is_no_export_is_told(day: str, tmp_path: Path) -> None:
    text = mistake(run_job("mine_neighbours", day, "--towers", tmp_path, "--out", tmp_path / "out"))
    assert text.startswith(f"{tmp_path}/export.json: expected the file that publishes an export, found none;")


@pytest.mark.usefixtures("no_spark")
def test_a_day_that_is_not_published_is_told(world: World, tmp_path: Path) -> None:
    text = mistake(run_job("mine_neighbours", tmp_path, "--towers", world.export, "--out", tmp_path / "out"))
    assert "expected a manifest, which publishes a day, found no such file" in text


@pytest.mark.usefixtures("no_spark")
def test_ranks_that_are_turned_round_are_told(world: World, day: str, tmp_path: Path) -> None:
    arguments = (day, "--towers", world.export, "--out", tmp_path, "--set", "neighbours.last_rank=100")
    text = mistake(run_job("mine_neighbours", *arguments))
    assert text.startswith(
        "neighbours (--set): expected it to have first_rank <= last_rank, found 101 and 100;"
    )


@pytest.mark.usefixtures("no_spark")
def test_a_sample_of_nobody_is_told(world: World, day: str, tmp_path: Path) -> None:
    done = run_job("mine_neighbours", day, "--towers", world.export, "--out", tmp_path, "--sample", 0)
    assert done.exit_code == 2
    assert done.stderr.endswith("argument --sample: expected a whole number, 1 or more, found '0'\n")
