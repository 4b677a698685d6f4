"""The generations' program goes round, and takes up what it did before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.jobs.job_runs import ROOT, TIMEOUT_S


@pytest.mark.slow
def test_two_generations_with_and_without_the_guard(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "bench_generations.py"), "--rows", "1e4", "--generations", "2",
               "--seeds", "1", "--out", str(tmp_path / "out"), "--results", str(tmp_path / "results")]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "1"}

    def go() -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    table = go()
    figures = json.loads((tmp_path / "results" / "generations.json").read_text())["arms"]
    for arm in ("guard off", "guard on"):
        ((first, second),) = figures[arm]
        assert all(0 <= value <= 1 for value in (*first.values(), *second.values()))
    (off, _), (on, _) = figures["guard off"][0], figures["guard on"][0]
    assert off["new_negatives"] > 0.05 > on["new_negatives"]
    plot = (tmp_path / "results" / "generations.svg").read_bytes()
    assert b"guard on" in plot
    # What was found stays: nothing is trained again, and the same is told.
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert go() == table
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == times
    assert (tmp_path / "results" / "generations.svg").read_bytes() == plot
