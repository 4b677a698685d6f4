"""Days past their time are removed, whole, and no other."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.jobs.job_runs import run_job
from tests.mining.published import DAY, write_day

from scrollpast.config import load_config
from scrollpast.shards.manifest import is_published, publish_manifest

KEEP = ("--set", "privacy.keep_days=3")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Days of 0 to 5 days ago, and a held one of 9 days ago."""
    for folder, ago in [*((tmp_path, ago) for ago in range(6)), (tmp_path / "held", 9)]:
        day = DAY - timedelta(days=ago)
        uri = str(folder / f"ds={day}")
        publish_manifest(uri, replace(write_day(uri, load_config(None)), ds=str(day)), replace=True)
    return tmp_path


def days(out: Path) -> list[int]:
    """Ages of the existing days, in days."""
    found = [DAY - timedelta(days=ago) for ago in range(10)]
    return [
        (DAY - day).days for day in found for folder in (out, out / "held") if (folder / f"ds={day}").exists()
    ]


def test_days_past_their_time_go_and_held_ones_too(out: Path) -> None:
    done = run_job("sweep_days", out, *KEEP, "--today", DAY)
    assert done.exit_code == 0, done.stderr
    assert days(out) == [0, 1, 2, 3]
    assert all(is_published(str(out / f"ds={DAY - timedelta(days=ago)}")) for ago in days(out))
    assert done.stdout.count(": removed, ") == 3
    assert "3 days past privacy.keep_days (3)" in done.stdout


def test_a_dry_run_removes_nothing(out: Path) -> None:
    done = run_job("sweep_days", out, *KEEP, "--today", DAY, "--dry-run")
    assert done.exit_code == 0 and done.stdout.count("would be removed") == 3
    assert days(out) == [0, 1, 2, 3, 4, 5, 9]


def test_without_a_number_of_days_nothing_goes(out: Path) -> None:
    done = run_job("sweep_days", out, "--today", DAY)
    assert done.exit_code == 2
    assert "privacy.keep_days: expected a number of days, found none" in done.stderr
    assert load_config(None).privacy.keep_days is None
    assert days(out) == [0, 1, 2, 3, 4, 5, 9]
