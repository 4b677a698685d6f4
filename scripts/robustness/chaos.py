#!/usr/bin/env python3
"""Inject faults into running jobs, run the same command again, and compare the outcome with an undisturbed run's.

A log is mined and a model trained without faults. Then a run of each seed meets a fault:

    python-worker   SIGKILL of a Python worker while tasks run
    driver          SIGKILL of the driver at any moment
    manifest        SIGKILL of the driver just before, or just after, the manifest takes its name
    two-runs        two runs of the same day at once: one publishes, the other reports that
    damaged-shard   a published shard with a flipped bit or its end cut off: readers refuse it, the day is mined again
    disk-full       no space left on the device (a small file system in memory; needs the right to mount one)
    executor        SIGKILL of an executor of a standalone cluster
    cluster-worker  SIGKILL of one of the cluster's two workers
    failing-store   an S3-compatible server answers every tenth request 500 or 503, carried out or not
    slow-store      the server is slow, and some answers come only after the client has hung up
    trainer-rank    SIGKILL of one of two ranks that train

The final outcome is compared with the undisturbed outcome: every file by its digest, the manifest except its time and
place, and all records; for a training run, the loss of every step. A fault that came after the end of the run is drawn
again. With --folder, finished seeds are kept, and a campaign that was stopped resumes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from scripts.bench.benchmarking import RESULTS, save
from scripts.robustness.injections import KINDS
from scripts.robustness.processes import kill_all, said
from scripts.robustness.testbed import Grounds

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job

_TRIES = 8


@dataclass(frozen=True)
class Result:
    """Outcome of a seed: attempts, time, records lost or duplicated, and the error found."""

    seed: int
    kind: str
    tries: int
    """Draws of the fault until it struck; 0 = it never struck."""
    seconds: float
    lost: int
    duplicated: int
    is_equal: bool
    found: str
    """Message about the failure, "" where the fault was survived."""

    @property
    def is_survived(self) -> bool:
        return self.tries > 0 and not (self.lost or self.duplicated or self.found) and self.is_equal


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="chaos.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option(
        "--seeds", type=whole_number(1), default=11, metavar="N", help="faults, spread over the kinds (11)"
    )
    option("--first", type=whole_number(0), default=0, metavar="S", help="the first seed (0)")
    option("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of faults (all)")
    option("--rows", type=whole_number(1), default=20_000, metavar="N", help="impressions of the log (2e4)")
    option(
        "--folder",
        type=Path,
        metavar="DIR",
        help="folder that keeps the log, the results and the output of failed seeds",
    )
    option("--results", type=Path, help=f"folder of the table, such as {os.path.relpath(RESULTS)}")
    return run_job(parser, campaign)


def campaign(arguments: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="scrollpast-chaos-"))
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        grounds = Grounds(folder, arguments.rows, stack)
        stack.callback(kill_all)  # before the cluster and the store, which the jobs use
        results = _strike_all(arguments, grounds)
    table = render(results)
    print(table)
    if arguments.results is not None:
        save(arguments.results, "chaos", table, {"results": [asdict(found) for found in results]})
    return 0 if all(found.is_survived for found in results) else 1


def _strike_all(arguments: argparse.Namespace, grounds: Grounds) -> list[Result]:
    kept = grounds.folder / "results.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    results = {found.seed: found for found in (Result(**json.loads(line)) for line in lines)}
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        if seed not in results:
            kind = arguments.kinds[seed % len(arguments.kinds)]
            results[seed] = _strike(seed, kind, grounds)
            with kept.open("a") as file:
                file.write(json.dumps(asdict(results[seed])) + "\n")
            print(f"seed {seed}, {kind}: {_told(results[seed])}", file=sys.stderr, flush=True)
    return list(results.values())


def _strike(seed: int, kind: str, grounds: Grounds) -> Result:
    generator, began = random.Random(seed), time.monotonic()

    def result(tries: int, found: str, lost: int = 0, duplicated: int = 0, *, is_equal: bool) -> Result:
        return Result(seed, kind, tries, time.monotonic() - began, lost, duplicated, is_equal, found)

    make_place, strike = KINDS[kind]
    for attempt in range(1, _TRIES + 1):
        with make_place(grounds, seed, generator) as place:
            wrong = strike(place)
            if wrong is None:
                continue
            again = place.start_again()
            text = said(again)
            if again.returncode:
                wrong += f"; run again: exit code {again.returncode}: {text}"
                return result(attempt, wrong, is_equal=False)
            here, expected = place.found(), place.expected
        lost = (expected.records - here.records).total()
        duplicated = (here.records - expected.records).total()
        came = result(attempt, wrong, lost, duplicated, is_equal=here.content == expected.content)
        if came.is_survived:
            place.clear()
        return came
    return result(0, "the fault never struck", is_equal=False)


def _told(result: Result) -> str:
    return f"survived, {result.seconds:.0f} s" if result.is_survived else f"NOT survived: {result}"


def render(results: list[Result]) -> str:
    """Table of the faults by kind: struck, survived, records lost or duplicated, median seconds."""
    lines = [
        f"{'fault':<16}{'struck':>8}{'survived':>10}{'lost':>6}{'duplicated':>12}{'bytes equal':>13}{'seconds':>9}"
    ]
    kinds = {kind: [found for found in results if found.kind == kind] for kind in KINDS}
    for kind, found in [*kinds.items(), ("all", results)]:
        if found:
            cells = (
                f"{sum(of.tries > 0 for of in found):>8}{sum(of.is_survived for of in found):>10}"
                f"{sum(of.lost for of in found):>6}{sum(of.duplicated for of in found):>12}"
                f"{sum(of.is_equal for of in found):>13}{median(of.seconds for of in found):>9.0f}"
            )
            lines.append(f"{kind:<16}{cells}")
    again = "scripts/robustness/chaos.py --first {0.seed} --seeds 1 --kinds {0.kind}: {0}"
    broken = [again.format(of) for of in results if not of.is_survived]
    return "\n".join([*lines, *broken]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
