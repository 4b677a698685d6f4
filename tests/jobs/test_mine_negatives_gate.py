"""The gate from the command line: a faulty day is held, told, and released or mined again."""

from __future__ import annotations

import shlex
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from scrollpast.job_commands import job_command
from scrollpast.shards.manifest import is_published, read_manifest
from scrollpast.simulation.faults import FAULTS, Feeds
from scrollpast.simulation.log import LogRequest, simulate_log
from tests.jobs.job_runs import JobRun, run_here
from tests.jobs.published_days import content_of, day_of, published
from tests.toy_logs import write_parquet

LAST_DAY = date(2026, 11, 20)
DAY = LAST_DAY.isoformat()
NUM_DAYS = 8
DAYS = [(LAST_DAY - timedelta(days=back)).isoformat() for back in reversed(range(NUM_DAYS))]


def run(log: Path, out: Path, *arguments: str, day: str = DAY) -> JobRun:
    as_of = date.fromisoformat(day) + timedelta(days=4)
    tables = [f"--{name}={log / name}" for name in ("impressions", "engagements", "ads")]
    small = ("--set", "mining.num_buckets=2", "--set", "spark.num_partitions=1")
    return run_here("--date", day, "--as-of", str(as_of), *tables, f"--out={out}", *small, *arguments)


def done(ended: JobRun) -> JobRun:
    assert ended.exit_code == 0, ended.stderr
    return ended


@pytest.fixture(scope="module")
def mined(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log in ``log``, the same without the last day's engagements in ``faulty``, all days but that in ``out``."""
    folder = tmp_path_factory.mktemp("gate")
    simulate_log(LogRequest(NUM_DAYS * 20_000, NUM_DAYS, LAST_DAY, seed=2), folder / "log")
    feeds = Feeds(*(pq.read_table(folder / "log" / name) for name in ("impressions", "engagements")))
    day_us = int(datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day, tzinfo=UTC).timestamp()) * 1_000_000
    faulty = FAULTS["drop_engagements"](feeds, day_us)
    for name in ("impressions", "engagements"):
        write_parquet(getattr(faulty, name), folder / "faulty" / name, rows_per_group=20_000)
    shutil.copytree(folder / "log" / "ads", folder / "faulty" / "ads")
    for day in DAYS[:-1]:
        done(run(folder / "log", folder / "out", day=day))
    return folder


@pytest.fixture
def out(mined: Path, tmp_path: Path) -> Path:
    """A copy of the published days."""
    return shutil.copytree(mined / "out", tmp_path / "out")


@pytest.fixture
def held(mined: Path, out: Path) -> JobRun:
    return run(mined / "faulty", out)


def test_a_day_in_order_passes_with_its_figures_and_the_days_they_were_held_against(
    mined: Path, out: Path
) -> None:
    ended = done(run(mined / "log", out))
    assert "note: the gate" not in ended.stdout
    health = published(out).health
    assert health is not None
    gate = health["gate"]
    assert (gate["trailing_days"], gate["breaches"]) == (DAYS[:-1], [])
    band = gate["bands"]["engagement_rate"]
    assert band["low"] < health["figures"]["engagement_rate"]["value"] < band["high"]
    assert health["lag_h"] == 72.0
    ledger = published(out).ledger
    assert health["figures"]["impressions"]["value"] == sum(ledger.values())
    assert 0 < health["figures"]["new_ad_share"]["value"] < 0.5
    assert health["figures"]["unknown_ad_share"]["value"] == 0.0


def test_the_first_days_have_only_bounds_and_a_note_says_so(mined: Path, tmp_path: Path) -> None:
    ended = done(run(mined / "log", tmp_path, day=DAYS[0]))
    assert (
        "note: the gate checked fixed limits only: 0 of the last 28 days are published and comparable, "
        f"{NUM_DAYS - 1} are needed\n" in ended.stdout
    )
    assert content_of(tmp_path, DAYS[0]) == content_of(mined / "out", DAYS[0])


def test_a_day_without_its_engagement_feed_is_held_and_told(held: JobRun, out: Path) -> None:
    assert held.exit_code == 3
    assert held.is_calm()
    aside = out / "held" / f"ds={DAY}"
    assert held.stdout.endswith(f"\nheld {aside}/manifest.json\n")
    assert held.error.startswith(f"{aside}: expected engagement_rate ")
    assert f"(the median of {NUM_DAYS - 1} trailing days, {DAYS[0]} to {DAYS[-2]}, is " in held.error
    assert held.error.endswith(
        "nothing was published; mend the logs and mine the day again, or publish it as it is: "
        + job_command("mine_negatives", "--date", DAY, "--out", out, "--release")
    )
    assert not is_published(str(day_of(out)))
    # Nothing is left of it where readers may look for shards by their names.
    assert not day_of(out).exists()
    breaches = read_manifest(str(aside)).health["gate"]["breaches"]  # type: ignore[index]
    assert "engagement_rate" in [breach["figure"] for breach in breaches]


def test_a_held_day_is_the_day_that_would_have_been_published(
    mined: Path, held: JobRun, out: Path, tmp_path: Path
) -> None:
    done(run(mined / "faulty", tmp_path / "open", "--set", "gate.enabled=false"))
    shutil.copytree(out / "held", tmp_path / "aside")
    assert content_of(tmp_path / "aside") == content_of(tmp_path / "open")


def test_a_released_day_is_published_as_it_was_held(
    held: JobRun, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("Spark was started to publish what is there")

    monkeypatch.setattr("scrollpast.mining.spark.session.spark_session", start)
    manifest = (out / "held" / f"ds={DAY}" / "manifest.json").read_bytes()
    printed = held.error.partition("publish it as it is: ")[2]
    ended = done(run_here(*shlex.split(printed)[2:]))
    assert ended.stdout.endswith(f"\npublished {day_of(out)}/manifest.json\n")
    assert (day_of(out) / "manifest.json").read_bytes() == manifest
    content_of(out)
    assert [path for path in (out / "held").rglob("*") if path.is_file()] == []
    again = run_here("--date", DAY, "--out", str(out), "--release")
    assert again.exit_code == 2
    assert "expected a day held by the gate, found no held day; the day is published" in again.error


def test_a_held_day_is_discarded_when_the_mended_one_is_published(
    mined: Path, held: JobRun, out: Path
) -> None:
    ended = done(run(mined / "log", out))
    assert ended.stdout.endswith(f"\npublished {day_of(out)}/manifest.json\n")
    assert [path for path in (out / "held").rglob("*") if path.is_file()] == []


def test_a_published_day_stays_when_the_run_that_should_replace_it_is_held(mined: Path, out: Path) -> None:
    done(run(mined / "log", out))
    before = (day_of(out) / "manifest.json").read_bytes()
    ended = run(mined / "faulty", out, "--overwrite")
    assert ended.exit_code == 3
    assert ended.error.endswith(" --release --overwrite")
    assert (day_of(out) / "manifest.json").read_bytes() == before
    content_of(out)
    refused = run_here("--date", DAY, "--out", str(out), "--release")
    assert refused.exit_code == 2
    assert "pass --overwrite to replace the published day by the held day" in refused.error
    done(run_here("--date", DAY, "--out", str(out), "--release", "--overwrite"))
    assert (day_of(out) / "manifest.json").read_bytes() != before
    content_of(out)


def test_a_day_may_pass_with_the_gate_switched_off(mined: Path, out: Path) -> None:
    done(run(mined / "faulty", out, "--set", "gate.enabled=false"))
    health = published(out).health
    assert health is not None and health["gate"] is None
    assert health["figures"]["engagement_rate"]["value"] < 0.01
