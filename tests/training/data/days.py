"""Published days of random records, a vocabulary for them, and what a plain loop reads in their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scrollpast.config.training_options import TrainingData
from scrollpast.record_schema import NEGATIVE_FEATURES, POSITIVE_FEATURES, record_schema
from scrollpast.shards.manifest import Manifest, publish_manifest, write_shard
from scrollpast.shards.reader import ShardReader
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.sampling import Sampling

DAY_MS = 86_400_000
START_MS = 20_000 * DAY_MS
NUM_ADS = 40
KINDS = {"served": 0, "click": 1, "save": 3, "hide": 11, "neighbour": 100}


def write_day(
    folder: Path, shards: list[list[dict[str, Any]]], *, ds: str = "2026-11-21", has_history: bool = False
) -> str:
    """Publish shards of these records, given as rows; returns the day's URI. Rows may hold ``history_ad_id``."""
    uri = str(folder / f"ds={ds}")
    has_history |= any("history_ad_id" in row for rows in shards for row in rows)
    schema = record_schema(("age",), has_history=has_history)
    entries = [
        write_shard(uri, bucket, pa.RecordBatch.from_pylist(rows, schema=schema))
        for bucket, rows in enumerate(shards)
    ]
    records = [row for rows in shards for row in rows]
    publish_manifest(
        uri,
        Manifest(
            ds=ds,
            window_start=f"{ds}T00:00:00Z",
            window_end="2026-11-30T00:00:00Z",
            as_of="2026-12-01T00:00:00Z",
            num_buckets=max(1, len(shards)),
            created_at="2026-12-01T00:00:00Z",
            config={},
            input={},
            ledger={},
            num_records=len(records),
            num_positives=sum(len(row["positive_ad_id"] or ()) for row in records),
            num_negatives=sum(len(row["negative_ad_id"] or ()) for row in records),
            kinds=KINDS,
            shards=tuple(entries),
            user_features=("age",),
            has_user_history=has_history,
        ),
        replace=False,
    )
    return uri


def record(random: np.random.Generator, user: int, num_positives: int, num_negatives: int) -> dict[str, Any]:
    """A record over two days, its lists ordered by time; some ads are on both sides, some have no row."""
    row: dict[str, Any] = {"user_id": user, "user_age": [None, 20, 30, 99][random.integers(4)]}
    for side, names, count in (
        ("positive", POSITIVE_FEATURES, num_positives),
        ("negative", NEGATIVE_FEATURES, num_negatives),
    ):
        kinds = [1, 3] if side == "positive" else [0, 0, 0, 11, 100]
        values = {
            "ad_id": random.integers(0, NUM_ADS + 3, count).tolist(),
            "kind": random.choice(kinds, count).tolist(),
            "served_at_ms": np.sort(START_MS + random.integers(0, 2 * DAY_MS, count)).tolist(),
            "request_hash": random.integers(0, 2**62, count).tolist(),
            "position": [-1] * count,
            "dwell_ms": [500] * count,
            "weight": (0.1 + 0.9 * random.random(count)).tolist(),
        }
        row |= {name: values[name.removeprefix(f"{side}_")] for name in names}
    return row


def records(random: np.random.Generator, first_user: int, num_records: int) -> list[dict[str, Any]]:
    """Records with 0 to 5 positives and 0 to 9 negatives; the request hash of an anchor tells it from all others."""
    return [
        record(random, first_user + number, int(random.integers(0, 6)), int(random.integers(0, 10)))
        for number in range(num_records)
    ]


def vocabulary() -> Vocabulary:
    """Rows for the ads 0 to 39, in an order of its own; codes for the ages 20 and 30."""
    ad_ids = np.concatenate([[0], np.random.Generator(np.random.Philox(5)).permutation(NUM_ADS)])
    return Vocabulary(
        ad_ids=ad_ids,
        counts=np.arange(NUM_ADS + 1),
        feature_codes={"advertiser": np.arange(NUM_ADS + 1) % 4},
        values={"advertiser": ("a", "b", "c"), "user_age": ("30", "20")},
        num_user_rows=100,
    )


def reading(**facts: Any) -> tuple[TrainingData, Sampling]:
    """Options and sampling of a stream, each fact by its name; two hard negatives an anchor unless it says so."""
    sampled = {"num_hard": 2} | {
        name: facts.pop(name) for name in Sampling.__dataclass_fields__ if name in facts
    }
    return TrainingData(**facts), Sampling(**sampled)


def read_records(manifests: list[str]) -> list[list[dict[str, Any]]]:
    """All records as rows, shard by shard in the order of `AnchorStream.shards`."""
    reader = ShardReader(manifests)
    shards: list[list[dict[str, Any]]] = [[] for _ in reader.shards]
    at = 0
    for batch in reader:
        while len(shards[at]) == reader.shards[at].entry.num_records:
            at += 1
        shards[at] += batch.to_pylist()
    return shards
