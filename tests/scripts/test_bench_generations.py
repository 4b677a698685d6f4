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
    out, results = tmp_path / "out", tmp_path / "results"
    program = ROOT / "scripts" / "bench" / "bench_generations.py"
    command = [sys.executable, str(program), "--rows", "1e4", "--generations", "2",
               "--seeds", "1", "--steps", "10", "--out", str(out), "--results", str(results)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "1"}

    def go(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more], capture_output=True, text=True, timeout=TIMEOUT_S, env=environment
        )

    def figures() -> dict[str, list[list[dict[str, float]]]]:
        return dict(json.loads((results / "generations.json").read_text())["arms"])

    first = go()
    assert first.returncode == 0, first.stderr
    told = figures()
    for arm in ("guard off", "guard on"):
        (generations,) = told[arm]
        assert len(generations) == 2
        assert all(0 <= value <= 1 for figures in generations for value in figures.values())
    ((off, _),), ((on, _),) = told["guard off"], told["guard on"]
    assert off["new_negatives"] > 0.05 > on["new_negatives"]
    plot = (results / "generations.svg").read_bytes()
    assert all(text in plot for text in (b"guard on", b"guard off", b"ads of the last 48 h", b"tail ads"))

    # Finished generations stay. An unfinished generation is made again, with the same result.
    unfinished, finished = (out / "seed-1" / arm / "generation-2.json" for arm in ("guard-on", "guard-off"))
    unfinished.unlink()
    written_ns = finished.stat().st_mtime_ns
    again = go()
    assert again.returncode == 0, again.stderr
    assert finished.stat().st_mtime_ns == written_ns
    assert figures() == told
    assert again.stdout == first.stdout
    assert (results / "generations.svg").read_bytes() == plot

    other = go("--hard-weight", "0.01")
    assert other.returncode == 2
    assert "another folder, or the same options" in other.stderr
