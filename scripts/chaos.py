#!/usr/bin/env python3
"""Faults against a mining job that runs: after each, the same command again, and the day is what it would have been.

One log is mined undisturbed; then, seed by seed, something goes wrong while it is mined into another folder:

    worker       SIGKILL of a Python worker while tasks run
    driver       SIGKILL of the driver at any moment
    manifest     SIGKILL of the driver just before, or just after, the manifest takes its name
    disk full    no space left on the device (a small file system in memory; needs the right to mount one)
    damaged      a published shard with a bit turned or its end cut off: refused by readers, mined anew
    twice        two runs of the same day at once: one publishes, the other says so

What is published then is held against the undisturbed day: every file by its digest, the manifest but for when it
was made, and all records read one by one. A fault that came too late to be one is drawn again. With --folder, seeds
that are done are kept, and a campaign that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from benchmarking import RESULTS, ROOT, save

from scrollpast.entry import run_job
from scrollpast.errors import CorruptShardError
from scrollpast.shards.manifest import MANIFEST_NAME, read_manifest
from scrollpast.shards.reader import ShardReader

DAY = "2026-11-20"
_GIVES_UP_S = 300
_TRIES = 5

Records = Counter[tuple[Any, ...]]
Process = subprocess.Popen[str]
_started: list[Process] = []
"""All jobs of this campaign: none outlives it."""


@dataclass(frozen=True)
class Published:
    """All of a day that has to be the same, and its records."""

    files: dict[str, str]
    manifest: dict[str, Any]
    records: Records


@dataclass(frozen=True)
class Result:
    """What a seed came to."""

    seed: int
    kind: str
    tries: int
    """How often the fault was drawn until it struck; 0 = it never did."""
    seconds: float
    lost: int
    duplicated: int
    is_equal: bool
    found: str
    """What a person should know where something is wrong."""

    @property
    def is_survived(self) -> bool:
        return self.tries > 0 and not (self.lost or self.duplicated or self.found) and self.is_equal


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="chaos.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--seeds", type=int, default=12, metavar="N", help="faults, spread over the kinds (12)")
    option("--first", type=int, default=0, metavar="S", help="the first seed (0)")
    option("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="what goes wrong (all)")
    option("--rows", type=float, default=2e5, metavar="N", help="impressions of the log (2e5)")
    option("--folder", type=Path, metavar="DIR", help="keep log, results and failing days there")
    option("--results", type=Path, help=f"write the table there, such as {os.path.relpath(RESULTS)}")
    return run_job(parser, campaign)


def campaign(arguments: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return _campaign(arguments)
    finally:
        for job in _started:
            if job.poll() is None:
                _end(job)


def _campaign(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="scrollpast-chaos-") as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        log = _log(folder, int(arguments.rows))
        reference = _reference(folder, log)
        kept = folder / "results.jsonl"
        lines = kept.read_text().splitlines() if kept.exists() else []
        results = {found.seed: found for found in (Result(**json.loads(line)) for line in lines)}
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            if seed not in results:
                kind = arguments.kinds[seed % len(arguments.kinds)]
                results[seed] = _strike(seed, kind, folder, log, reference)
                with kept.open("a") as file:
                    file.write(json.dumps(asdict(results[seed])) + "\n")
                print(f"seed {seed}, {kind}: {_told(results[seed])}", file=sys.stderr, flush=True)
    table = render(list(results.values()))
    print(table)
    if arguments.results is not None:
        save(arguments.results, "chaos", table, {"results": [asdict(found) for found in results.values()]})
    return 0 if all(found.is_survived for found in results.values()) else 1


def _log(folder: Path, num_rows: int) -> Path:
    log = folder / f"log-{num_rows}"
    if not (log / "simulation.json").exists():
        options = ["--rows", str(num_rows), "--days", "2", "--last-day", DAY, "--overwrite"]
        command = [sys.executable, ROOT / "jobs" / "simulate_logs.py", log, *options]
        subprocess.run(list(map(str, command)), check=True, capture_output=True, env=_environment())
    return log


def _reference(folder: Path, log: Path) -> Published:
    out = folder / "undisturbed"
    done = _start(log, out)
    _, said = done.communicate(timeout=_GIVES_UP_S)
    if done.returncode:
        raise RuntimeError(f"the undisturbed run failed: {said}")
    return published(out)


def published(out: Path) -> Published:
    """What a folder holds of the day."""
    day = out / f"ds={DAY}"
    manifest = read_manifest(str(day))
    content = json.loads(manifest.to_json())
    # When it was made and where it lies differ; everything else must not.
    del content["created_at"], content["config"]["output"]
    digests = {entry.path: entry.sha256 for entry in manifest.shards}
    others = {path: (day / path).read_bytes().hex() for path in manifest.paths if path not in digests}
    records: Records = Counter()
    for batch in ShardReader([str(day)]):
        for record in batch.to_pylist():
            records[tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in record.items())] += 1
    return Published(digests | others, content, records)


def _strike(seed: int, kind: str, folder: Path, log: Path, reference: Published) -> Result:
    generator, began = random.Random(seed), time.monotonic()
    for attempt in range(1, _TRIES + 1):
        out = folder / f"seed-{seed}"
        with _place(out, kind, generator) as make_room:
            found = KINDS[kind](Strike(log, out, generator))
            if found is None:
                continue
            make_room()
            overwrite = ("--overwrite",) if kind == "damaged" else ()
            again = _start(log, out, *overwrite)
            _, said = again.communicate(timeout=_GIVES_UP_S)
            if again.returncode:
                found += f"; run again: exit code {again.returncode}: {said.strip()}"
                return Result(
                    seed, kind, attempt, time.monotonic() - began, 0, 0, is_equal=False, found=found
                )
            here = published(out)
        lost = sum((reference.records - here.records).values())
        duplicated = sum((here.records - reference.records).values())
        is_equal = (here.files, here.manifest) == (reference.files, reference.manifest)
        result = Result(seed, kind, attempt, time.monotonic() - began, lost, duplicated, is_equal, found)
        if result.is_survived:
            shutil.rmtree(out)
        return result
    return Result(
        seed, kind, 0, time.monotonic() - began, 0, 0, is_equal=False, found="the fault never struck"
    )


@dataclass(frozen=True)
class Strike:
    """What a fault works on."""

    log: Path
    out: Path
    generator: random.Random


@contextmanager
def _place(out: Path, kind: str, generator: random.Random) -> Iterator[Callable[[], None]]:
    """An empty folder for the day; for a full disk a small file system, which `make_room` enlarges."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if kind != "disk full":
        yield lambda: None
        return
    size = generator.randrange(64 << 10, 512 << 10)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(out)]
    subprocess.run(mount, check=True, capture_output=True)

    def make_room() -> None:
        subprocess.run(["mount", "-o", "remount,size=1g", str(out)], check=True, capture_output=True)

    try:
        yield make_room
    finally:
        subprocess.run(["umount", str(out)], check=True, capture_output=True)


def _environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (more.pop("first", ""), str(ROOT / "lib"))))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def _start(log: Path, out: Path, *more: str, **environment: str) -> Process:
    command = [
        *(sys.executable, ROOT / "jobs" / "mine_negatives.py", "--date", DAY, "--as-of", "2026-11-28"),
        *("--impressions", log / "impressions", "--engagements", log / "engagements", "--out", out),
        *(
            "--set",
            "mining.num_buckets=8",
            "--set",
            "spark.num_partitions=4",
            "--set",
            "spark.master=local[2,4]",
        ),
    ]
    job = subprocess.Popen(
        [*map(str, command), *more], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=_environment(**environment),
    )  # fmt: skip
    _started.append(job)
    return job


def _kill_worker(strike: Strike) -> str | None:
    """A Python worker dies; Spark runs its task again."""
    job, delay_s = _start(strike.log, strike.out), strike.generator.random() * 3
    workers: list[psutil.Process] = []
    while job.poll() is None and not workers:
        workers = _python_workers(job.pid)
        time.sleep(0.02)
    time.sleep(delay_s)
    workers = _python_workers(job.pid) if job.poll() is None else []
    is_struck = False
    if workers:
        chosen = strike.generator.choice(workers)
        try:
            chosen.send_signal(signal.SIGKILL)
            is_struck = True
        except psutil.NoSuchProcess:
            pass
    _, said = job.communicate(timeout=_GIVES_UP_S)
    if not is_struck:
        return None
    return "" if job.returncode == 0 else f"exit code {job.returncode}: {said.strip()}"


def _python_workers(driver: int) -> list[psutil.Process]:
    """Processes that Spark's Python daemon has forked: the daemon's children."""
    found = []
    try:
        below = psutil.Process(driver).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    for process in below:
        try:
            parent = process.parent()
            daemons = [p for p in (process, parent) if p is not None and "pyspark.daemon" in p.cmdline()]
        except psutil.NoSuchProcess:
            continue
        if len(daemons) == 2:
            found.append(process)
    return found


def _kill_driver(strike: Strike) -> str | None:
    job = _start(strike.log, strike.out)
    deadline = time.monotonic() + 1 + strike.generator.random() * 14
    while job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return _end(job)


def _end(job: Process) -> str | None:
    """SIGKILL for the driver; the JVM notices, or is ended too. None where the run was over."""
    below = psutil.Process(job.pid).children(recursive=True) if job.poll() is None else []
    job.kill()
    job.communicate(timeout=_GIVES_UP_S)
    _, alive = psutil.wait_procs(below, timeout=5)
    for process in alive:
        process.kill()
    return "" if job.returncode == -signal.SIGKILL else None


_STOP_AT_MANIFEST = """
import os, signal
def stopping(function):
    def run(source, target, *more, **options):
        is_it = str(target).endswith("/manifest.json")
        if is_it and os.environ["CHAOS_MOMENT"] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = function(source, target, *more, **options)
        if is_it:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return run
os.link, os.replace = stopping(os.link), stopping(os.replace)
"""


def _stop_at_manifest(strike: Strike) -> str | None:
    """The driver dies where the day is published: its temporary file is written, its name is not, or just is."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(_STOP_AT_MANIFEST)
        moment = strike.generator.choice(["before", "after"])
        job = _start(strike.log, strike.out, first=folder, CHAOS_MOMENT=moment)
        job.communicate(timeout=_GIVES_UP_S)
    is_there = (strike.out / f"ds={DAY}" / MANIFEST_NAME).exists()
    if job.returncode != -signal.SIGKILL:
        return None
    return "" if is_there == (moment == "after") else f"manifest {moment}: is there: {is_there}"


def _fill_disk(strike: Strike) -> str | None:
    job = _start(strike.log, strike.out)
    _, said = job.communicate(timeout=_GIVES_UP_S)
    if job.returncode == 0:
        return None
    is_clear = said.count("\n") == 1 and "No space left" in said
    has_published = (strike.out / f"ds={DAY}" / MANIFEST_NAME).exists()
    return "" if is_clear and not has_published else f"published: {has_published}; said: {said.strip()}"


def _damage(strike: Strike) -> str | None:
    job = _start(strike.log, strike.out)
    job.communicate(timeout=_GIVES_UP_S)
    shard = strike.generator.choice(sorted((strike.out / f"ds={DAY}").glob("bucket=*/*.tfrecord")))
    content = bytearray(shard.read_bytes())
    at = strike.generator.randrange(len(content))
    if strike.generator.random() < 0.5:
        content[at] ^= 1 << strike.generator.randrange(8)
    else:
        del content[at:]
    shard.write_bytes(content)
    try:
        for _ in ShardReader([str(strike.out / f"ds={DAY}")]):
            pass
    except CorruptShardError as error:
        return "" if f"mine ds={DAY} again" in str(error) else f"the error names no remedy: {error}"
    return f"{shard}: the damage was not seen"


def _run_twice(strike: Strike) -> str | None:
    first = _start(strike.log, strike.out)
    time.sleep(strike.generator.random() * 2)
    second = _start(strike.log, strike.out)
    said = [job.communicate(timeout=_GIVES_UP_S)[1].strip() for job in (first, second)]
    codes = [first.returncode, second.returncode]
    is_told = all(
        code == 0 or (code == 2 and "published meanwhile" in text)
        for code, text in zip(codes, said, strict=True)
    )
    return "" if 0 in codes and is_told else f"exit codes {codes}: {said}"


KINDS: dict[str, Callable[[Strike], str | None]] = {
    "worker": _kill_worker,
    "driver": _kill_driver,
    "manifest": _stop_at_manifest,
    "disk full": _fill_disk,
    "damaged": _damage,
    "twice": _run_twice,
}
"""What goes wrong. Each gives "" where the fault struck and all was as it has to be, None where it came too late."""


def _told(result: Result) -> str:
    return f"survived, {result.seconds:.0f} s" if result.is_survived else f"NOT survived: {result}"


def render(results: list[Result]) -> str:
    """Faults by kind: how many struck, were survived, and what they cost."""
    lines = [
        f"{'fault':<12}{'struck':>8}{'survived':>10}{'lost':>6}{'duplicated':>12}{'bytes equal':>13}{'seconds':>9}"
    ]
    kinds = {kind: [found for found in results if found.kind == kind] for kind in KINDS}
    for kind, found in [*kinds.items(), ("all", results)]:
        if found:
            cells = (
                f"{sum(of.tries > 0 for of in found):>8}{sum(of.is_survived for of in found):>10}"
                f"{sum(of.lost for of in found):>6}{sum(of.duplicated for of in found):>12}"
                f"{sum(of.is_equal for of in found):>13}{median(of.seconds for of in found):>9.0f}"
            )
            lines.append(f"{kind:<12}{cells}")
    again = "scripts/chaos.py --first {0.seed} --seeds 1 --kinds '{0.kind}': {0}"
    broken = [again.format(of) for of in results if not of.is_survived]
    return "\n".join([*lines, *broken]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
