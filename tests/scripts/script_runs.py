"""Runs of the programs in scripts/: as a process of their own, or in this process on the session that it has."""

from __future__ import annotations

import io
import os
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from tests.jobs.job_runs import ROOT, JobRun

SCRIPTS = ROOT / "scripts"
TIMEOUT_S = 600


def run_script(script: str, *arguments: object, cwd: Path, **variables: str) -> JobRun:
    """Run a program of scripts/ in a folder: Python's with this Python, others as they start themselves."""
    path = SCRIPTS / script
    starter = [sys.executable] if path.suffix == ".py" else []
    done = subprocess.run(
        [*starter, str(path), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "1", **variables},
    )
    return JobRun(done.returncode, done.stdout, done.stderr)


def run_script_here(script: str, *arguments: object) -> JobRun:
    """Run a Python program of scripts/ in this process, on the Spark session that runs in it if one does."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", [script, *map(str, arguments)]),
        patch.object(sys, "path", [str((SCRIPTS / script).parent), *sys.path]),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        try:
            runpy.run_path(str(SCRIPTS / script), run_name="__main__")
        except SystemExit as ended:
            return JobRun(int(ended.code or 0), stdout.getvalue(), stderr.getvalue())
    return JobRun(0, stdout.getvalue(), stderr.getvalue())


def rows_of(text: str, heading: str) -> dict[str, list[str]]:
    """The lines of a table below the line that begins with a heading: the words behind each line's name.

    A name ends where two blanks begin.
    """
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(heading):
            break
    else:
        raise AssertionError(f"no line begins with {heading!r} in:\n{text}")
    rows = {}
    for line in lines:
        if not line.strip():
            break
        name, _, rest = line.strip().partition("  ")
        rows[name] = rest.split()
    return rows


def files_below(folder: Path) -> dict[str, int]:
    """Files of a folder by the time of their last change, caches of Python left out."""
    return {
        str(path): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
