"""The comparison job from its command line, on days that were mined from a simulated log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.jobs.job_runs import ROOT, TIMEOUT_S, JobRun, run_job

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.filterwarnings("ignore")

JOB = str(ROOT / "jobs" / "compare_negatives.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "1"}
NAIVE = ("--config", ROOT / "conf" / "naive.yaml")
SMALL = (
    "training.max_steps=6",
    "training.data.batch_size=64",
    "training.checkpoints.every_steps=2",
    "training.model.embedding_dim=4",
    "training.model.output_dim=4",
    "training.model.user_layers=[8]",
    "training.model.ad_layers=[8]",
)
ENDLESS = ("training.max_steps=null", "training.epochs=100000")


def settings(*options: str) -> list[str]:
    return [part for option in options for part in ("--set", option)]


@pytest.fixture(scope="module")
def days(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two days mined in two ways, and a third one, of a log of three."""
    folder = tmp_path_factory.mktemp("days")
    log = folder / "log"
    done = run_job("simulate_logs", log, "--rows", "4e4", "--days", "3", "--seed", "5", "--processes", "1")
    assert done.exit_code == 0, done.stderr
    tables = [f"--{name}={log / name}" for name in ("impressions", "engagements", "ads")]
    plans = {
        "filtered": ("2026-11-19", "2", "2026-11-20", ()),
        "naive": ("2026-11-19", "2", "2026-11-20", NAIVE),
        "later": ("2026-11-20", "1", "2026-11-24", NAIVE),
    }
    found = {}
    for name, (date, num_days, as_of, rules) in plans.items():
        options = [*rules, *settings("mining.num_buckets=2", "spark.num_partitions=2")]
        out = f"--out={folder / name}"
        done = run_job(
            "mine_negatives", "--date", date, "--days", num_days, "--as-of", as_of, *tables, out, *options
        )
        assert done.exit_code == 0, done.stderr
        found[name] = str(folder / name / f"ds={date}")
    options = [f"--ads={log / 'ads'}", "--feature=advertiser_id", "--num-user-rows=1000", f"--out={folder}"]
    done = run_job("build_vocabulary", found["filtered"], *options)
    assert done.exit_code == 0, done.stderr
    return found


def arguments(days: dict[str, str], out: Path) -> list[str]:
    """Two arms, two seeds, two ratios."""
    return [
        *("--days", f"filtered={days['filtered']}", "--days", f"naive={days['naive']}"),
        *("--evaluate", days["later"], "--out", str(out)),
        *("--arms", "naive", "filtered", "--ratios", "1", "2", "--seeds", "0", "1", "--baseline", "naive@1"),
        *settings(*SMALL),
    ]


@pytest.fixture(scope="module")
def whole(days: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobRun]:
    out = tmp_path_factory.mktemp("whole")
    return out, run_job("compare_negatives", *arguments(days, out))


def results(out: Path) -> dict[str, int]:
    found = (out / "runs").rglob("result-*.parquet")
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in found}


def test_it_prints_a_table_and_writes_what_it_printed(whole: tuple[Path, JobRun]) -> None:
    out, done = whole
    assert done.exit_code == 0, done.stderr
    content = json.loads((out / "comparison.json").read_text())
    assert content["baseline"] == {"arm": "naive", "ratio": 1}
    lines = [f"{arm}@{ratio}" for arm in ("naive", "filtered") for ratio in (1, 2)]
    rows = content["rows"]
    assert pq.read_table(out / "comparison.parquet").to_pylist() == rows
    assert {row["arm"] for row in rows} == {"naive", "filtered", *content["baselines"]}
    assert "click rate" in content["baselines"]
    rows = [row for row in rows if row["arm"] not in content["baselines"]]
    assert [f"{row['arm']}@{row['ratio']}" for row in rows] == lines * 4
    assert {row["metric"] for row in rows} == {"recall@10", "recall@100", "ndcg@100", "auc"}
    for row in rows:
        assert row["low"] <= row["value"] <= row["high"]
        is_baseline = (row["arm"], row["ratio"]) == ("naive", 1)
        expected = {None} if is_baseline else {"better", "worse", "no difference shown"}
        assert row["verdict"] in expected
    assert (out / "comparison.txt").read_text() in done.stdout
    assert max(map(len, (out / "comparison.txt").read_text().splitlines())) <= 110
    assert len(results(out)) == 8
    assert "filtered@2, seed 1 (8 of 8): training in " in done.stdout


def test_a_second_call_trains_nothing_and_says_the_same(
    whole: tuple[Path, JobRun], days: dict[str, str]
) -> None:
    out, _ = whole
    before, table = results(out), (out / "comparison.json").read_bytes()
    again = run_job("compare_negatives", *arguments(days, out))
    assert again.exit_code == 0, again.stderr
    assert again.stdout.count(": kept ") == 8 and "training" not in again.stdout
    assert results(out) == before
    assert (out / "comparison.json").read_bytes() == table
    assert (out / "comparison.txt").read_text() in again.stdout


def test_a_comparison_that_is_killed_goes_on_as_if_it_had_never_been(
    whole: tuple[Path, JobRun], days: dict[str, str], tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, JOB, *arguments(days, tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )
    deadline = time.monotonic() + TIMEOUT_S
    while len(results(tmp_path)) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL
    kept = results(tmp_path)
    assert 2 <= len(kept) < 8
    assert not (tmp_path / "comparison.json").exists()
    again = run_job("compare_negatives", *arguments(days, tmp_path))
    assert again.exit_code == 0, again.stderr
    assert {path: results(tmp_path)[path] for path in kept} == kept
    assert (tmp_path / "comparison.json").read_bytes() == (whole[0] / "comparison.json").read_bytes()


def test_sigterm_ends_it_with_a_word_on_how_to_go_on(days: dict[str, str], tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, JOB, *arguments(days, tmp_path), *settings(*ENDLESS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    deadline = time.monotonic() + TIMEOUT_S
    while not list(tmp_path.rglob("checkpoint.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert "stopped by SIGTERM; the same command resumes the comparison" in stdout
    assert "Traceback" not in stderr


def test_two_ranks_compare_what_one_compares(
    whole: tuple[Path, JobRun], days: dict[str, str], tmp_path: Path
) -> None:
    fewer = [*arguments(days, tmp_path), "--seeds", "0", "--ratios", "1"]
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    together = subprocess.run(
        [sys.executable, *ranks, JOB, *fewer, *settings("training.data.batch_size=32")],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=ENVIRONMENT,
    )
    assert together.returncode == 0, together.stderr
    assert (tmp_path / "comparison.txt").read_text() in together.stdout
    assert together.stdout.count("recall@10, higher is better") == 1
    # The same inputs: one rank with the whole batch keeps what two have made, and would have found the same.
    alone = run_job("compare_negatives", *fewer)
    assert alone.stdout.count(": kept ") == 2
    assert (tmp_path / "comparison.txt").read_text() in alone.stdout
    for path in results(tmp_path):
        found, expected = (pq.read_table(folder / path) for folder in (tmp_path, whole[0]))
        assert found["user_id"] == expected["user_id"]
        # Sums over ranks differ in their last bits; a recall among so few users would jump by a hit.
        means = [np.nanmean(table["auc"].to_numpy()) for table in (found, expected)]
        assert means[0] == pytest.approx(means[1], abs=0.01)


def test_an_arm_without_its_days_is_skipped_and_said_to_be(
    whole: tuple[Path, JobRun], days: dict[str, str], tmp_path: Path
) -> None:
    done = run_job(
        "compare_negatives", *arguments(days, tmp_path), "--seeds", "0", "--arms", "neighbours", "naive"
    )
    assert done.exit_code == 0, done.stderr
    reason = "neighbours: the arm needs days of the set neighbours, and no such days are given"
    assert done.stdout.count(f"skipped: {reason}") == 2  # at once, and below the table
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert [skipped["arm"] for skipped in content["skipped"]] == ["neighbours"]
    assert {row["arm"] for row in content["rows"] if row["arm"] not in content["baselines"]} == {"naive"}
    assert content["notes"][0].startswith("one seed")


@pytest.mark.parametrize(
    ("more", "fragment"),
    [
        (["--days", "filtred=x"], "--days filtred=x: expected SET=PATH,PATH with one of filtered, naive"),
        (["--arms", "best"], "comparison (--set): expected it to hold in arms some of in_batch, random"),
        (["--baseline", "best"], "comparison.baseline best: expected one of naive@1, naive@2, filtered@1"),
        (["--evaluate", "nowhere"], "nowhere/manifest.json: expected a manifest, which publishes a day"),
    ],
)
def test_a_mistake_is_one_line(days: dict[str, str], tmp_path: Path, more: list[str], fragment: str) -> None:
    done = run_job("compare_negatives", *arguments(days, tmp_path), *more)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1 and fragment in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_ratio_out_of_its_range_is_a_mistake(days: dict[str, str], tmp_path: Path) -> None:
    done = run_job("compare_negatives", *arguments(days, tmp_path), "--ratios", "-1")
    assert done.exit_code == 2
    assert "argument --ratios: expected a whole number from 0 to 1,024, found '-1'" in done.stderr
    assert list(tmp_path.iterdir()) == []
