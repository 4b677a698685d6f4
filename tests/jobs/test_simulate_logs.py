"""The job that writes a simulated log, as a user starts it."""

import json
import sys
from pathlib import Path

import numpy as np

from scrollpast.simulation.log import LogRequest, simulate_log
from scrollpast.simulation.shape import LogShape
from tests.jobs.job_runs import ROOT, JobRun, run_alone
from tests.simulation.test_log import LAST_DAY, contents

JOB = ROOT / "jobs" / "simulate_logs.py"


def run(*arguments: str | Path) -> JobRun:
    return run_alone(*arguments, program=(sys.executable, str(JOB)))


def test_a_small_log_is_written_and_summed_up(tmp_path: Path) -> None:
    done = run("--rows", "2e3", "--days", "2", "--seed", "4", "--processes", "1", tmp_path / "log")
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    assert "impressions                       2,000" in done.stdout
    names = {path.name for path in (tmp_path / "log").iterdir()}
    assert names == {
        "impressions", "engagements", "ads", "users", "truth", "truth_users", "truth_ads", "truth_examination",
        "simulation.json",
    }  # fmt: skip


def test_numbers_may_have_underscores_but_no_fraction(tmp_path: Path) -> None:
    assert run("--rows", "1_000", "--processes", "1", tmp_path / "log").exit_code == 0
    assert run("--rows", "1.5", tmp_path / "other").exit_code == 2


def test_an_unknown_knob_is_the_users_mistake(tmp_path: Path) -> None:
    done = run("--set", "duplicate=0.1", tmp_path / "log")
    assert done.exit_code == 2
    assert "did you mean duplicates?" in done.stderr
    assert not (tmp_path / "log").exists()


def test_a_world_selects_parameters_and_set_changes_them(tmp_path: Path) -> None:
    done = run(
        "--rows", "2e3", "--world", "tastes", "--set", "watched_ads=5", "--processes", "1", tmp_path / "log"
    )
    assert done.exit_code == 0, done.stderr
    shape = json.loads((tmp_path / "log" / "simulation.json").read_text())["shape"]
    assert (shape["relevance_spread"], shape["pool_ads"], shape["watched_ads"]) == (6.0, 512, 5.0)


def test_an_unknown_world_is_the_users_mistake(tmp_path: Path) -> None:
    done = run("--world", "flat", tmp_path / "log")
    assert done.exit_code == 2
    assert (
        "--world: expected a registered world (plain, tastes, campaigns, sparse), found 'flat'" in done.stderr
    )


def test_a_day_is_written_with_the_pools_of_a_file(tmp_path: Path) -> None:
    random = np.random.Generator(np.random.Philox(1))
    np.save(tmp_path / "pools.npy", random.integers(0, 381, (133, 64), np.int32))
    options = [
        "--rows",
        "20000",
        "--days",
        "4",
        "--set",
        "rows_per_file=5000",
        "--retrieved",
        tmp_path / "pools.npy",
    ]
    done = run(*options, "--only-day", "2", "--processes", "1", tmp_path / "log")
    assert done.exit_code == 0, done.stderr
    assert "impressions                       5,000" in done.stdout
    shape = LogShape(rows_per_file=5000)
    request = LogRequest(20_000, 4, LAST_DAY, 0, shape, only_day=2, retrieved=tmp_path / "pools.npy")
    simulate_log(request, tmp_path / "same")
    assert contents(tmp_path / "log") == contents(tmp_path / "same")


def test_pools_of_another_log_are_the_users_mistake(tmp_path: Path) -> None:
    np.save(tmp_path / "pools.npy", np.zeros((5, 64), np.int32))
    done = run("--rows", "2e3", "--retrieved", tmp_path / "pools.npy", tmp_path / "log")
    assert done.exit_code == 2
    assert "found int32 [5, 64]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "log").exists()
