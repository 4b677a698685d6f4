"""Airflow as its user runs it: another interpreter, its own folder, a database on SQLite, servers for a backfill."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyspark
import pytest

from scrollpast.java import ensure_java

ROOT = Path(__file__).parents[3]
AIRFLOW = Path(os.environ.get("SCROLLPAST_AIRFLOW", ROOT / ".envs" / "airflow")) / "bin"
needs_airflow = pytest.mark.skipif(
    not (AIRFLOW / "airflow").exists(),
    reason=f"no Airflow in {AIRFLOW}: scripts/test.sh makes it, SCROLLPAST_AIRFLOW names another environment",
)
DAG_FILE = ROOT / "jobs" / "dags" / "scrollpast_daily.py"
PEER = Path(__file__).with_name("airflow_peer.py")
TIMEOUT_S = 600


@dataclass(frozen=True)
class DagRun:
    """A run that is over."""

    exit_code: int
    output: str
    states: dict[str, str]
    """By task"""
    tries: dict[str, int]
    """By task"""

    @property
    def succeeded(self) -> set[str]:
        return {task for task, state in self.states.items() if state == "success"}


@dataclass(frozen=True)
class Airflow:
    """An Airflow with the project's DAGs; ``settings`` are variables SCROLLPAST_… without the prefix."""

    home: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        return self.home / "airflow.db"

    @property
    def notified(self) -> Path:
        """File of the run's notifications, a line of JSON each."""
        return self.home / "notified.jsonl"

    def environment(self, settings: dict[str, str]) -> dict[str, str]:
        ensure_java()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SCROLLPAST_")}
        return {
            **inherited,
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAG_FILE.parent),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}",
            "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[1,4]"}),
            "NOTIFIED": str(self.notified),
            "PYTHONPATH": f"{ROOT / 'lib'}:{PEER.parent}",
            "SPARK_HOME": str(Path(pyspark.__file__).parent),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "OMP_NUM_THREADS": "1",
            # Airflow's own environment has no spark-submit.
            "PATH": f"{os.environ['PATH']}:{Path(sys.executable).parent}",
            **{f"SCROLLPAST_{name}": value for name, value in {**self.settings, **settings}.items()},
        }

    def run(self, program: str, *arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a program of Airflow's environment."""
        return subprocess.run(
            [str(AIRFLOW / program), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env=self.environment(settings),
        )

    def import_dag(self, **settings: str) -> dict[str, Any]:
        """Contents of the DAG's file, and effects of its import."""
        return self._ask("import", DAG_FILE, **settings)

    def end_tasks(self, operator: str, *codes: int, **settings: str) -> dict[str, str]:
        """End of an operator's tasks for each exit code of their job."""
        return self._ask("end", DAG_FILE, operator, *codes, **settings)

    def _ask(self, *arguments: object, **settings: str) -> dict[str, Any]:
        done = self.run("python", PEER, *arguments, **settings)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def test_dag(self, day: date, **params: Any) -> DagRun:
        """``airflow dags test`` with the date whose run mines this day."""
        # A date in the hand of a person stands for the interval that ended last before it.
        ended = day + timedelta(days=2)
        arguments = [
            "dags",
            "test",
            "scrollpast_daily",
            f"{ended}T02:00:00+00:00",
            "--conf",
            json.dumps(params),
        ]
        done = self.run("airflow", *arguments)
        return self._run_of(ended, done.returncode, done.stdout + done.stderr)

    def backfill(self, first: date, last: date) -> list[DagRun]:
        """``airflow backfill create`` for the runs that mine these days, carried out by a scheduler of its own."""
        days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        begun, ended = first + timedelta(days=1), last + timedelta(days=2)
        port = free_port()
        # Shared by the separate processes; the database is one file, so that few may write at once.
        environment = self.environment({}) | {
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            "AIRFLOW__API_AUTH__JWT_SECRET": "s" * 64,
            "AIRFLOW__API__SECRET_KEY": "s" * 32,
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        }
        with ExitStack() as daemons:

            def start(*command: str) -> None:
                log = daemons.enter_context((self.home / f"{command[0]}.log").open("w"))
                daemon = subprocess.Popen(
                    [AIRFLOW / "airflow", *command],
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
                daemons.callback(_end, daemon)

            start("dag-processor")
            self._wait_for("SELECT count(*) FROM dag WHERE dag_id = 'scrollpast_daily'", 1)
            asked = self.run(
                "airflow", "backfill", "create", "--dag-id", "scrollpast_daily", "--from-date", begun,
                "--to-date", ended, "--max-active-runs", "1", "--reprocess-behavior", "failed",
            )  # fmt: skip
            assert asked.returncode == 0, asked.stdout + asked.stderr
            unpaused = self.run("airflow", "dags", "unpause", "-y", "scrollpast_daily")
            assert unpaused.returncode == 0, unpaused.stdout + unpaused.stderr
            start("api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
            start("scheduler", "--skip-serve-logs")  # it would serve them to every network
            over = (
                "SELECT count(*) FROM dag_run WHERE run_type = 'backfill' AND state IN ('success', 'failed')"
            )
            self._wait_for(over, len(days))
        output = (self.home / "scheduler.log").read_text()
        return [self._run_of(day + timedelta(days=1), None, output) for day in days]

    def _run_of(self, logical: date, exit_code: int | None, output: str) -> DagRun:
        """Read the run with this logical date from the database."""
        with closing(sqlite3.connect(self.database, timeout=60)) as connection:
            query = (
                "SELECT task_id, t.state, try_number, d.state FROM task_instance t JOIN dag_run d USING (run_id)"
                " WHERE date(logical_date) = ?"
            )
            rows = connection.execute(query, [str(logical)]).fetchall()
        if exit_code is None:
            exit_code = int({row[3] for row in rows} != {"success"})
        states, tries = ({row[0]: row[at] for row in rows} for at in (1, 2))
        return DagRun(exit_code, output, states, tries)

    def _wait_for(self, query: str, count: int) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            with closing(sqlite3.connect(self.database, timeout=60)) as connection:
                if connection.execute(query).fetchone()[0] >= count:
                    return
            logs = [(self.home / f"{name}.log") for name in ("dag-processor", "scheduler", "api-server")]
            said = "".join(log.read_text()[-2000:] for log in logs if log.exists())
            assert time.monotonic() < deadline, said
            time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _end(daemon: subprocess.Popen[bytes]) -> None:
    """The daemon and what it started: they are a group of their own."""
    with suppress(ProcessLookupError):
        os.killpg(daemon.pid, signal.SIGTERM)
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()
