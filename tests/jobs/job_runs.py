"""Runs of a job as its user starts them: arguments in, exit code and console out."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.toy_logs import AS_OF, DAY

ROOT = Path(__file__).parents[2]
MINE_NEGATIVES = ROOT / "jobs" / "mine_negatives.py"
TIMEOUT_S = 300


@dataclass(frozen=True)
class JobRun:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one line on standard error that says what went wrong, without the program's name."""
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr
        return lines[0].removeprefix("mine_negatives.py: error: ")

    def is_calm(self) -> bool:
        """True if the console has no stack trace of Python or the JVM."""
        console = self.stdout + self.stderr
        return not any(mark in console for mark in ("Traceback", "at org.apache", "Py4J", "at java."))


def mine(folder: Path, out: Path, *arguments: str, buckets: int = 4, partitions: int = 2) -> JobRun:
    """Mine the toy log in ``folder`` in this process, on the session that runs in it if one does."""
    return run_here(
        *arguments_of(folder, out),
        *("--set", f"mining.num_buckets={buckets}", "--set", f"spark.num_partitions={partitions}"),
        *arguments,
    )


def arguments_of(folder: Path, out: Path) -> list[str]:
    """The arguments that mine the day of a toy log; a later argument of the same name wins."""
    tables = [f"--{name}={folder / name}" for name in ("impressions", "engagements")]
    return ["--date", DAY, "--as-of", AS_OF, *tables, "--out", str(out)]


def run_here(*arguments: str) -> JobRun:
    """Mine in this process with a command line of its own."""
    return run_job("mine_negatives", *arguments)


def run_job(job: str, *arguments: object) -> JobRun:
    """Run a job's ``main`` in this process, on the session that runs in it if one does."""
    main = import_module(f"jobs.{job}").main
    stdout, stderr = io.StringIO(), io.StringIO()
    command_line = patch.object(sys, "argv", [f"{job}.py", *map(str, arguments)])
    with command_line, redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            exit_code = main()
        except SystemExit as ended:  # argparse's way out
            exit_code = int(ended.code or 0)
    return JobRun(exit_code, stdout.getvalue(), stderr.getvalue())


def run_alone(*arguments: str | Path, program: tuple[str, ...] = (), **environment: Any) -> JobRun:
    """Mine, or run another program, as a process of its own, with these variables over the environment's."""
    done = subprocess.run(
        [*(program or (sys.executable, str(MINE_NEGATIVES))), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "PYTHONPATH": str(ROOT / "lib"), **environment},
    )
    return JobRun(done.returncode, done.stdout, done.stderr)


def parser_of(job: str) -> argparse.ArgumentParser:
    """The parser that a job builds, without a run of the job."""
    found: list[argparse.ArgumentParser] = []
    module = import_module(f"jobs.{job}")

    def keep(parser: argparse.ArgumentParser, *_: object, **__: object) -> int:
        found.append(parser)
        return 0

    with patch.object(module, "run_job", keep):
        module.main()
    return found[0]
