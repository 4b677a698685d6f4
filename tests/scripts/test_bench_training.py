"""The benchmark of the training step runs, and compares what it says it compares."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_shows_every_peer_and_the_data_beside_the_step(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "scripts" / "bench/bench_training.py"), "--rows", "2e3", "--batch", "64",
            "--steps", "2", "--runs", "2", "--threads", "1", "--users", "400",
            "--results", str(tmp_path),
        ],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = [line.split("  ")[0] for line in done.stdout.splitlines()]
    peers = [
        "scrollpast", "PyTorch, dense Adagrad", "PyTorch, sparse gradients", "from shards", "from its cache",
    ]  # fmt: skip
    assert [name for name in names if name in peers] == peers
    assert done.stdout.count("×") == 4
    figures = json.loads((tmp_path / "training_64.json").read_text())
    assert figures["machine"]["command"].startswith("scripts/bench/bench_training.py --rows 2e3")
    assert all(0 < share < 1 for share in figures["waited"])
    assert "step waits for data" in (tmp_path / "training_64.txt").read_text()
