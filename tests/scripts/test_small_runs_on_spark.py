"""Programs that mine in their own process: each runs once, small, on the session of the tests."""

from __future__ import annotations

import datetime as dt
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from tests.importing.test_kuairand import exposure
from tests.scripts.script_runs import rows_of, run_script_here

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("spark", "untouched_scripts")]


def figures_of(folder: Path, name: str, stdout: str) -> dict[str, dict[str, object]]:
    """The figures that a program saved, whose table is what it printed."""
    table = (folder / f"{name}.txt").read_text().split("\n\n", 1)[1]
    assert table in stdout
    found = json.loads((folder / f"{name}.json").read_text())
    assert found.pop("machine")["command"].startswith("scripts/bench/bench_")
    return dict(found)


def test_quality_compares_every_arm(tmp_path: Path) -> None:
    run = run_script_here(
        "bench/bench_quality.py", "--rows", "1e4", "--days", 1, "--seeds", 1, "--shape", "bot_rows=0",
        "--results", tmp_path,
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    arms = [
        "naive: served, not engaged", "+ bots out", "+ guard only", "+ short dwell out only",
        "+ long dwell out only", "defaults: all rules",
    ]  # fmt: skip
    rows = rows_of(run.stdout, "arm ")
    assert list(rows) == arms
    assert rows[arms[0]][1::3] == ["100.0%", "1.00"]
    assert all(len(cells) == 6 for cells in rows.values())
    purity = rows_of(run.stdout, "pure negatives at a yield of")
    assert [len(cells) for cells in purity.values()] == [5] * 4
    found = figures_of(tmp_path, "quality", run.stdout)
    assert list(found["arms"]) == arms and list(found["purity"]) == list(purity)
    assert found["arms"][arms[-1]]["false_share"] < found["arms"][arms[0]]["false_share"]


def test_delays_tell_what_a_later_engagement_contradicts(tmp_path: Path) -> None:
    run = run_script_here("bench/bench_delays.py", "--rows", "6e3", "--days", 3, "--results", tmp_path)
    assert run.exit_code == 0, run.stderr
    rows = rows_of(run.stdout, "run ")
    naive, at_the_end, *later = rows.values()
    assert list(rows)[:2] == ["naive, at the day's end", "defaults, at the day's end"]
    assert len(later) == 3
    assert int(naive[0]) > 100 and int(naive[1]) > 0 and naive[3] == "100.00%"
    assert at_the_end[0] == "0", "no label is final at the day's end"
    assert all(int(cells[0]) > 100 for cells in later)
    assert {cells[-1] for cells in rows.values()} == {"0"}, "what is revoked is contradicted no more"
    assert [*figures_of(tmp_path, "delays", run.stdout)["runs"]] == list(rows)


def test_estimates_of_examination_are_compared_with_the_curve(tmp_path: Path) -> None:
    run = run_script_here(
        "bench/bench_examination.py", "--rows", "2e4", "--runs", 2, "--small", "1e4", "--random", 0.1,
        "--results", tmp_path,
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    assert run.stdout.startswith("10% of the slots random\n")
    errors = rows_of(run.stdout, "mean relative error, 20,000 impressions")
    coverage = rows_of(run.stdout, "95 % intervals that hold, 2 × 10,000")
    assert {"harvested", "the one used"} <= errors.keys()
    assert "the one used" in coverage
    assert all(cell.endswith("%") or cell == "abstains" for row in errors.values() for cell in row)
    found = figures_of(tmp_path, "examination_0.1_random", run.stdout)
    assert found["errors"].keys() == errors.keys() and found["coverage"].keys() == coverage.keys()
    assert 0 < found["errors"]["the one used"]["mean"] < 1


def test_the_gate_holds_the_faults_that_are_asked_for(tmp_path: Path) -> None:
    run = run_script_here(
        "bench/bench_gate.py", "--rows", "5e3", "--days", 2, "--faults", "deliver_twice", "remap_ads_of_impressions",
        "--results", tmp_path,
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    assert run.stdout.splitlines()[:2] == [
        "2 clean days, 0 of them compared with trailing days: 0 false alarms",
        "2 planted faults: 0 missed",
    ]
    assert rows_of(run.stdout, "planted fault") == {
        "deliver_twice": ["duplicate_share"],
        "remap_ads_of_impressions": ["unknown_ad_share"],
    }
    found = figures_of(tmp_path, "gate", run.stdout)
    assert [gate["breaches"] for gate in found["clean"]] == [[], []]
    assert list(found["faulty"]) == ["deliver_twice", "remap_ads_of_impressions"]


def kuairand(folder: Path) -> Path:
    """Three days of 60 users who look at 12 of 40 videos a day and click on some."""
    draw = random.Random(5)
    first = dt.datetime(2022, 4, 25, 6, tzinfo=dt.UTC)
    log = []
    for day in range(3):
        for user in range(1, 61):
            for number, video in enumerate(draw.sample(range(1, 41), 12)):
                moment = first + dt.timedelta(days=day, minutes=user, seconds=20 * number)
                time_ms = int(moment.timestamp() * 1000)
                if draw.random() < 0.25:
                    log.append(exposure(user, video, time_ms, play_time_ms=9000, is_click=1, long_view=1))
                else:
                    log.append(exposure(user, video, time_ms, play_time_ms=draw.randrange(300, 1500)))
    videos = [
        {"video_id": video, "author_id": video % 7, "upload_dt": "2022-04-10", "tag": str(video % 5)}
        for video in range(1, 41)
    ]
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(log), folder / "log_2022-04-25.parquet")
    pq.write_table(pa.Table.from_pylist(videos), folder / "videos.parquet")
    return folder


def test_negatives_are_compared_by_arm_on_held_out_days(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = run_script_here(
        "bench/bench_negatives.py", kuairand(tmp_path / "log"), "--hold-out", 1, "--seeds", 1, "--out", out,
        "--set", "epochs=1", "--set", "max_steps=2",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    for name in (
        "filtered: 2 days to 2022-04-26",
        "naive: 2 days to 2022-04-26",
        "held out: 1 days to 2022-04-27",
    ):
        assert name in run.stdout
    markdown = [line.strip("| ").split(" | ") for line in run.stdout.splitlines() if line.startswith("|")]
    assert markdown[0] == ["negatives", "recall@100", "difference", "per-user AUC", "difference"]
    assert [cells[0] for cells in markdown[2:]] == [
        "in-batch only", "+ 2 naive served", "+ 2 filtered and weighted", "defaults: in-batch, random, hard",
        "hard only",
    ]  # fmt: skip
    assert all(0 <= float(cells[1]) <= 1 for cells in markdown[2:])
    assert {path.name for path in out.iterdir()} == {"logs", "days", "comparison"}


def test_a_session_of_the_tests_goes_on(spark: SparkSession) -> None:
    assert spark.range(3).count() == 3
