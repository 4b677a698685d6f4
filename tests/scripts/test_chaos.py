"""Campaigns of faults: what strikes is survived, and what is not survived is told."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_run_that_dies_where_it_publishes_is_survived(tmp_path: Path) -> None:
    options = ["--seeds", "1", "--rows", "2e4", "--kinds", "manifest", "--folder", str(tmp_path)]
    command = [sys.executable, str(ROOT / "scripts" / "robustness/chaos.py"), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib")}

    def go() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, timeout=1200, env=environment)

    done = go()
    assert done.returncode == 0, done.stdout + done.stderr
    kept = (tmp_path / "results.jsonl").read_bytes()
    rows = {line.split("  ")[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert rows["all"][:5] == ["1", "1", "0", "0", "1"]
    # A campaign that is run again goes on where it was: nothing is left to do.
    assert go().stdout == done.stdout
    assert (tmp_path / "results.jsonl").read_bytes() == kept


@pytest.mark.parametrize(
    "change",
    [{"tries": 0}, {"lost": 1}, {"duplicated": 1}, {"is_equal": False}, {"found": "exit code 1"}],
    ids=lambda change: next(iter(change)),
)
def test_what_is_not_as_it_would_have_been_is_not_survived(
    change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from scripts.robustness.chaos import Result, render

    survived = Result(0, "python-worker", 1, 2.0, 0, 0, is_equal=True, found="")
    assert survived.is_survived
    broken = replace(survived, seed=7, **change)  # type: ignore[arg-type]
    assert not broken.is_survived
    assert "scripts/robustness/chaos.py --first 7 --seeds 1 --kinds python-worker" in render(
        [survived, broken]
    )
