"""Testbed of faults: a log, and the undisturbed result."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs
from scripts.bench.benchmarking import ROOT
from scripts.robustness.object_store import BUCKET, Store, object_store
from scripts.robustness.processes import Process, must, start, start_job
from scripts.robustness.standalone import Cluster, standalone_cluster, submitting

from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import read_manifest
from scrollpast.shards.reader import ShardReader
from scrollpast.training.engine.metrics_log import read_curve

DAY = "2026-11-20"
Records = Counter[tuple[Any, ...]]


@dataclass(frozen=True)
class Outcome:
    """The part of a run's output that must be equal with and without a fault."""

    content: Any
    """Files by digest and the manifest of a day; the loss curve of a training run."""

    records: Records
    """Records of a day; steps of a training run."""


class Grounds:
    """A log, a cluster and a store for the faults, and undisturbed outcomes; each is made when first needed.

    Args:
        folder: place of all output; the log of an earlier campaign there is used again.
        num_rows: impressions of the log.
        stack: exit stack that ends the cluster and the store.
    """

    def __init__(self, folder: Path, num_rows: int, stack: ExitStack) -> None:
        self.folder, self._num_rows, self._stack = folder, num_rows, stack

    @cached_property
    def log(self) -> Path:
        """Folder of the log."""
        log = self.folder / f"log-{self._num_rows}"
        if not (log / "simulation.json").exists():
            options = ["--rows", self._num_rows, "--days", "2", "--last-day", DAY, "--overwrite"]
            must(start_job("simulate_logs", log, *options))
        return log

    @cached_property
    def day(self) -> Outcome:
        """Outcome of the day, mined on this machine."""
        return self._undisturbed(str(self.folder / "undisturbed"))

    @property
    def day_bytes(self) -> int:
        """Size of all files of the undisturbed day."""
        _ = self.day
        return sum(file.stat().st_size for file in Path(self._day_uri).rglob("*") if file.is_file())

    @cached_property
    def stored_log(self) -> str:
        """URI of the log in the store."""
        source, target = str(self.log), f"{BUCKET}/log"
        with self.at_store():
            filesystem, _ = files.resolve(f"s3://{BUCKET}")
            fs.copy_files(source, target, destination_filesystem=filesystem)
        return f"s3://{target}"

    @cached_property
    def stored_day(self) -> Outcome:
        """Outcome of the day, mined from the store into the store."""
        with self.at_store():
            return self._undisturbed(f"s3://{BUCKET}/undisturbed", log=self.stored_log)

    @cached_property
    def curve(self) -> Outcome:
        """Outcome of training on two ranks: the loss curve."""
        run = self.folder / "undisturbed-run"
        must(self.train(run))
        return curve_of(run)

    @cached_property
    def cluster(self) -> Cluster:
        """A standalone Spark cluster."""
        return self._stack.enter_context(standalone_cluster(self.folder / "cluster"))

    @cached_property
    def store(self) -> Store:
        """An S3-compatible server."""
        return self._stack.enter_context(object_store())

    @contextmanager
    def at_store(self) -> Iterator[None]:
        """Point s3:// at the store, for this process and the processes that it starts."""
        before = {name: os.environ.get(name) for name in self.store.environment}
        os.environ.update(self.store.environment)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def mine(self, out: str, *more: object, log: str | None = None, **variables: str) -> Process:
        """Start mining the day on this machine."""
        options = (*self.mining(out, log), "--set", "spark.master=local[2,4]", *more)
        return start_job("mine_negatives", *options, **variables)

    def mining(self, out: str, log: str | None = None) -> list[object]:
        """The arguments of mine_negatives."""
        log = log or str(self.log)
        tables = [f"--impressions={log}/impressions", f"--engagements={log}/engagements"]
        size = ["--set", "mining.num_buckets=8", "--set", "spark.num_partitions=4"]
        return ["--date", DAY, "--as-of", "2026-11-28", *tables, "--out", out, *size]

    def submit(self, out: str) -> Process:
        """Start mining the day on the cluster."""
        submit = [ROOT / "scripts" / "submit.sh", "--master", self.cluster.url, *submitting(self._events)]
        return start([*submit, "mine_negatives", *self.mining(out)], SPARK_LOCAL_IP="127.0.0.1")

    @cached_property
    def _events(self) -> Path:
        events = self.folder / "events"
        events.mkdir(exist_ok=True)
        return events

    def train(self, run: Path) -> Process:
        """Start training two ranks on the undisturbed day."""
        import sys

        vocabulary = self._vocabulary
        options = [
            f"training.vocabulary={vocabulary}", "training.epochs=1000", "training.max_steps=200",
            "training.log_every_steps=1", "training.checkpoints.every_steps=20", "training.data.batch_size=64",
            "training.model.embedding_dim=8", "training.model.output_dim=8", "training.model.user_layers=[16]",
            "training.model.ad_layers=[16]", "training.negatives.random.count=32",
        ]  # fmt: skip
        sets = [word for option in options for word in ("--set", option)]
        ranks = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        job = ROOT / "jobs" / "train_two_tower.py"
        return start([*ranks, job, self._day_uri, "--out", run, *sets])

    @property
    def _day_uri(self) -> str:
        return str(self.folder / "undisturbed" / f"ds={DAY}")

    @cached_property
    def _vocabulary(self) -> str:
        _ = self.day
        job = start_job(
            "build_vocabulary", self._day_uri, "--ads", self.log / "ads", "--out", self.folder,
            "--num-user-rows", "1000",
        )  # fmt: skip
        must(job)
        (vocabulary,) = (self.folder / "vocabulary").glob("v=*")
        return str(vocabulary)

    def _undisturbed(self, out: str, log: str | None = None) -> Outcome:
        must(self.mine(out, log=log))
        return day_of(out)


def day_of(out: str) -> Outcome:
    """Outcome of the day in a folder: every file that the manifest names, and every record."""
    uri = files.join(out, f"ds={DAY}")
    filesystem, folder = files.resolve(uri)
    manifest = read_manifest(uri)
    content = json.loads(manifest.to_json())
    # Only the time, the machines and the folder of a day may differ.
    del content["created_at"], content["config"]["output"], content["config"]["spark"]
    digests = {entry.path: entry.sha256 for entry in manifest.shards}
    for path in manifest.paths:
        if path not in digests:
            digests[path] = files.read_all(filesystem, files.join(folder, path)).to_pybytes().hex()
    records: Records = Counter()
    for batch in ShardReader([uri]):
        records.update(_rows(batch))
    return Outcome((digests, content), records)


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    for record in batch.to_pylist():
        yield tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in record.items())


def curve_of(run: Path) -> Outcome:
    """The loss of every step of a training run."""
    points = read_curve(str(run))
    return Outcome(
        [(point["step"], point.get("loss")) for point in points],
        Counter((point["step"],) for point in points),
    )


def forget(folder: Path) -> None:
    """Remove a folder if it exists."""
    shutil.rmtree(folder, ignore_errors=True)
