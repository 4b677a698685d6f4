"""Progress on a terminal: the running step, its share done, the remaining time; silent in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scrollpast.mining.spark.run_metrics import watched_step

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_INTERVAL_S = 0.25
_CLEAR = "\r\x1b[K"


@contextmanager
def progress(spark: SparkSession, step: str, num_rows: int | None = None) -> Iterator[None]:
    """Show a step's progress on standard error, if that is a terminal, and record the step's metrics at its end.

    Args:
        step: name of the step, for example ``scan impressions``.
        num_rows: rows that the first stage reads, for the rate in rows a second.
    """
    with watched_step(step, num_rows), _shown(spark, step, num_rows):
        yield


@contextmanager
def _shown(spark: SparkSession, step: str, num_rows: int | None) -> Iterator[None]:
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    group = f"{step}-{time.monotonic_ns()}"
    spark.sparkContext.setJobGroup(group, step)
    watcher = threading.Thread(target=_watch, args=(spark, group, step, num_rows, done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(spark: SparkSession, group: str, step: str, num_rows: int | None, done: threading.Event) -> None:
    began = time.monotonic()
    tracker = spark.sparkContext.statusTracker()
    while not done.wait(_INTERVAL_S):
        counts = []
        for job in tracker.getJobIdsForGroup(group):
            info = tracker.getJobInfo(job)
            stages = [tracker.getStageInfo(stage) for stage in info.stageIds] if info else []
            counts += [(stage.numCompletedTasks, stage.numTasks) for stage in stages if stage]
        _show(line(step, counts, time.monotonic() - began, num_rows))
    elapsed_s = time.monotonic() - began
    rows = f" of {num_rows:,} rows" if num_rows else ""
    _show(f"{step}{rows}: {elapsed_s:.1f} s\n")


def line(step: str, stages: list[tuple[int, int]], elapsed_s: float, num_rows: int | None) -> str:
    """One line of progress from (done, all) tasks of each stage.

    >>> line("scan", [(5, 10), (0, 10)], 10.0, 1_000_000)
    'scan: stage 1 of 2, 5/20 tasks, 500,000 of 1,000,000 rows, 50,000 rows/s, about 30 s left'
    """
    finished, total = (sum(column) for column in zip(*stages, strict=True)) if stages else (0, 0)
    if not finished:
        return f"{step}: starting"
    current = sum(done == tasks for done, tasks in stages) + 1
    parts = [f"stage {min(current, len(stages))} of {len(stages)}", f"{finished}/{total} tasks"]
    if num_rows and stages[0][1]:
        rows = num_rows * stages[0][0] // stages[0][1]
        parts.append(f"{rows:,} of {num_rows:,} rows")
        if stages[0][0] < stages[0][1]:
            parts.append(f"{rows / elapsed_s:,.0f} rows/s")
    parts.append(f"about {elapsed_s * (total - finished) / finished:.0f} s left")
    return f"{step}: {', '.join(parts)}"


def _show(text: str) -> None:
    sys.stderr.write(_CLEAR + text)
    sys.stderr.flush()
