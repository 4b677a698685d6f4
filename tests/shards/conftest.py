"""A published day of two shards, and what it takes to publish another."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from scrollpast.record_schema import NEGATIVE_FEATURES, POSITIVE_FEATURES, record_schema
from scrollpast.shards.manifest import Manifest, ShardEntry, publish_manifest, write_shard

ROOT = Path(__file__).resolve().parents[2]
PublishDay = Callable[..., Manifest]


def records(first_user: int, num_users: int, user_features: tuple[str, ...] = ("age",)) -> pa.RecordBatch:
    """Records of users with one positive and ``user % 3`` negatives each."""
    rows: list[dict[str, Any]] = []
    for user in range(first_user, first_user + num_users):
        row: dict[str, Any] = {"user_id": user}
        for features, count in ((POSITIVE_FEATURES, 1), (NEGATIVE_FEATURES, user % 3)):
            row |= {name: [user % 7 + index for index in range(count)] for name in features}
        row |= {f"user_{name}": 30 for name in user_features}
        rows.append(row)
    return pa.RecordBatch.from_pylist(rows, schema=record_schema(user_features))


def manifest_of(ds: str, shards: list[ShardEntry], **changes: Any) -> Manifest:
    num_records = sum(entry.num_records for entry in shards)
    fields: dict[str, Any] = {
        "ds": ds,
        "window_start": f"{ds}T00:00:00Z",
        "window_end": "2026-11-30T00:00:00Z",
        "as_of": "2026-12-01T00:00:00Z",
        "num_buckets": 8,
        "created_at": "2026-12-01T03:04:05Z",
        "config": {"mining": {"seed": 7}},
        "input": {"impressions": "logs/impressions", "engagements": "logs/engagements"},
        "ledger": {"negative": 9, "positive": 5},
        "num_records": num_records,
        "num_positives": num_records,
        "num_negatives": num_records,
        "kinds": {"click": 1, "save": 2},
        "shards": shards,
        "ads": "../ads.parquet",
        "user_features": ["age"],
    }
    return Manifest(**(fields | changes))


@pytest.fixture(scope="session")
def publish_day() -> PublishDay:
    """``publish_day(uri, ds, sizes)``: write shards of these many records, publish them, return the manifest."""

    def publish(
        uri: str, ds: str = "2026-11-21", sizes: tuple[int, ...] = (5, 3), **changes: Any
    ) -> Manifest:
        features = tuple(changes.get("user_features", ("age",)))
        shards = [
            write_shard(uri, bucket, records(bucket * 1000, size, features))
            for bucket, size in enumerate(sizes)
        ]
        manifest = manifest_of(ds, shards, **changes)
        publish_manifest(uri, manifest, replace=False)
        return manifest

    return publish


@pytest.fixture
def day(tmp_path: Path, publish_day: PublishDay) -> str:
    """The folder of a published day: 8 records in two shards."""
    uri = str(tmp_path / "ds=2026-11-21")
    publish_day(uri)
    return uri


@pytest.fixture(scope="session")
def in_new_process() -> Callable[[str], str]:
    """``in_new_process(code)``: what a fresh Python prints that runs the code with the library on its path."""

    def run(code: str, *, library: str = str(ROOT / "lib"), **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": library, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
