"""Airflow as its user runs it: another interpreter, a folder of its own, a database on SQLite, no server."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
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
        """What the run told, a line of JSON each."""
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
        """What the DAG's file holds, and what importing it did."""
        return self._ask("import", DAG_FILE, **settings)

    def end_tasks(self, operator: str, *codes: int, **settings: str) -> dict[str, str]:
        """How tasks of an operator of the DAG's file end whose jobs have these exit codes."""
        return self._ask("end", DAG_FILE, operator, *codes, **settings)

    def _ask(self, *arguments: object, **settings: str) -> dict[str, Any]:
        done = self.run("python", PEER, *arguments, **settings)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def test_dag(self, day: date, **params: Any) -> DagRun:
        """``airflow dags test`` with the date whose run mines this day."""
        # A date in the hand of a person stands for the interval that ended last before it.
        moment = f"{day + timedelta(days=2)}T02:00:00+00:00"
        arguments = ["dags", "test", "scrollpast_daily", moment, "--conf", json.dumps(params)]
        done = self.run("airflow", *arguments)
        with closing(sqlite3.connect(self.database)) as connection:
            query = (
                "SELECT task_id, t.state, try_number FROM task_instance t JOIN dag_run USING (run_id)"
                " WHERE date(logical_date) = ?"
            )
            rows = connection.execute(query, [str(day + timedelta(days=2))]).fetchall()
        states, tries = ({row[0]: row[at] for row in rows} for at in (1, 2))
        return DagRun(done.returncode, done.stdout + done.stderr, states, tries)
