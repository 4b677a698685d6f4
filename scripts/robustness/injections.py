"""Injected faults, at drawn moments and places.

An injection returns "" if the fault struck and the run reacted correctly, a message if the run reacted wrongly, and
None if the fault came after the end of the run.
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
    """Kill a Python worker: Spark must run its task again."""
    job = place.start()
    return _goes_on(job, _kill_one_of(lambda: _python_workers(job), place, job))


def kill_executor(place: Here) -> str | None:
    """Kill an executor: Spark must run its tasks again and make its shuffle files again."""
    job = place.start()
    return _goes_on(job, _kill_one_of(place.grounds.cluster.at_work, place, job))


def kill_cluster_worker(place: Here) -> str | None:
    """Kill a worker of the cluster with its executor: the other worker must finish the job."""
    job, cluster = place.start(), place.grounds.cluster

    def workers() -> list[psutil.Process]:
        return [psutil.Process(worker.pid) for worker in cluster.workers] if cluster.at_work() else []

    return _goes_on(job, _kill_one_of(workers, place, job))


def kill_driver(place: Here) -> str | None:
    """Kill the driver at any moment."""
    job = place.start()
    _wait(job, 1 + place.generator.random() * 11)
    return "" if kill(job) else None


def stop_at_manifest(place: Here) -> str | None:
    """Kill the driver just before, or just after, the manifest's temporary file is renamed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(_STOP_AT_MANIFEST)
        moment = place.generator.choice(["before", "after"])
        job = place.start(PYTHONPATH=folder, CHAOS_MOMENT=moment)
        said(job)
    is_there = _manifest(place).exists()
    if job.returncode != -signal.SIGKILL:
        return None
    return (
        "" if is_there == (moment == "after") else f"killed {moment} the rename: manifest exists: {is_there}"
    )


def fill_disk(place: Here) -> str | None:
    """Mine into a full disk: the job must report that and publish nothing."""
    job = place.start()
    text = said(job)
    if job.returncode == 0:
        return None
    is_clear = "No space left" in text.splitlines()[-1] and "Traceback" not in text
    is_there = _manifest(place).exists()
    return "" if is_clear and not is_there else f"published: {is_there}; said: {text}"


def damage_shard(place: Here) -> str | None:
    """Flip a bit of a published shard, or cut off its end: readers must refuse the shard."""
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
    return f"{shard}: the reader accepted the damaged shard"


def run_twice(place: Here) -> str | None:
    """Start two runs of the same day: one must publish, the other find the day published or report the conflict."""
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
    """Disturb the store's requests: the run must finish, or end with an error and no partly published day."""
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
    """Kill one of two ranks after a checkpoint: the other rank must report that, and both must end."""
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
    return "" if "found a rank that ended early" in text else f"exit code {job.returncode}: {text}"


def _goes_on(job: Process, is_struck: bool) -> str | None:
    """Result of a run that must finish by itself after the fault."""
    text = said(job)
    if not is_struck:
        return None
    return "" if job.returncode == 0 else f"exit code {job.returncode}: {text}"


def _kill_one_of(candidates: Callable[[], list[psutil.Process]], place: Here, job: Process) -> bool:
    """Send SIGKILL to one of the processes, some time after the first appears; True if the process was killed."""
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
    """Python workers of a job: the children of Spark's Python daemon."""
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
"""Scenario and injection of each fault."""
