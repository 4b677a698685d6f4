#!/usr/bin/env python3
"""Speed of a training step beside plain PyTorch's, on the same batches in the same process, and of the data alone.

Peers have the same towers, candidates and loss, written as one would at first: nn.EmbeddingBag, one B × (B + N)
matrix of logits. One updates its tables with dense Adagrad, the other with sparse gradients. Runs alternate;
medians are shown, and how far the runs were apart.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from benchmarking import RESULTS, save
from torch import nn

from scrollpast.config import Training, load_config
from scrollpast.entry import run_job
from scrollpast.example import NEGATIVE_FEATURES, POSITIVE_FEATURES, record_schema
from scrollpast.shards.manifest import Manifest, publish_manifest, write_shard
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.console import silence_libraries
from scrollpast.training.data.stream import AnchorStream
from scrollpast.training.model.optimisers import TrainingOptimiser
from scrollpast.training.negatives.catalogue import catalogue_log_q
from scrollpast.training.processes import process_group
from scrollpast.training.resumption import data_options
from scrollpast.training.step_input import Preparation, StepInput
from scrollpast.training.step_model import build
from scrollpast.training.stepping import PlainStepping

OURS = "scrollpast"
DENSE, SPARSE = "PyTorch, dense Adagrad", "PyTorch, sparse gradients"
NUM_POSITIVES, NUM_NEGATIVES = 5, 20


class PlainTwoTower(nn.Module):
    """The same model as one would write it without TorchRec."""

    def __init__(self, vocabulary: Vocabulary, options: Training, *, sparse: bool) -> None:
        super().__init__()
        model = options.model
        dim = model.embedding_dim
        self.user = nn.Embedding(vocabulary.num_user_rows, dim, sparse=sparse)
        self.history = nn.EmbeddingBag(vocabulary.num_rows, dim, mode="mean", sparse=sparse)
        self.ad = nn.Embedding(vocabulary.num_rows, dim, sparse=sparse)
        for table in (self.user, self.history, self.ad):
            nn.init.uniform_(table.weight, -0.05, 0.05)

        def tower(num_inputs: int, widths: list[int]) -> nn.Sequential:
            sizes = [num_inputs, *widths]
            layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.SiLU())]
            return nn.Sequential(*layers, nn.Linear(sizes[-1], model.output_dim))

        self.user_tower = tower(2 * dim, model.user_layers)
        self.ad_tower = tower(dim, model.ad_layers)
        self.scale = 1 / model.temperature
        self.log_q = torch.from_numpy(vocabulary.log_q(1.0))
        self.random_log_q = torch.from_numpy(catalogue_log_q(vocabulary, options.negatives.random))

    def tables(self) -> list[nn.Parameter]:
        return [self.user.weight, self.history.weight, self.ad.weight]

    def forward(self, batch: StepInput) -> torch.Tensor:
        anchors = batch.anchors
        num_anchors, num_hard = anchors.hard_row.shape
        offsets = anchors.history_lengths.cumsum(0) - anchors.history_lengths
        history = self.history(anchors.history_rows, offsets)
        users = nn.functional.normalize(
            self.user_tower(torch.cat([self.user(anchors.user_row), history], 1)), dim=1
        )
        rows = torch.cat([anchors.ad_row, anchors.hard_row.view(-1), batch.random_row])
        ads = nn.functional.normalize(self.ad_tower(self.ad(rows)), dim=1)
        positive, hard, random = ads.split([num_anchors, num_anchors * num_hard, len(batch.random_row)])
        in_batch = self.scale * users @ positive.T - self.log_q[anchors.ad_row]
        same = (anchors.user_id[:, None] == anchors.user_id) | (anchors.ad_row[:, None] == anchors.ad_row)
        in_batch = in_batch.masked_fill(same, -torch.inf)
        drawn = self.scale * users @ random.T - self.random_log_q[batch.random_row]
        drawn = drawn.masked_fill(anchors.ad_row[:, None] == batch.random_row, -torch.inf)
        own = self.scale * (users[:, None] * hard.view(num_anchors, num_hard, -1)).sum(2)
        own = (own + anchors.hard_weight.log()).masked_fill(
            anchors.hard_row == anchors.ad_row[:, None], -torch.inf
        )
        score = self.scale * (users * positive).sum(1, keepdim=True)
        logits = torch.cat([score, in_batch, drawn, own], 1)
        losses = logits.logsumexp(1) - score[:, 0]
        return (losses * anchors.weight).sum() / anchors.weight.sum()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench_training.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=1024, metavar="B", help="anchors of a step (1024)")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="steps of a run (20)")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="runs of each, alternating (5)")
    parser.add_argument("--rows", type=float, default=1e6, metavar="N", help="rows of every table (1e6)")
    parser.add_argument("--users", type=int, default=40_000, metavar="N", help="users in the data (40,000)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="for all of them (all cores)")
    parser.add_argument("--set", action="append", default=[], help="option of training")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="where the table goes (scripts/results)"
    )
    return run_job(parser, compare)


def compare(arguments: argparse.Namespace) -> int:
    silence_libraries()
    torch.set_num_threads(arguments.threads or len(os.sched_getaffinity(0)))
    settings = [f"data.batch_size={arguments.batch}", *arguments.set]
    options = load_config(None, [f"training.{setting}" for setting in settings]).training
    vocabulary = example_vocabulary(int(arguments.rows))
    with tempfile.TemporaryDirectory() as folder, process_group("cpu") as device:
        day = example_day(folder, vocabulary, arguments.users)
        stream = AnchorStream([day], vocabulary, data_options(options))
        preparation = Preparation(vocabulary, options)
        batches = [preparation.of(batch, step) for step, batch in enumerate(islice(stream, arguments.steps))]
        group = dist.group.WORLD
        assert group is not None
        model = build(options, vocabulary, device, group)
        optimiser = TrainingOptimiser(model, options.optimisers)

        def forward(batch: StepInput) -> Any:
            loss, totals = model(batch)
            totals[0].item()  # as the job does, to stop at a loss that is not finite
            return loss, (batch, totals)

        stepping = PlainStepping(forward, optimiser, device)

        def ours(inputs: Iterator[StepInput]) -> None:
            for _ in stepping.steps(inputs):
                pass

        runs: dict[str, Callable[[Iterator[StepInput]], None]] = {
            OURS: ours,
            DENSE: _plain(vocabulary, options, sparse=False),
            SPARSE: _plain(vocabulary, options, sparse=True),
        }
        speeds = {name: _speeds(run, batches, arguments) for name, run in _warmed(runs, batches)}
        for _ in range(arguments.runs - 1):
            for name, run in runs.items():
                speeds[name] += _speeds(run, batches, arguments)
        from_shards, from_memory = _data_speeds(day, vocabulary, options, arguments.runs)
        waited = [_share_waited(stepping, stream, preparation) for _ in range(arguments.runs)]
    table = _table(speeds, from_shards, from_memory, waited, arguments)
    print(table)
    figures = {
        "examples_per_s": speeds,
        "from_shards": from_shards,
        "from_cache": from_memory,
        "waited": waited,
    }
    save(arguments.results, f"training_{arguments.batch}", table, figures)
    return 0


def _plain(
    vocabulary: Vocabulary, options: Training, *, sparse: bool
) -> Callable[[Iterator[StepInput]], None]:
    model = PlainTwoTower(vocabulary, options, sparse=sparse)
    tables = model.tables()
    known = {id(table) for table in tables}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    optimisers = [
        torch.optim.Adagrad(tables, lr=options.optimisers.table_learning_rate),
        torch.optim.Adam(others, lr=options.optimisers.dense_learning_rate),
    ]

    def run(inputs: Iterator[StepInput]) -> None:
        for batch in inputs:
            for optimiser in optimisers:
                optimiser.zero_grad()
            model(batch).backward()
            nn.utils.clip_grad_norm_(others, 1.0)
            for optimiser in optimisers:
                optimiser.step()

    return run


def _warmed(runs: dict[str, Any], batches: list[StepInput]) -> Iterator[tuple[str, Any]]:
    for name, run in runs.items():
        run(iter(batches[:3]))
        yield name, run


def _speeds(run: Any, batches: list[StepInput], arguments: argparse.Namespace) -> list[float]:
    started = time.perf_counter()
    run(iter(batches))
    return [len(batches) * arguments.batch / (time.perf_counter() - started)]


def _data_speeds(
    day: str, vocabulary: Vocabulary, options: Training, num_runs: int
) -> tuple[list[float], list[float]]:
    """Anchors a second of the data set alone: decoded from the shards, and from its cache in later epochs."""
    from_shards: list[float] = []
    from_memory: list[float] = []
    for _ in range(num_runs):
        stream = AnchorStream([day], vocabulary, data_options(options))
        for found in (from_shards, from_memory):
            started = time.perf_counter()
            count = sum(len(batch) for batch in stream)
            found.append(count / (time.perf_counter() - started))
    return from_shards, from_memory


def _share_waited(stepping: PlainStepping, stream: AnchorStream, preparation: Preparation) -> float:
    """Of the time of an epoch, as the job trains it, the share in which the step has no batch yet."""
    waited = 0.0

    def batches() -> Iterator[Any]:
        nonlocal waited
        asked = time.perf_counter()
        for batch in stream:
            waited += time.perf_counter() - asked
            yield batch
            asked = time.perf_counter()

    started = time.perf_counter()
    for _ in stepping.steps(preparation.steps(batches(), 0)):
        pass
    return waited / (time.perf_counter() - started)


def _table(
    speeds: dict[str, list[float]],
    from_shards: list[float],
    from_memory: list[float],
    waited: list[float],
    arguments: argparse.Namespace,
) -> str:
    rows = int(arguments.rows)
    shape = f"batch {arguments.batch:,}, three tables of {rows:,} rows, {torch.get_num_threads()} threads"
    lines = [f"{shape}, {arguments.runs} runs of {arguments.steps} steps\n"]
    own = median(speeds[OURS])
    lines.append(f"{'training step':<30}{'examples/s':>12}{'slowest–fastest':>20}{'scrollpast is':>16}")
    for name, found in speeds.items():
        ratio = "" if name == OURS else f"{own / median(found):.2f} ×"
        spread = f"{min(found):,.0f}–{max(found):,.0f}"
        lines.append(f"{name:<30}{median(found):>12,.0f}{spread:>20}{ratio:>16}")
    lines.append(f"\n{'data set alone':<30}{'anchors/s':>12}{'slowest–fastest':>20}{'of the step':>16}")
    for name, found in (("from shards", from_shards), ("from its cache", from_memory)):
        spread, ratio = f"{min(found):,.0f}–{max(found):,.0f}", f"{median(found) / own:.1f} ×"
        lines.append(f"{name:<30}{median(found):>12,.0f}{spread:>20}{ratio:>16}")
    shares = f"{min(waited):.2%}–{max(waited):.2%}"
    lines.append(f"\n{'step waits for data':<30}{median(waited):>12.2%}{shares:>20}   of an epoch's time")
    return "\n".join(lines) + "\n"


def example_vocabulary(num_rows: int) -> Vocabulary:
    """Rows of ads and users, the ads' counts as skewed as a log's."""
    counts = np.random.Generator(np.random.Philox(1)).zipf(1.3, num_rows).clip(max=100_000)
    counts[0] = 0
    return Vocabulary(np.arange(num_rows), counts, {}, {}, num_user_rows=num_rows)


def example_day(folder: str, vocabulary: Vocabulary, num_users: int) -> str:
    """Publish records as a log would give them: users with some positives and more negatives, popular ads first."""
    generator = np.random.Generator(np.random.Philox(2))
    uri = f"{folder}/ds=2026-11-20"
    most = vocabulary.num_rows - 1
    entries = []
    for bucket, users in enumerate(np.array_split(np.arange(num_users), 8)):
        columns: dict[str, Any] = {"user_id": pa.array(users)}
        for side, names, count in (
            ("positive", POSITIVE_FEATURES, NUM_POSITIVES),
            ("negative", NEGATIVE_FEATURES, NUM_NEGATIVES),
        ):
            size = len(users) * count
            offsets = pa.array(np.arange(0, size + 1, count, dtype=np.int32))
            values = {
                "ad_id": generator.zipf(1.2, size).clip(max=most),
                "kind": np.full(size, 1 if side == "positive" else 0),
                "served_at_ms": np.tile(np.arange(count) * 60_000 + 20_000 * 86_400_000, len(users)),
                "request_hash": generator.integers(1, 2**62, size),
                "position": np.zeros(size, np.int64),
                "dwell_ms": np.full(size, 1000),
                "weight": (0.1 + 0.9 * generator.random(size)).astype(np.float32),
            }
            columns |= {
                name: pa.ListArray.from_arrays(offsets, pa.array(values[name.removeprefix(f"{side}_")]))
                for name in names
            }
        schema = record_schema(())
        batch = pa.RecordBatch.from_arrays(
            [columns[name].cast(schema.field(name).type) for name in schema.names], schema=schema
        )
        entries.append(write_shard(uri, bucket, batch))
    moment = "2026-11-20T00:00:00Z"
    manifest = Manifest(
        ds="2026-11-20", window_start=moment, window_end=moment, as_of=moment, num_buckets=8, created_at=moment,
        config={}, input={}, ledger={}, num_records=num_users, num_positives=num_users * NUM_POSITIVES,
        num_negatives=num_users * NUM_NEGATIVES, kinds={"served": 0, "click": 1}, shards=tuple(entries),
    )  # fmt: skip
    publish_manifest(uri, manifest, replace=False)
    return uri


if __name__ == "__main__":
    sys.exit(main())
