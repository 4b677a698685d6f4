"""A standalone Spark cluster on the loopback: a master and two workers, from pip's pyspark."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyspark

from scrollpast.java import ensure_java

_START_S = 120
_CLASS = "org.apache.spark.deploy"


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs; ``url`` is what --master takes."""

    url: str
    processes: tuple[subprocess.Popen[bytes], ...]

    def executors(self) -> list[psutil.Process]:
        """The executors that its workers have started and that live."""
        found = []
        for process in self.processes[1:]:
            for child in psutil.Process(process.pid).children(recursive=True):
                try:
                    if any("CoarseGrainedExecutorBackend" in word for word in child.cmdline()):
                        found.append(child)
                except psutil.NoSuchProcess:
                    continue
        return found

    def at_work(self) -> list[psutil.Process]:
        """Executors that have Python workers."""
        found = []
        for executor in self.executors():
            try:
                if executor.children():
                    found.append(executor)
            except psutil.NoSuchProcess:
                continue
        return found


@contextmanager
def standalone_cluster(folder: Path) -> Iterator[Cluster]:
    """A master and two workers of a core each; ended by their ids."""
    ensure_java()
    home = os.path.dirname(pyspark.__file__)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYSPARK_")},
        "SPARK_HOME": home,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_MASTER_OPTS": "-Dspark.master.rest.enabled=false",
    }
    local = ["--host", "127.0.0.1"]

    with ExitStack() as stack:

        def start(name: str, *arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
            log = folder / f"{name}.log"
            command = [f"{home}/bin/spark-class", *arguments]
            with log.open("wb") as output:
                process = subprocess.Popen(
                    command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=folder
                )
            stack.callback(_end, process)
            return process, log

        port = _free_port()
        master, log = start(
            "master",
            f"{_CLASS}.master.Master",
            *local,
            "--port",
            str(port),
            "--webui-port",
            str(_free_port()),
        )
        _wait_for(r"I have been elected leader", log, master)
        url = f"spark://127.0.0.1:{port}"
        workers = []
        for number in range(2):
            worker, log = start(
                f"worker-{number}", f"{_CLASS}.worker.Worker", *local, "--cores", "1", "--memory", "2g",
                "--webui-port", str(_free_port()), "--work-dir", str(folder / f"work-{number}"), url,
            )  # fmt: skip
            workers.append((worker, log))
        for worker, log in workers:
            _wait_for(r"Successfully registered with master", log, worker)
        yield Cluster(url, (master, *(worker for worker, _ in workers)))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(pattern: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while not re.search(pattern, log.read_text(errors="replace")):
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
