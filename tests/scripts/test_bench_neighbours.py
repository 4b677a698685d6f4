"""The benchmark of neighbours runs, and says what a user costs and what a run costs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_tells_what_a_run_and_a_user_cost(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "scripts" / "bench/bench_neighbours.py"), "--ads", "1e3", "--users", "4e3",
            "--dim", "8", "--index", "flat", "--buckets", "4", "--results", str(tmp_path),
        ],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "neighbours_1000_flat.json").read_text())
    assert figures["ledger"].keys() == {"engaged", "above_margin", "not_drawn", "kept"}
    asked, rest = divmod(sum(figures["ledger"].values()), 400)
    # Every 40th user, and few others, engaged with nothing that the towers know.
    assert rest == 0 and 3800 < asked <= 3900
    assert set(figures["seconds"]) == {"400", "4000"}
    assert re.search(r"^a run \d+\.\d s, a user -?\d+\.\d{3} ms", done.stdout, re.MULTILINE)
    assert (tmp_path / "neighbours_1000_flat.txt").read_text().count("GiB") == 1
