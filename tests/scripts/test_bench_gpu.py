"""The benchmark for GPUs works without one, in small sizes, and says what it would say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_section_runs_on_a_processor(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "bench/bench_gpu.py"), "--results", str(tmp_path), "--steps", "2"],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    name = "gpu" if (tmp_path / "gpu.json").exists() else "gpu_without"
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert [check["found"] <= check["allowed"] for check in found["checks"]] == [True] * 4
    assert [part["name"] for part in found["parts"]] == [
        "tables, lookup and update", "towers", "loss", "data, made ready",
    ]  # fmt: skip
    assert {step["program"].split(",")[0] for step in found["steps"]} == {"scrollpast", "PyTorch"}
    assert all(step["examples_per_s"] > 0 for step in found["steps"])
    assert found["run"][0]["num_anchors"] == 20_000
    # Of 20,000 ads, 100 by chance: what the towers learned is far more.
    assert found["run"][0]["recall"] > 0.05


def test_a_python_without_a_gpu_is_refused_where_it_was_asked_for(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(ROOT / "scripts" / "bench/bench_gpu.sh")], capture_output=True, text=True, timeout=120,
        env={"PATH": "/usr/bin:/bin", "SCROLLPAST_GPU_PYTHON": "/bin/false", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "/bin/false: expected a PyTorch that sees a GPU, found none" in done.stderr
