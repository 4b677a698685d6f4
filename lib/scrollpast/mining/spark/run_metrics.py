"""Run metrics: JSON lines of the steps, and a text file for Prometheus.

Metrics never change a run: a failed write is a note on standard error, and the exit code stays the same.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any

from scrollpast import __version__
from scrollpast.config import RunMetrics
from scrollpast.errors import ScrollpastError
from scrollpast.shards import filesystem
from scrollpast.shards.manifest import Manifest

_EXIT_INTERRUPTED = 130

_HELP = {
    "run_info": "1; what ran",
    "run_exit_code": "exit code of the last run: 0 done, 1 failed, 2 a mistake of the user, 3 held by the gate",
    "run_seconds": "seconds that the last run took",
    "run_end_timestamp_seconds": "end of the last run, in seconds since 1970",
    "run_step_seconds": "seconds of a step of the last run",
    "run_step_rows": "rows that a step of the last run read",
    "day_impressions": "impressions of the day by outcome",
    "day_records": "records (users) of the day",
    "day_positives": "positives of the day",
    "day_negatives": "negatives of the day",
    "day_shard_bytes": "bytes of the day's shards",
    "day_bucket_skew": "bytes of the day's largest shard over the median of all",
}
"""Metrics, all of them gauges, with their help texts for Prometheus."""


@dataclass
class Watch:
    """Metrics of one run of a job."""

    job: str
    settings: RunMetrics
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    began: float = field(default_factory=time.monotonic)
    events: list[dict[str, Any]] = field(default_factory=list)

    def tell(self, event: str, **facts: Any) -> None:
        """Record an event, and log it where log lines are JSON."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        told = {"time": now, "run_id": self.run_id, "job": self.job, "event": event, **facts}
        self.events.append(told)
        if self.settings.log_format == "json":
            print(json.dumps(told), file=sys.stderr, flush=True)

    def day(self, manifest: Manifest, uri: str, *, is_new: bool) -> None:
        """Record the counts of a day."""
        sizes = [entry.num_bytes for entry in manifest.shards]
        self.tell(
            "day",
            ds=manifest.ds,
            uri=uri,
            is_new=is_new,
            outcomes=dict(manifest.ledger),
            records=manifest.num_records,
            positives=manifest.num_positives,
            negatives=manifest.num_negatives,
            shard_bytes=sum(sizes),
            bucket_skew=round(max(sizes) / max(median(sizes), 1), 3) if sizes else None,
        )

    def end(self, error: BaseException | None) -> None:
        """Record the end of the run, and write all events."""
        facts: dict[str, Any] = {
            "exit_code": _exit_code(error),
            "seconds": round(time.monotonic() - self.began, 3),
        }
        if error is not None:
            facts["error"] = str(error) or type(error).__name__
        self.tell("end", version=__version__, **facts)
        if self.settings.path is None:
            return
        lines = "".join(f"{json.dumps(event)}\n" for event in self.events)
        try:
            store, folder = filesystem.resolve(self.settings.path)
            for name, text in (
                (f"runs/{self.job}-{self.run_id}.jsonl", lines),
                (f"scrollpast_{self.job}.prom", prometheus_text(self.events)),
            ):
                filesystem.write_atomically(store, filesystem.join(folder, name), text.encode())
        except (OSError, ScrollpastError) as reason:
            print(f"note: metrics.path ({self.settings.path}): no metrics written: {reason}", file=sys.stderr)


_current: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watch(settings: RunMetrics, job: str) -> Iterator[Watch]:
    """Record a run of a job until its end or failure; steps are added by `watched_step`."""
    run = Watch(job, settings)
    token = _current.set(run)
    run.tell("start")
    try:
        yield run
    except BaseException as error:
        run.end(error)
        raise
    else:
        run.end(None)
    finally:
        _current.reset(token)


@contextmanager
def watched_step(step: str, num_rows: int | None) -> Iterator[None]:
    """Record the duration of a step in the current run, if any; a failed step is recorded by the run's end."""
    began = time.monotonic()
    yield
    run = _current.get()
    if run is not None:
        run.tell("step", step=step, seconds=round(time.monotonic() - began, 3), rows=num_rows)


def prometheus_text(events: list[dict[str, Any]]) -> str:
    """A run's events in Prometheus' text format: gauges of the last run, labelled by its job."""
    job = events[0]["job"]
    values: dict[str, list[tuple[dict[str, str], float]]] = {name: [] for name in _HELP}

    def add(name: str, value: float | None, **labels: str) -> None:
        if value is not None:
            values[name].append(({"job": job, **labels}, value))

    for event in events:
        if event["event"] == "step":
            add("run_step_seconds", event["seconds"], step=event["step"])
            add("run_step_rows", event["rows"], step=event["step"])
        elif event["event"] == "day":
            for outcome, count in event["outcomes"].items():
                add("day_impressions", count, ds=event["ds"], outcome=outcome)
            for name in ("records", "positives", "negatives", "shard_bytes", "bucket_skew"):
                add(f"day_{name}", event[name], ds=event["ds"])
        elif event["event"] == "end":
            add("run_info", 1, run_id=event["run_id"], version=event["version"])
            add("run_exit_code", event["exit_code"])
            add("run_seconds", event["seconds"])
            add("run_end_timestamp_seconds", datetime.fromisoformat(event["time"]).timestamp())
    lines = []
    for name, found in values.items():
        if found:
            lines += [f"# HELP scrollpast_{name} {_HELP[name]}", f"# TYPE scrollpast_{name} gauge"]
            lines += [f"scrollpast_{name}{_labels(labels)} {value:.17g}" for labels, value in _last(found)]
    return "\n".join(lines) + "\n"


def _last(found: list[tuple[dict[str, str], float]]) -> list[tuple[dict[str, str], float]]:
    """Last value of equal labels: a second value would make the file invalid."""
    return list({_labels(labels): (labels, value) for labels, value in found}.values())


def _labels(labels: Mapping[str, str]) -> str:
    escaped = (
        (name, text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for name, text in labels.items()
    )
    return "{" + ",".join(f'{name}="{text}"' for name, text in escaped) + "}"


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, ScrollpastError):
        return error.exit_code
    return _EXIT_INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
