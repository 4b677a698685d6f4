"""The training job from its command line: alone, on several ranks, killed, stopped, and wrongly asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scrollpast.training.engine.checkpoint import published_checkpoints
from tests.jobs.job_runs import ROOT, TIMEOUT_S
from tests.training.data.days import vocabulary
from tests.training.runs import SMALL, losses, small_day

JOB = str(ROOT / "jobs" / "train_two_tower.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("days")
    return small_day(folder), vocabulary().write(str(folder))


def command(days: tuple[str, str], out: Path, *overrides: str, num_ranks: int = 1) -> list[str]:
    day, known = days
    program = [sys.executable, JOB]
    if num_ranks > 1:
        program = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={num_ranks}",
            JOB,
        ]
    options = [*SMALL, f"training.vocabulary={known}", *(f"training.{override}" for override in overrides)]
    return [*program, day, "--out", str(out), *(part for option in options for part in ("--set", option))]


def run(
    days: tuple[str, str], out: Path, *overrides: str, num_ranks: int = 1
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(days, out, *overrides, num_ranks=num_ranks),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=ENVIRONMENT,
    )


def checkpointed(out: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Wait until a checkpoint of this step or a later one is published."""
    deadline = time.monotonic() + TIMEOUT_S
    while not any(checkpoint.step >= step for checkpoint in published_checkpoints(str(out))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_as_if_it_had_never_been(days: tuple[str, str], tmp_path: Path) -> None:
    options = ["epochs=40", "checkpoints.every_steps=7", "log_every_steps=3"]
    whole = run(days, tmp_path / "whole", *options)
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(
        command(days, tmp_path / "killed", *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    checkpointed(tmp_path / "killed", 7, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    again = run(days, tmp_path / "killed", *options)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("going on from ")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) > 20


@pytest.mark.slow
def test_a_run_that_is_over_says_so_and_does_nothing(days: tuple[str, str], tmp_path: Path) -> None:
    first = run(days, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    second = run(days, tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    trained, *rest = first.stdout.splitlines()
    assert trained == "trained 5 steps: all epochs are done"
    assert second.stdout.splitlines() == [
        f"{tmp_path} is finished already, after 5 steps: all epochs are done; nothing was trained",
        *rest,
    ]
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_finished_run_refuses_a_mistake_on_all_ranks_and_takes_the_same_step_on_more(
    days: tuple[str, str], tmp_path: Path
) -> None:
    assert run(days, tmp_path).returncode == 0
    same = run(days, tmp_path, "data.batch_size=32", num_ranks=2)
    assert (same.returncode, "nothing was trained" in same.stdout) == (0, True), same.stderr
    other = run(days, tmp_path, "data.batch_size=16", num_ranks=2)
    assert other.returncode != 0
    assert other.stderr.count("nothing was trained") == 1
    assert "expected training.data.batch_size=64, found training.data.batch_size=16" in other.stderr


@pytest.mark.slow
def test_a_checkpoint_of_two_ranks_goes_on_on_one_and_on_four(days: tuple[str, str], tmp_path: Path) -> None:
    options = ["epochs=4", "model.sharding.tables={user: [row_wise], ad: [row_wise]}"]
    whole = run(days, tmp_path / "whole", *options)
    assert whole.returncode == 0, whole.stderr
    for num_ranks in (1, 4):
        out = tmp_path / f"to-{num_ranks}"
        half = run(days, out, *options, "max_steps=8", "data.batch_size=32", num_ranks=2)
        assert half.returncode == 0, half.stderr
        rest = run(days, out, *options, f"data.batch_size={64 // num_ranks}", num_ranks=num_ranks)
        assert rest.returncode == 0, rest.stderr
        assert "going on from" in rest.stdout
        found, expected = losses(out), losses(tmp_path / "whole")
        assert found.keys() == expected.keys()
        assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-4)


@pytest.mark.slow
def test_sigterm_saves_and_leaves(days: tuple[str, str], tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(days, tmp_path, "epochs=100000", "checkpoints.every_steps=5"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    checkpointed(tmp_path, 5, process)
    process.terminate()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    last = published_checkpoints(str(tmp_path))[-1]
    assert f"stopped by SIGTERM after step {last.step:,}; saved {last.uri}" in stdout
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_ranks_that_lose_another_say_so_and_the_run_goes_on(days: tuple[str, str], tmp_path: Path) -> None:
    options = ["checkpoints.every_steps=10", "data.batch_size=32", "log_every_steps=1000000"]
    process = subprocess.Popen(
        command(days, tmp_path, "epochs=100000", *options, num_ranks=2),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    checkpointed(tmp_path, 10, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode != 0
    (told,) = [line for line in stderr.splitlines() if "train_two_tower.py: error" in line]
    assert "expected 2 ranks that run to the end, found a rank that ended early" in told
    last = published_checkpoints(str(tmp_path))[-1].step
    again = run(days, tmp_path, f"max_steps={last + 5}", "epochs=100000", *options, num_ranks=2)
    assert again.returncode == 0, again.stderr
    assert f"trained {last + 5:,} steps" in again.stdout


@pytest.mark.slow
def test_a_mistake_is_told_once_by_all_ranks_together(days: tuple[str, str], tmp_path: Path) -> None:
    done = run(days, tmp_path, "model.sharding.tables={users: [row_wise]}", num_ranks=2)
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if "train_two_tower.py: error" in line]
    assert len(told) == 1
    assert "expected one of the tables user, user_age, history, ad, ad_advertiser, found 'users'" in told[0]
