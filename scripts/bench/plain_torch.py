"""The same model in plain PyTorch, and days as a log would give them, for training benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from scrollpast.config import Training
from scrollpast.record_schema import NEGATIVE_FEATURES, POSITIVE_FEATURES, record_schema
from scrollpast.shards.manifest import Manifest, ShardEntry, publish_manifest, write_shard
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.engine.step_input import StepInput
from scrollpast.training.loss.sources.catalogue import catalogue_log_q

NUM_POSITIVES, NUM_NEGATIVES = 5, 20
NUM_TASTES = 64
_CPU = torch.device("cpu")


class PlainTwoTower(nn.Module):
    """The trainer's model, written without TorchRec."""

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
        self.register_buffer("log_q", torch.from_numpy(vocabulary.log_q(1.0)))
        random_log_q = catalogue_log_q(vocabulary, options.negatives.random)
        self.register_buffer("random_log_q", torch.from_numpy(random_log_q))

    def tables(self) -> list[nn.Parameter]:
        return [self.user.weight, self.history.weight, self.ad.weight]

    def forward(self, batch: StepInput) -> torch.Tensor:
        anchors = batch.anchors
        num_anchors, num_hard = anchors.hard.row.shape
        offsets = anchors.history_lengths.cumsum(0) - anchors.history_lengths
        history = self.history(anchors.history_rows, offsets)
        users = nn.functional.normalize(
            self.user_tower(torch.cat([self.user(anchors.user_row), history], 1)), dim=1
        )
        rows = torch.cat([anchors.ad_row, anchors.hard.row.view(-1), batch.rows["random"]])
        ads = nn.functional.normalize(self.ad_tower(self.ad(rows)), dim=1)
        positive, hard, random = ads.split([num_anchors, num_anchors * num_hard, len(batch.rows["random"])])
        in_batch = self.scale * users @ positive.T - self.log_q[anchors.ad_row]
        same = (anchors.user_id[:, None] == anchors.user_id) | (anchors.ad_row[:, None] == anchors.ad_row)
        in_batch = in_batch.masked_fill(same, -torch.inf)
        drawn = self.scale * users @ random.T - self.random_log_q[batch.rows["random"]]
        drawn = drawn.masked_fill(anchors.ad_row[:, None] == batch.rows["random"], -torch.inf)
        own = self.scale * (users[:, None] * hard.view(num_anchors, num_hard, -1)).sum(2)
        own = (own + anchors.hard.weight.log()).masked_fill(
            anchors.hard.row == anchors.ad_row[:, None], -torch.inf
        )
        score = self.scale * (users * positive).sum(1, keepdim=True)
        logits = torch.cat([score, in_batch, drawn, own], 1)
        losses = logits.logsumexp(1) - score[:, 0]
        return (losses * anchors.weight).sum() / anchors.weight.sum()


def plain_run(
    vocabulary: Vocabulary, options: Training, *, sparse: bool, device: torch.device = _CPU
) -> Callable[[Iterator[StepInput]], None]:
    """A function that trains `PlainTwoTower` on inputs, with a step for each input.

    Args:
        sparse: update tables by sparse gradients, else by dense ones.
        device: device of the model and the inputs.
    """
    model = PlainTwoTower(vocabulary, options, sparse=sparse).to(device)
    tables = model.tables()
    known = {id(table) for table in tables}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    optimizers = [
        torch.optim.Adagrad(tables, lr=options.optimizer.table_learning_rate),
        torch.optim.Adam(others, lr=options.optimizer.dense_learning_rate),
    ]

    def run(inputs: Iterator[StepInput]) -> None:
        for batch in inputs:
            for optimizer in optimizers:
                optimizer.zero_grad()
            model(batch).backward()
            nn.utils.clip_grad_norm_(others, 1.0)
            for optimizer in optimizers:
                optimizer.step()

    return run


def example_vocabulary(num_rows: int) -> Vocabulary:
    """A vocabulary of ads and users, with counts of ads as skewed as a log's."""
    counts = np.random.Generator(np.random.Philox(1)).zipf(1.3, num_rows).clip(max=100_000)
    counts[0] = 0
    return Vocabulary(np.arange(num_rows), counts, {}, {}, num_user_rows=num_rows)


def example_day(folder: str, vocabulary: Vocabulary, num_users: int, num_buckets: int = 8) -> str:
    """Publish records like a log's: users with a few positives and more negatives, popular ads more often."""
    uri = f"{folder}/ds=2026-11-20"
    buckets = enumerate(np.array_split(np.arange(num_users), num_buckets))
    shares = [(uri, bucket, users, vocabulary.num_rows - 1) for bucket, users in buckets]
    if num_users < 1_000_000:
        entries = [_write_bucket(*share) for share in shares]
    else:
        with get_context("spawn").Pool() as pool:
            entries = pool.starmap(_write_bucket, shares, chunksize=1)
    moment = "2026-11-20T00:00:00Z"
    manifest = Manifest(
        ds="2026-11-20", window_start=moment, window_end=moment, as_of=moment, num_buckets=num_buckets,
        created_at=moment, config={}, input={}, ledger={}, num_records=num_users,
        num_positives=num_users * NUM_POSITIVES, num_negatives=num_users * NUM_NEGATIVES,
        kinds={"served": 0, "click": 1}, shards=tuple(entries),
    )  # fmt: skip
    publish_manifest(uri, manifest, replace=False)
    return uri


def _write_bucket(uri: str, bucket: int, users: NDArray[np.int64], most: int) -> ShardEntry:
    """Write the records of some users; ads are numbered up to ``most``."""
    generator = np.random.Generator(np.random.Philox([2, bucket]))
    columns: dict[str, Any] = {"user_id": pa.array(users)}
    for side, names, count in (
        ("positive", POSITIVE_FEATURES, NUM_POSITIVES),
        ("negative", NEGATIVE_FEATURES, NUM_NEGATIVES),
    ):
        size = len(users) * count
        offsets = pa.array(np.arange(0, size + 1, count, dtype=np.int32))
        # A signal to learn: a user's positives are ads of the user's own taste, the negatives of any taste.
        own = np.repeat(users % NUM_TASTES, count)
        taste = own if side == "positive" else generator.integers(0, NUM_TASTES, size)
        popularity = generator.zipf(1.2, size) % max(1, most // NUM_TASTES)
        values = {
            "ad_id": (1 + popularity * NUM_TASTES + taste).clip(max=most),
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
    return write_shard(uri, bucket, batch)
