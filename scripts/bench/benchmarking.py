"""Benchmark runs as separate processes, with time and memory; tables and result files."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from scrollpast.argument_types import whole_number
from scrollpast.errors import ScrollpastError

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "scripts" / "bench" / "results"
_SAMPLE_S = 0.2
_WEIGHING_SHARE = 0.02
"""Largest share of time spent measuring memory: the kernel walks every page, tenths of a second at 12 GiB."""


@dataclass(frozen=True)
class Cost:
    """Time and memory of one run of a program. Memory is that of the process tree, with shared pages counted once."""

    seconds: float
    peak_gib: float
    cpu_seconds: float
    failure: str = ""
    """Exit code and last printed line of a run that failed, else ""."""


class ProgramFailed(ScrollpastError):
    """A program ended with another exit code than 0; ``cost`` is its time and memory until then."""

    def __init__(self, command: Sequence[str], cost: Cost, output: str) -> None:
        super().__init__(
            Path(command[1] if len(command) > 1 else command[0]).name,
            expected="exit code 0",
            found=f"{cost.failure}\n{output}",
            remedy=f"run the program alone: {shlex.join(command)}",
        )
        self.cost = cost


def seeds(text: str) -> list[int]:
    """Parse a command-line option: different seeds, as 1,2,3."""
    seed = whole_number(0)
    found = [seed(word) for word in text.split(",")]
    if len(set(found)) < len(found):
        raise ArgumentTypeError(f"expected different seeds, found {text!r}")
    return found


def environment(folder: str, *locks: str) -> Path:
    """The Python of an environment with these locks, made if missing."""
    script = f"source {shlex.quote(str(ROOT / 'scripts/env/environment.sh'))}; environment {folder} {' '.join(locks)}"
    subprocess.run(["bash", "-c", script], check=True)
    return ROOT / folder / "bin" / "python"


def run(command: Sequence[object], **variables: str) -> Cost:
    """Run a program to its end.

    Raises:
        ProgramFailed: its exit code is not 0; the message has the end of its output.
    """
    words = [str(word) for word in command]
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            words, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **variables}
        )
        tree = _Tree(process.pid)
        tree.start()
        code = process.wait()
        seconds = time.perf_counter() - started
        tree.stop()
        cost = Cost(seconds, tree.peak / 2**30, sum(tree.cpu_seconds.values()))
        if code:
            output.seek(0)
            text = output.read().strip()
            last = text.splitlines()[-1] if text else "it printed nothing"
            raise ProgramFailed(words, replace(cost, failure=f"exit code {code}: {last[:200]}"), text[-2000:])
    return cost


class _Tree(threading.Thread):
    """Samples a process and its descendants: proportional set size (shared pages are divided), CPU time."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root, self._ended = psutil.Process(pid), threading.Event()
        self.peak = 0
        self.cpu_seconds: dict[int, float] = {}

    def run(self) -> None:
        weigh_again = 0.0
        while not self._ended.wait(_SAMPLE_S):
            try:
                tree = [self._root, *self._root.children(recursive=True)]
            except psutil.Error:
                continue
            started = time.monotonic()
            if started >= weigh_again:
                self.peak = max(self.peak, sum(_resident(process.pid) for process in tree))
                ended = time.monotonic()
                weigh_again = ended + (ended - started) / _WEIGHING_SHARE
            for process in tree:
                with suppress(psutil.Error):  # the process ended after the listing
                    times = process.cpu_times()
                    self.cpu_seconds[process.pid] = times.user + times.system

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _resident(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # the process ended after the listing
    return 0


def machine() -> dict[str, Any]:
    """Date, hardware, Python and command of a measurement, saved with every result."""
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "classes": "archived"
        if (Path(sys.prefix) / ".scrollpast" / "spark.jsa").exists()
        else "not archived",
        "command": shlex.join([_program(), *_without_folders(sys.argv[1:])]),
    }


def _program() -> str:
    """Path of this program, relative to the repository."""
    program = Path(sys.argv[0]).resolve()
    return str(program.relative_to(ROOT)) if program.is_relative_to(ROOT) else program.name


_FOLDERS = ("--folder", "--results", "--out")


def _without_folders(words: Sequence[str]) -> list[str]:
    """The command line without folders of this machine, to repeat the measurement elsewhere."""
    told, is_folder = [], False
    for word in words:
        if not is_folder and not word.startswith(_FOLDERS):
            told.append(word)
        is_folder = word in _FOLDERS
    return told


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def save(folder: Path, name: str, table: str, figures: Mapping[str, Any]) -> None:
    """Write a result: the table as NAME.txt, the figures as NAME.json."""
    folder.mkdir(parents=True, exist_ok=True)
    about = machine()
    heading = "".join(f"{key:<12}{value}\n" for key, value in about.items())
    (folder / f"{name}.txt").write_text(f"{heading}\n{table}")
    (folder / f"{name}.json").write_text(json.dumps({"machine": about, **figures}, indent=1) + "\n")
    print(f"\nwritten to {os.path.relpath(folder / name)}.txt and .json")


def costs_as_json(costs: Mapping[str, Sequence[Cost]]) -> dict[str, Any]:
    return {name: [asdict(cost) for cost in found] for name, found in costs.items()}


def render_costs(costs: Mapping[str, Sequence[Cost]], own: str) -> str:
    """Table by program: median and spread of the time, its ratio, processor time, memory, failures."""
    ours = median(cost.seconds for cost in costs[own])
    lines = [
        f"{'program':<28}{'seconds':>9}{'fastest–slowest':>18}{'ours ÷ it':>11}{'CPU s':>9}{'peak GiB':>10}"
    ]
    for name, found in costs.items():
        seconds = [cost.seconds for cost in found]
        spread = f"{min(seconds):.1f}–{max(seconds):.1f}" if len(seconds) > 1 else "one run"
        ratio = "" if name == own else f"{ours / median(seconds):.2f}"
        cpu, peak = median(c.cpu_seconds for c in found), max(c.peak_gib for c in found)
        lines.append(f"{name:<28}{median(seconds):>9.1f}{spread:>18}{ratio:>11}{cpu:>9.0f}{peak:>10.2f}")
        lines += [f"  did not end: {failure}" for failure in {cost.failure for cost in found} if failure]
    return "\n".join(lines) + "\n"
