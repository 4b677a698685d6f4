"""scripts/submit.sh on a real standalone cluster: the bytes of local mode, whatever dies on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from scripts.robustness.standalone import Cluster, standalone_cluster, submitting
from tests.jobs.job_runs import ROOT, TIMEOUT_S, JobRun, arguments_of, mine, run_alone
from tests.jobs.published_days import Content, content_of
from tests.toy_logs import toy_log, write_shuffled

pytestmark = [pytest.mark.slow, pytest.mark.java]
SUBMIT = ROOT / "scripts" / "submit.sh"
LOG = toy_log()
SMALL = ("--set", "mining.num_buckets=8", "--set", "spark.num_partitions=8")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with standalone_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    write_shuffled(LOG.impressions, folder / "impressions", num_files=6, rows_per_group=500)
    write_shuffled(LOG.engagements, folder / "engagements", num_files=2, rows_per_group=100)
    pq.write_table(LOG.ads, folder / "ads.parquet")
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Content:
    out = tmp_path_factory.mktemp("local")
    run = mine(folder, out, *SMALL)
    assert run.exit_code == 0, run.stderr
    return content_of(out)


def submit(cluster: Cluster, *arguments: str, options: tuple[str, ...] = (), events: Path) -> JobRun:
    events.mkdir(exist_ok=True)
    return run_alone(
        "--master", cluster.url, *submitting(events), *options, "mine_negatives", *arguments,
        program=(str(SUBMIT),), SPARK_LOCAL_IP="127.0.0.1", PYTHONPATH="",
    )  # fmt: skip


def test_a_cluster_gives_the_bytes_of_local_mode(
    cluster: Cluster, folder: Path, expected: Content, tmp_path: Path
) -> None:
    run = submit(cluster, *arguments_of(folder, tmp_path), *SMALL, events=tmp_path / "events")
    assert run.exit_code == 0, run.stderr
    assert content_of(tmp_path) == expected
    assert list((tmp_path / "events").iterdir()), "the event log is kept"


def test_a_mistake_ends_with_exit_code_2_on_a_cluster_too(
    cluster: Cluster, folder: Path, tmp_path: Path
) -> None:
    arguments = [*arguments_of(folder, tmp_path), "--impressions", str(tmp_path / "nowhere")]
    run = submit(cluster, *arguments, events=tmp_path / "events")
    assert run.exit_code == 2
    # spark-submit puts both outputs of a Python driver on its own standard output.
    assert f"mine_negatives.py: error: impressions ({tmp_path}/nowhere)" in run.stdout
    assert run.is_calm()


def test_an_executor_that_is_killed_changes_no_byte(
    cluster: Cluster, folder: Path, expected: Content, tmp_path: Path
) -> None:
    killed: list[int] = []

    def strike() -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline and not killed:
            for executor in cluster.at_work()[:1]:
                try:
                    os.kill(executor.pid, signal.SIGKILL)
                except (ProcessLookupError, psutil.NoSuchProcess):
                    continue
                killed.append(executor.pid)
            time.sleep(0.05)

    striking = threading.Thread(target=strike, daemon=True)
    striking.start()
    run = submit(cluster, *arguments_of(folder, tmp_path), *SMALL, events=tmp_path / "events")
    striking.join(1)
    assert killed, "no executor was at work"
    assert run.exit_code == 0, run.stderr
    assert content_of(tmp_path) == expected


def test_executors_with_nothing_but_python_get_their_packages(
    cluster: Cluster, folder: Path, expected: Content, tmp_path: Path
) -> None:
    options = ("--environment", "--conf", "spark.executorEnv.PYTHONPATH=")
    run = submit(
        cluster, *arguments_of(folder, tmp_path), *SMALL, options=options, events=tmp_path / "events"
    )
    assert run.exit_code == 0, run.stderr
    assert content_of(tmp_path) == expected


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--master", "local[1]"], "expected a job (build_vocabulary estimate_examination mine_negatives "),
        (["train_two_tower"], "run .venv/bin/python jobs/train_two_tower.py"),
        (["--deploy-mode", "cluster", "mine_negatives"], "expected client"),
    ],
)
def test_what_cannot_be_submitted_is_one_line(arguments: list[str], found: str) -> None:
    done = subprocess.run([SUBMIT, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 1
    assert found in done.stderr and done.stderr.count("\n") == 1
