"""A standalone Spark cluster on the loopback: a master and two workers, from pip's pyspark."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyspark

from scrollpast.java import ensure_java
from scrollpast.mining.spark.session import class_archive

_START_S = 120
_CLASS = "org.apache.spark.deploy"
Daemon = subprocess.Popen[bytes]


@dataclass
class Cluster:
    """A running cluster."""

    folder: Path
    """Folder of the daemons' logs and of the executors' folders."""

    url: str = ""
    """The URL for --master."""

    daemons: list[Daemon] = field(default_factory=list)
    """All daemons started so far: the master and its workers."""

    @property
    def workers(self) -> list[Daemon]:
        """The running workers."""
        return [worker for worker in self.daemons[1:] if worker.poll() is None]

    def executors(self) -> list[psutil.Process]:
        """The running executors."""
        found = []
        for worker in self.workers:
            with suppress(psutil.NoSuchProcess):
                found += [
                    child
                    for child in psutil.Process(worker.pid).children(recursive=True)
                    if any("CoarseGrainedExecutorBackend" in word for word in _words(child))
                ]
        return found

    def at_work(self) -> list[psutil.Process]:
        """Executors that have Python workers."""
        found = []
        for executor in self.executors():
            with suppress(psutil.NoSuchProcess):
                # An executor's children include short-lived programs that Hadoop runs for file metadata.
                if any("pyspark.daemon" in _words(child) for child in executor.children()):
                    found.append(executor)
        return found

    def start_master(self) -> None:
        """Start the master."""
        port = _free_port()
        self._start("master.Master", "--port", str(port), wait_for="I have been elected leader")
        self.url = f"spark://127.0.0.1:{port}"

    def start_worker(self) -> None:
        """Start a worker of one core."""
        work = self.folder / f"work-{len(self.daemons)}"
        options = ["--cores", "1", "--memory", "2g", "--work-dir", str(work), self.url]
        self._start("worker.Worker", *options, wait_for="Successfully registered with master")

    def _start(self, name: str, *arguments: str, wait_for: str) -> None:
        home = os.path.dirname(pyspark.__file__)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYSPARK_")},
            "SPARK_HOME": home,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_MASTER_OPTS": "-Dspark.master.rest.enabled=false",
            "SPARK_DAEMON_JAVA_OPTS": quick_java(),
        }
        command = [f"{home}/bin/spark-class", f"{_CLASS}.{name}", "--host", "127.0.0.1"]
        command += ["--webui-port", str(_free_port()), *arguments]
        log = self.folder / f"daemon-{len(self.daemons)}.log"
        with log.open("wb") as output:
            daemon = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=self.folder
            )
        self.daemons.append(daemon)
        deadline = time.monotonic() + _START_S
        while not re.search(wait_for, log.read_text(errors="replace")):
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.1)


def quick_java() -> str:
    """Options for a Java that runs for seconds, where thorough compilation costs more time than it saves."""
    return f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC{class_archive()}"


def submitting(events: Path) -> list[str]:
    """Options of scripts/submit.sh for a small job on a standalone cluster, with its event log in a folder."""
    settings = ["spark.executor.memoryOverhead=512m", "spark.driver.host=127.0.0.1"]
    settings += [f"spark.eventLog.dir=file://{events}", "spark.ui.enabled=false"]
    settings += [f"spark.{side}.defaultJavaOptions={quick_java()}" for side in ("driver", "executor")]
    sizes = ("--executor-memory", "1g", "--executor-cores", "1")
    return [*sizes, *(word for setting in settings for word in ("--conf", setting))]


@contextmanager
def standalone_cluster(folder: Path) -> Iterator[Cluster]:
    """Start a master and two workers of a core each, and end them on exit."""
    ensure_java()
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(folder)
    try:
        cluster.start_master()
        for _ in range(2):
            cluster.start_worker()
        yield cluster
    finally:
        for daemon in reversed(cluster.daemons):
            _end(daemon)


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _end(daemon: Daemon) -> None:
    children = psutil.Process(daemon.pid).children(recursive=True) if daemon.poll() is None else []
    daemon.terminate()
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
