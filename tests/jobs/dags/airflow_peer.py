"""Runs in Airflow's environment: imports the DAG's file and prints as JSON what it did."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

# Airflow's own, which every DAG imports: what they do is not the file's doing.
import airflow.providers.apache.spark.operators.spark_submit
import airflow.providers.standard.hooks.subprocess
import airflow.sdk
import airflow.timetables.interval  # noqa: F401 (lazily imported by airflow.sdk)

WATCHED = ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.mkdir")
CODE = (".py", ".pyc", ".so")


def imported(path: str) -> dict[str, Any]:
    events: list[str] = []
    is_watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if is_watching and (event in WATCHED or (event == "open" and is_data(arguments[0]))):
            events.append(f"{event} {arguments[0]!r}")

    before = set(sys.modules)
    sys.addaudithook(watch)
    content = runpy.run_path(path)
    is_watching = False
    dag = content["dag"]
    dag.validate()
    return {
        "events": events,
        "modules": sorted({name.partition(".")[0] for name in set(sys.modules) - before}),
        "max_active_runs": dag.max_active_runs,
        "catchup": dag.catchup,
        "params": {name: dag.params[name] for name in dag.params},
        "tasks": {
            name: {
                "upstream": sorted(found.upstream_task_ids),
                "pool": found.pool,
                "retries": found.retries,
                "depends_on_past": found.depends_on_past,
                "mode": getattr(found, "mode", None),
                "poke_s": getattr(found, "poke_interval", None),
                "timeout_s": getattr(found, "timeout", None),
            }
            for name, found in dag.task_dict.items()
        },
    }


def is_data(path: Any) -> bool:
    return isinstance(path, (str, Path)) and not str(path).endswith(CODE)


def ended(path: str, operator: str, codes: list[str]) -> dict[str, str]:
    """End of a task for each exit code of its job: the exception raised, or the value returned."""
    kind = runpy.run_path(path)[operator]
    ends = {}
    for code in codes:
        task = kind(task_id=f"exit_{code}", job="exit.py", arguments=[["--option", None], [code]])
        try:
            ends[code] = f"returned {task.execute({})!r}"
        except Exception as error:  # noqa: BLE001 (which one it is, is the question)
            ends[code] = f"{type(error).__name__}: {error}"
    return ends


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    print(json.dumps(imported(*rest) if what == "import" else ended(rest[0], rest[1], rest[2:])))
