"""Shared main of the jobs: exit codes, one line for an error, a traceback only with --debug."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scrollpast.cli_runner import run_job
from scrollpast.errors import CorruptShardError, ScrollpastError, UserError

ROOT = Path(__file__).parents[1]
JOBS = sorted((ROOT / "jobs").glob("*.py"))
HELP_S = 0.3


def run(
    work: Callable[[argparse.Namespace], int | None], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> int:
    monkeypatch.setattr(sys, "argv", ["a_job.py", *arguments])
    return run_job(argparse.ArgumentParser(prog="a_job.py"), work)


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def work(_: argparse.Namespace) -> int:
        raise error

    return work


def test_work_that_says_nothing_has_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(lambda _: None, monkeypatch) == 0


def test_the_exit_code_of_the_work_is_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(lambda _: 3, monkeypatch) == 3


PARTS = {"expected": "rows", "found": "none", "remedy": "look again"}


@pytest.mark.parametrize(
    ("error", "exit_code", "line"),
    [
        (UserError("ads", **PARTS), 2, "ads: expected rows, found none; look again"),
        (ScrollpastError("ledger", **PARTS), 1, "ledger: expected rows, found none; look again"),
        (CorruptShardError("part-1", **PARTS), 1, "part-1: expected rows, found none; look again"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            ValueError("\n  too much\nand more"), 1,
            "ValueError: too much; run again with --debug for the traceback",
        ),
        (ValueError(), 1, "ValueError: no message; run again with --debug for the traceback"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException,
    exit_code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(raising(error), monkeypatch) == exit_code
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"a_job.py: error: {line}\n")


def test_debug_shows_where_it_happened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(raising(UserError("ads", **PARTS)), monkeypatch, "--debug") == 2
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback (most recent call last):")
    assert printed.endswith("a_job.py: error: ads: expected rows, found none; look again\n")


def test_a_wrong_command_line_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended:
        run(lambda _: 0, monkeypatch, "--unheard-of")
    assert ended.value.code == 2


def test_a_reader_that_goes_away_is_no_error() -> None:
    program = (
        "import argparse\nfrom scrollpast.cli_runner import run_job\n"
        "def work(_):\n    for number in range(200_000): print(number)\n"
        "raise SystemExit(run_job(argparse.ArgumentParser(), work))\n"
    )
    pipe = f"set -o pipefail; \"{sys.executable}\" -c '{program}' | head -n 1"
    done = subprocess.run(
        ["bash", "-c", pipe], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "lib")}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_errors_cross_process_borders_whole() -> None:
    import pickle

    error = UserError("ads", **PARTS)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.remedy) == (UserError, str(error), "look again")


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_help_is_there_at_once_and_says_what_the_job_does(job: Path) -> None:
    elapsed_s = []
    for _ in range(3):  # the best of three: other work on the machine is not the job's
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, job, "--help"],
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(ROOT / "lib")},
        )
        elapsed_s.append(time.perf_counter() - began)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith(f"usage: {job.name}")
    assert "--debug" in done.stdout
    described = re.search(r'^"""(.+?)"""', job.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert described is not None and described[1].split()[0] in done.stdout
    assert min(elapsed_s) < HELP_S, f"fastest of three: {min(elapsed_s):.2f} s"


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_a_job_is_a_thin_entry_point(job: Path) -> None:
    assert len(job.read_text(encoding="utf-8").splitlines()) <= 60
