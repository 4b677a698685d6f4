"""Jobs as processes of their own: started, waited for, killed; none outlives the campaign."""

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
    """Start a program; what it prints, on both outputs, is one text. ``variables`` go over the environment's.

    A folder in ``PYTHONPATH`` of ``variables`` stands before the library.
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
    """What the program printed, once it has ended."""
    try:
        return job.communicate(timeout=GIVES_UP_S)[0].strip()
    except subprocess.TimeoutExpired:
        kill(job)
        return f"it did not end in {GIVES_UP_S} s"


def must(job: Process) -> None:
    """Wait for a program that nothing disturbs.

    Raises:
        RuntimeError: it fails.
    """
    text = said(job)
    if job.returncode:
        raise RuntimeError(f"undisturbed, it failed with exit code {job.returncode}: {job.args!r}\n{text}")


def kill(job: Process) -> bool:
    """SIGKILL for a program, and a moment later for what it left behind; whether it was still running."""
    below = descendants(job)
    job.kill()
    job.communicate(timeout=GIVES_UP_S)
    _, alive = psutil.wait_procs(below, timeout=5)  # a JVM sees that its driver is gone, and ends by itself
    for process in alive:
        process.kill()
    return job.returncode == -9


def kill_all() -> None:
    """End whatever is still running."""
    for job in _started:
        if job.poll() is None:
            kill(job)


def descendants(job: Process) -> list[psutil.Process]:
    """All processes below a program that runs."""
    try:
        return psutil.Process(job.pid).children(recursive=True) if job.poll() is None else []
    except psutil.NoSuchProcess:
        return []
