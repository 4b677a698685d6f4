"""The job that writes a simulated log, as a user starts it."""

import subprocess
import sys
from pathlib import Path

JOB = Path(__file__).parents[2] / "jobs" / "simulate_logs.py"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(JOB), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_small_log_is_written_and_summed_up(tmp_path: Path) -> None:
    done = run("--rows", "2e3", "--days", "2", "--seed", "4", "--processes", "1", tmp_path / "log")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "impressions                       2,000" in done.stdout
    names = {path.name for path in (tmp_path / "log").iterdir()}
    assert names == {"impressions", "engagements", "ads", "truth", "truth_examination", "simulation.json"}


def test_numbers_may_have_underscores_but_no_fraction(tmp_path: Path) -> None:
    assert run("--rows", "1_000", "--processes", "1", tmp_path / "log").returncode == 0
    assert run("--rows", "1.5", tmp_path / "other").returncode == 2


def test_an_unknown_knob_is_the_users_mistake(tmp_path: Path) -> None:
    done = run("--set", "duplicate=0.1", tmp_path / "log")
    assert done.returncode == 2
    assert "did you mean duplicates?" in done.stderr
    assert not (tmp_path / "log").exists()
