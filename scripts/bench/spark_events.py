"""Times of stages from a Spark event log."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MEBIBYTE = 2**20


def event_log_conf(folder: Path) -> dict[str, str]:
    """Settings that make Spark write one plain log into ``folder``."""
    return {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": folder.resolve().as_uri(),
        "spark.eventLog.rolling.enabled": "false",
        "spark.eventLog.compress": "false",
    }


@dataclass
class Stage:
    """A stage that ran; times of its tasks are summed over the cores."""

    number: int
    started_ms: int = 0
    ended_ms: int = 0
    task_ms: list[int] = field(default_factory=list)
    jvm_cpu_ms: float = 0.0
    written_bytes: int = 0


@dataclass(frozen=True)
class Events:
    """Times are milliseconds since the epoch."""

    started_ms: int
    ended_ms: int
    first_task_ms: int
    stages: list[Stage]

    @property
    def shuffled_bytes(self) -> int:
        return sum(stage.written_bytes for stage in self.stages)


def read_events(folder: Path) -> Events:
    """The one event log in ``folder``."""
    (log,) = (path for path in folder.iterdir() if not path.name.startswith("."))
    stages: dict[int, Stage] = defaultdict(lambda: Stage(-1))
    times = {"SparkListenerApplicationStart": 0, "SparkListenerApplicationEnd": 0}
    first_task_ms = 0
    for line in log.read_text().splitlines():
        event: dict[str, Any] = json.loads(line)
        kind = event["Event"]
        if kind in times:
            times[kind] = event["Timestamp"]
        elif kind == "SparkListenerTaskStart":
            first_task_ms = first_task_ms or event["Task Info"]["Launch Time"]
        elif kind == "SparkListenerStageCompleted":
            info = event["Stage Info"]
            stage = stages[info["Stage ID"]]
            stage.number = info["Stage ID"]
            stage.started_ms, stage.ended_ms = info["Submission Time"], info["Completion Time"]
        elif kind == "SparkListenerTaskEnd" and (metrics := event.get("Task Metrics")):
            stage = stages[event["Stage ID"]]
            stage.task_ms.append(metrics["Executor Run Time"])
            stage.jvm_cpu_ms += metrics["Executor CPU Time"] / 1e6
            stage.written_bytes += metrics["Shuffle Write Metrics"]["Shuffle Bytes Written"]
    started_ms, ended_ms = times.values()
    return Events(
        started_ms, ended_ms, first_task_ms, sorted(stages.values(), key=lambda stage: stage.number)
    )


def stage_table(events: Events, names: list[str], process_started_ms: float, process_ended_ms: float) -> str:
    """Table of the stages in order, with the time before, between and after the stages."""
    lines = [
        f"{'stage':<34}{'seconds':>9}{'tasks':>7}{'task s':>9}{'longest':>9}{'JVM s':>8}{'shuffle MiB':>13}"
    ]

    def line(name: str, milliseconds: float, rest: str = "") -> None:
        lines.append(f"{name:<34}{milliseconds / 1000:>9.1f}{rest}")

    line("until Spark's first task", events.first_task_ms - process_started_ms)
    for at, stage in enumerate(events.stages):
        name = names[at] if at < len(names) else f"stage {stage.number}"
        tasks = stage.task_ms
        line(
            name,
            stage.ended_ms - stage.started_ms,
            f"{len(tasks):>7}{sum(tasks) / 1000:>9.1f}{max(tasks) / 1000:>9.2f}{stage.jvm_cpu_ms / 1000:>8.1f}"
            f"{stage.written_bytes / MEBIBYTE:>13.1f}",
        )
    in_stages = sum(stage.ended_ms - stage.started_ms for stage in events.stages)
    total = process_ended_ms - process_started_ms
    line("between and behind the stages", total - in_stages - (events.first_task_ms - process_started_ms))
    line("all", total)
    return "\n".join(lines) + "\n"
