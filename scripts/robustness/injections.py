"""Injected faults, at drawn moments and places.

A strike gives "" where the fault struck and all was as it has to be, what was wrong with it where it was not, and
None where it came too late to be one.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from scripts.robustness.processes import Process, descendants, kill, said
from scripts.robustness.scenarios import (
    AtStore,
    Damaged,
    FailingStore,
    Here,
    OnCluster,
    SlowStore,
    SmallDisk,
    Training,
)
from scripts.robustness.testbed import DAY

from scrollpast.errors import CorruptShardError
from scrollpast.shards.manifest import MANIFEST_NAME
from scrollpast.shards.reader import ShardReader
from scrollpast.training.engine.checkpoint import published_checkpoints


def kill_python_worker(place: Here) -> str | None:
    """A Python worker dies; Spark runs its task again."""
    job = place.start()
    return _goes_on(job, _kill_one_of(lambda: _python_workers(job), place, job))


def kill_executor(place: Here) -> str | None:
    """An executor dies; its tasks are run again, and what it kept for the shuffle is made again."""
    job = place.start()
    return _goes_on(job, _kill_one_of(place.grounds.cluster.at_work, place, job))


def kill_cluster_worker(place: Here) -> str | None:
    """A worker of the cluster dies, and its executor with it; the other one does the rest."""
    job, cluster = place.start(), place.grounds.cluster

    def workers() -> list[psutil.Process]:
        return [psutil.Process(worker.pid) for worker in cluster.workers] if cluster.at_work() else []

    return _goes_on(job, _kill_one_of(workers, place, job))


def kill_driver(place: Here) -> str | None:
    """The driver dies at any moment."""
    job = place.start()
    _wait(job, 1 + place.generator.random() * 11)
    return "" if kill(job) else None


def stop_at_manifest(place: Here) -> str | None:
    """The driver dies where the day is published: its temporary file is written, its name is not, or just is."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(_STOP_AT_MANIFEST)
        moment = place.generator.choice(["before", "after"])
        job = place.start(PYTHONPATH=folder, CHAOS_MOMENT=moment)
        said(job)
    is_there = _manifest(place).exists()
    if job.returncode != -signal.SIGKILL:
        return None
    return "" if is_there == (moment == "after") else f"manifest {moment}: is there: {is_there}"


def fill_disk(place: Here) -> str | None:
    """No space is left on the device."""
    job = place.start()
    text = said(job)
    if job.returncode == 0:
        return None
    is_clear = "No space left" in text.splitlines()[-1] and "Traceback" not in text
    is_there = _manifest(place).exists()
    return "" if is_clear and not is_there else f"published: {is_there}; said: {text}"


def damage_shard(place: Here) -> str | None:
    """A published shard has a bit turned, or its end cut off: readers refuse it."""
    said(place.start())
    shard = place.generator.choice(sorted(_manifest(place).parent.glob("bucket=*/*.tfrecord")))
    content = bytearray(shard.read_bytes())
    at = place.generator.randrange(len(content))
    if place.generator.random() < 0.5:
        content[at] ^= 1 << place.generator.randrange(8)
    else:
        del content[at:]
    shard.write_bytes(content)
    try:
        for _ in ShardReader([str(shard.parents[1])]):
            pass
    except CorruptShardError as error:
        return (
            ""
            if f"mine ds={DAY} again with --overwrite" in str(error)
            else f"the error names no remedy: {error}"
        )
    return f"{shard}: the damage was not seen"


def run_twice(place: Here) -> str | None:
    """Two runs of the same day at once: one publishes; the other finds it published, or says that it was meanwhile."""
    first = place.start()
    _wait(first, place.generator.random() * 2)
    jobs = [first, place.start()]
    texts = [said(job) for job in jobs]
    codes = [job.returncode for job in jobs]
    is_told = all(
        code == 0 or (code == 2 and "published meanwhile" in text)
        for code, text in zip(codes, texts, strict=True)
    )
    return "" if 0 in codes and is_told else f"exit codes {codes}: {texts}"


def trouble_store(place: Here) -> str | None:
    """Requests fail, get lost or take long: the run goes through, or ends with an error and publishes no half day."""
    assert isinstance(place, AtStore)
    job = place.start()
    text = said(job)
    if not (place.trouble.met or place.trouble.slowness_s):
        return None
    return (
        ""
        if job.returncode in (0, 1, 2) and "Traceback" not in text
        else f"exit code {job.returncode}: {text}"
    )


def kill_rank(place: Here) -> str | None:
    """One of two ranks dies after a checkpoint; the other one says so, and both end."""
    job = place.start()
    while job.poll() is None and not published_checkpoints(str(place.folder)):
        time.sleep(0.02)
    _wait(job, place.generator.random() * 2)
    ranks = [
        process for process in descendants(job) if any("train_two_tower" in word for word in _words(process))
    ]
    is_struck = bool(ranks) and _kill(place.generator.choice(ranks))
    text = said(job)
    if not is_struck or job.returncode == 0:
        return None
    return "" if "found another one gone" in text else f"exit code {job.returncode}: {text}"


def _goes_on(job: Process, is_struck: bool) -> str | None:
    """What a run came to that has to get over the loss by itself."""
    text = said(job)
    if not is_struck:
        return None
    return "" if job.returncode == 0 else f"exit code {job.returncode}: {text}"


def _kill_one_of(candidates: Callable[[], list[psutil.Process]], place: Here, job: Process) -> bool:
    """SIGKILL for one of the processes, some time after the first of them is seen; whether it died of it."""
    while job.poll() is None and not candidates():
        time.sleep(0.02)
    _wait(job, place.generator.random() * 3)
    chosen = candidates() if job.poll() is None else []
    return bool(chosen) and _kill(place.generator.choice(chosen))


def _kill(process: psutil.Process) -> bool:
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return False
    return True


def _python_workers(job: Process) -> list[psutil.Process]:
    """Processes that Spark's Python daemon has forked: the daemon's children."""
    found = []
    for process in descendants(job):
        try:
            parent = process.parent()
        except psutil.NoSuchProcess:
            continue
        if parent is not None and all("pyspark.daemon" in _words(of) for of in (process, parent)):
            found.append(process)
    return found


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def _wait(job: Process, seconds: float) -> None:
    """Wait, but not longer than the job runs."""
    deadline = time.monotonic() + seconds
    while job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def _manifest(place: Here) -> Path:
    return Path(place.out, f"ds={DAY}", MANIFEST_NAME)


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

KINDS: dict[str, tuple[type[Here], Callable[[Here], str | None]]] = {
    "python-worker": (Here, kill_python_worker),
    "driver": (Here, kill_driver),
    "manifest": (Here, stop_at_manifest),
    "two-runs": (Here, run_twice),
    "damaged-shard": (Damaged, damage_shard),
    "disk-full": (SmallDisk, fill_disk),
    "executor": (OnCluster, kill_executor),
    "cluster-worker": (OnCluster, kill_cluster_worker),
    "failing-store": (FailingStore, trouble_store),
    "slow-store": (SlowStore, trouble_store),
    "trainer-rank": (Training, kill_rank),
}
"""Where each fault strikes, and how."""
