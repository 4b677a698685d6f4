"""Jobs as separate processes: start, wait, kill; `kill_all` ends every process of a campaign."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import psutil
from scripts.bench.benchmarking import ROOT

GIVES_UP_S = 600
Process = subprocess.Popen[str]
_started: list[Process] = []


def start(command: Sequence[object], **variables: str) -> Process:
    """Start a program, with both outputs joined into one text. ``variables`` override the environment's.

    A folder in ``PYTHONPATH`` of ``variables`` precedes the library on the import path.
    """
    path = os.pathsep.join(filter(None, (variables.pop("PYTHONPATH", ""), str(ROOT / "lib"))))
    job = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables, "PYTHONPATH": path},
    )
    _started.append(job)
    return job


def start_job(name: str, *arguments: object, **variables: str) -> Process:
    """Start a job of jobs/ with this Python."""
    return start([sys.executable, ROOT / "jobs" / f"{name}.py", *arguments], **variables)


def said(job: Process) -> str:
    """Wait for the program to end; returns its output."""
    try:
        return job.communicate(timeout=GIVES_UP_S)[0].strip()
    except subprocess.TimeoutExpired:
        kill(job)
        return f"the program did not end in {GIVES_UP_S} s and was killed"


def must(job: Process) -> None:
    """Wait for an undisturbed program.

    Raises:
        RuntimeError: its exit code is not 0.
    """
    text = said(job)
    if job.returncode:
        raise RuntimeError(
            f"undisturbed run: expected exit code 0, found {job.returncode}: {job.args!r}\n{text}"
        )


def kill(job: Process) -> bool:
    """Send SIGKILL to a program, then to its remaining descendants; True if the program was still running."""
    below = descendants(job)
    job.kill()
    job.communicate(timeout=GIVES_UP_S)
    _, alive = psutil.wait_procs(below, timeout=5)  # a JVM ends by itself when its driver is gone
    for process in alive:
        process.kill()
    return job.returncode == -9


def kill_all() -> None:
    """Kill all started programs that still run."""
    for job in _started:
        if job.poll() is None:
            kill(job)


def descendants(job: Process) -> list[psutil.Process]:
    """All descendants of a running program; empty once the program has ended."""
    try:
        return psutil.Process(job.pid).children(recursive=True) if job.poll() is None else []
    except psutil.NoSuchProcess:
        return []
