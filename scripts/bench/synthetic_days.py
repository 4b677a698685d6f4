"""Exported towers and published days with a known geometry, of any size, without a log or a training run.

Ads lie in clusters. A user engages with ads of one cluster, and the towers place the user near the mean of these
ads. Positives therefore score high, other ads of the cluster about as high, and ads of other clusters low.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from scrollpast.ann_index.index import AdIndex
from scrollpast.ann_index.kinds import Kind
from scrollpast.config import DEFAULT_KINDS, NEIGHBOUR_CODE, SERVED_CODE
from scrollpast.hashing import bucket_of, xxhash64
from scrollpast.record_schema import NEGATIVE_FEATURES, POSITIVE_FEATURES, USER_FEATURE_PREFIX, record_schema
from scrollpast.shards.manifest import Manifest, publish_manifest, write_shard
from scrollpast.training.serving import export_files
from scrollpast.training.serving.user_tower import UserTower

DAY_MS = 86_400_000
START_MS = 20_000 * DAY_MS
AGES = (20, 30, 40)
CLICK, HIDE = (DEFAULT_KINDS[name].code for name in ("click", "hide"))
KINDS = {"served": SERVED_CODE, "click": CLICK, "hide": HIDE, "neighbour": NEIGHBOUR_CODE}
_MOST_POSITIVES, _NUM_NEGATIVES = 6, 8
_VOCABULARY = "0123456789abcdef"


@dataclass(frozen=True)
class Plan:
    """Sizes and seed of the synthetic ads, users and days."""

    num_ads: int
    num_users: int
    dim: int = 16
    ads_per_cluster: int = 1000
    seed: int = 0

    @property
    def num_clusters(self) -> int:
        return max(1, self.num_ads // self.ads_per_cluster)

    def generator(self, purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self.seed, purpose]))

    def ad_ids(self, rows: Any) -> Any:
        """Ids that differ from the rows of the tables."""
        return 7 * rows + 3


def plant_towers(plan: Plan, folder: Path, kind: Kind = "flat") -> NDArray[np.float32]:
    """Write an export as jobs/export_towers.py does; returns the ads' embeddings by row, float32 [R, D]."""
    random, num_rows, dim = plan.generator(1), plan.num_ads + 1, plan.dim
    centres = random.standard_normal((plan.num_clusters, dim), np.float32)
    embeddings = centres[np.arange(num_rows) % plan.num_clusters]
    embeddings += 0.5 * random.standard_normal((num_rows, dim), np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    tables = {"user": plan.num_users + 1, "user_age": len(AGES) + 1, "history": num_rows}
    tower = {
        "vocabulary_version": _VOCABULARY, "embedding_dim": dim, "output_dim": dim, "layers": [],
        "activation": "silu", "tables": tables, "history_pooling": "mean", "max_history": 64,
        "num_user_rows": tables["user"], "user_features": {"age": [str(age) for age in AGES]},
        "temperature": 0.07,
    }  # fmt: skip
    # The tower sums a small embedding of the user id and the embeddings of the user's history.
    eye = np.eye(dim, dtype=np.float32)
    weights = {
        "tables.user": random.standard_normal((tables["user"], dim), np.float32),
        "tables.user_age": random.standard_normal((tables["user_age"], dim), np.float32),
        "tables.history": np.concatenate([np.zeros((1, dim), np.float32), embeddings[1:]]),
        "layers.0.weight": np.concatenate([0.02 * eye, 0.02 * eye, eye], axis=1),
        "layers.0.bias": np.zeros(dim, np.float32),
    }
    assert set(weights) == set(UserTower(tower, np.zeros(num_rows, np.int64)).state_dict())
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.arange(1, num_rows)
    ads = {
        "row": rows,
        "ad_id": plan.ad_ids(rows),
        "raw_id": pa.nulls(plan.num_ads, pa.string()),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(embeddings[1:].reshape(-1)), dim),
    }
    pq.write_table(pa.table(ads), folder / export_files.ADS_NAME, use_dictionary=False)
    AdIndex.build(embeddings, kind).save(str(folder / export_files.INDEX_NAME))
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in weights.items()}
    save_file(tensors, folder / export_files.WEIGHTS_NAME)
    (folder / export_files.ABOUT_NAME).write_text(json.dumps(tower))
    about = {
        "schema_version": export_files.SCHEMA_VERSION, "checkpoint": "planted", "step": 0, "metrics": None,
        "vocabulary_version": _VOCABULARY, "embedding_dim": dim, "output_dim": dim, "num_ads": plan.num_ads,
        "num_user_rows": tables["user"], "index": {"kind": kind}, "created_at": f"seed {plan.seed}",
    }  # fmt: skip
    (folder / export_files.EXPORT_NAME).write_text(json.dumps(about))
    return embeddings


def plant_day(plan: Plan, root: Path, *, ds: str = "2026-11-20", num_buckets: int = 4) -> str:
    """Publish a day of records with 1 to 6 positives of one cluster and 8 negatives, some of them hidden.

    One positive in 50 is an ad that the export lacks; every 40th user has only positives of this kind.
    """
    day = int(ds[-2:])
    random = plan.generator(day)
    users = np.arange(1, plan.num_users + 1)
    buckets = bucket_of(xxhash64(users), num_buckets)
    uri, entries, num_positives = str(root / f"ds={ds}"), [], 0
    for bucket in range(num_buckets):
        records = _records(plan, users[buckets == bucket], random, day)
        entries.append(write_shard(uri, bucket, records))
        num_positives += len(records.column("positive_ad_id").flatten())
    manifest = Manifest(
        ds=ds, window_start=f"{ds}T00:00:00+00:00", window_end=f"{ds}T23:59:59+00:00",
        as_of="2026-12-01T00:00:00+00:00", num_buckets=num_buckets, created_at="2026-12-01T00:00:00+00:00",
        config={}, input={}, ledger={}, num_records=plan.num_users, num_positives=num_positives,
        num_negatives=plan.num_users * _NUM_NEGATIVES, kinds=KINDS, shards=tuple(entries), user_features=("age",),
    )  # fmt: skip
    publish_manifest(uri, manifest, replace=False)
    return uri


def _records(plan: Plan, users: NDArray[np.int64], random: np.random.Generator, day: int) -> pa.RecordBatch:
    columns: dict[str, pa.Array] = {
        "user_id": pa.array(users),
        f"{USER_FEATURE_PREFIX}age": pa.array(random.choice([*AGES, 99], len(users)), mask=users % 11 == 0),
    }
    home = random.integers(0, plan.num_clusters, len(users))
    unknown = plan.ad_ids(plan.num_ads + 1 + np.arange(5))
    for side, names, lengths in (
        ("positive", POSITIVE_FEATURES, random.integers(1, _MOST_POSITIVES + 1, len(users))),
        ("negative", NEGATIVE_FEATURES, np.full(len(users), _NUM_NEGATIVES)),
    ):
        total = int(lengths.sum())
        of_user = np.repeat(np.arange(len(users)), lengths)
        row = home[of_user] + plan.num_clusters * random.integers(
            0, max(1, plan.num_ads // plan.num_clusters), total
        )
        row = np.where(row > 0, np.minimum(row, plan.num_ads), 1)
        is_unknown = (random.random(total) < 0.02) | (users[of_user] % 40 == 0)
        time = START_MS + day * DAY_MS + random.integers(0, DAY_MS, total)
        values = {
            "ad_id": np.where(is_unknown, random.choice(unknown, total), plan.ad_ids(row)),
            "kind": np.full(total, CLICK)
            if side == "positive"
            else random.choice([SERVED_CODE] * 3 + [HIDE], total),
            "served_at_ms": time[np.lexsort((time, of_user))],
            "request_hash": random.integers(1, 2**62, total),
            "position": random.integers(0, 20, total),
            "dwell_ms": np.full(total, 800),
            "weight": (0.1 + 0.9 * random.random(total)).astype(np.float32),
        }
        offsets = pa.array(np.append(0, np.cumsum(lengths)).astype(np.int32))
        for name in names:
            columns[name] = pa.ListArray.from_arrays(offsets, pa.array(values[name.removeprefix(f"{side}_")]))
    schema = record_schema(("age",))
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
