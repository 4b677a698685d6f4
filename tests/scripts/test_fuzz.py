"""The fuzzer: what it draws is read right or refused; a reader that breaks the law is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_BREAKS = """
import sys
from scripts.robustness import fuzz
{fault}
sys.exit(fuzz.main())
"""


def run(*arguments: str, fault: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'lib'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", _BREAKS.format(fault=fault), *arguments],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip


@pytest.mark.slow
def test_thousands_of_mutations_are_read_right_or_refused() -> None:
    done = run("--shards", "4000", "--configurations", "400", "--seed", "1000", "--processes", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert {"as found", "sealed", "large", "manifest", "configuration"} <= rows.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("fuzz.read_shard_content = lambda shard: 1 / 0", "raised ZeroDivisionError"),
        ("fuzz.reference = lambda payload: {}", "wrong: other values than protobuf's"),
        (
            "import os; fuzz._read = lambda shard: os.abort()",
            "a process died: scripts/robustness/fuzz.py --seed 3 --shards 60",
        ),
        ("fuzz._HANGS_AFTER_S = 1; import time; fuzz._read = lambda shard: time.sleep(60)", "as found: hung"),
    ],
)
def test_a_reader_that_breaks_the_law_is_told(fault: str, told: str) -> None:
    count = "2" if "sleep" in fault else "60"
    done = run("--shards", count, "--configurations", "0", "--seed", "3", "--processes", "1", fault=fault)
    assert done.returncode == 1, done.stdout + done.stderr
    assert told in done.stdout
