"""A day on S3: a real server (moto) on loopback, reached by pyarrow and s3fs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from tests.object_store import object_store
from tests.shards.conftest import PublishDay

from scrollpast.errors import CorruptShardError, UserError
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import is_published, publish_manifest, read_manifest, sweep_orphans
from scrollpast.shards.reader import ShardReader
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.shards.vocabulary_of_days import name_vocabulary, resolve_vocabulary


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URI of an empty bucket; the environment leads to the server while the tests of this file run."""
    with object_store() as uri:
        yield uri


def users(day: str) -> list[int]:
    return [user for batch in ShardReader([day]) for user in batch.column("user_id").to_pylist()]


def test_a_day_is_written_published_and_read(bucket: str, publish_day: PublishDay) -> None:
    day = f"{bucket}/shards/ds=2026-11-21"
    assert not is_published(day)
    with pytest.raises(UserError, match="found no such file"):
        read_manifest(day)
    manifest = publish_day(day)
    assert is_published(day)
    assert read_manifest(f"{day}/") == manifest
    assert users(day) == [0, 1, 2, 3, 4, 1000, 1001, 1002]


def test_a_vocabulary_beside_a_day_is_named_by_it_and_found(bucket: str, publish_day: PublishDay) -> None:
    day = f"{bucket}/words/ds=2026-11-21"
    manifest = publish_day(day, ads=None)
    uri = Vocabulary(np.arange(3), np.zeros(3), {}, {}, num_user_rows=10).write(f"{bucket}/words")
    assert name_vocabulary(day, manifest, uri) and not name_vocabulary(day, manifest, uri)
    assert read_manifest(day).ads == f"../vocabulary/{uri.rpartition('/')[2]}"
    assert resolve_vocabulary([f"{day}/manifest.json"], None)[0].ad_ids.tolist() == [0, 1, 2]


def test_a_published_day_is_replaced_only_when_asked(bucket: str, publish_day: PublishDay) -> None:
    day = f"{bucket}/shards/ds=2026-11-22"
    manifest = publish_day(day)
    with pytest.raises(UserError, match="published meanwhile"):
        publish_manifest(day, manifest, replace=False)
    publish_manifest(day, manifest, replace=True)


def test_a_publisher_that_looked_too_early_loses(
    bucket: str, publish_day: PublishDay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The put itself is conditional: the look before it is not what protects the day."""
    day = f"{bucket}/shards/ds=2026-11-23"
    manifest = publish_day(day)
    monkeypatch.setattr(files, "exists", lambda *_: False)
    with pytest.raises(UserError, match="published meanwhile"):
        publish_manifest(day, manifest, replace=False)


def test_orphans_are_swept(bucket: str, publish_day: PublishDay) -> None:
    day = f"{bucket}/shards/ds=2026-11-24"
    manifest = publish_day(day)
    filesystem, folder = files.resolve(day)
    for name in ("bucket=00000/part-0000000000000000.tfrecord", "README"):
        files.write_atomically(filesystem, f"{folder}/{name}", b"x")
    assert sweep_orphans(day, manifest, older_than_s=3600) == []
    time.sleep(1.1)  # S3 tells whole seconds
    assert sweep_orphans(day, manifest, older_than_s=0) == ["bucket=00000/part-0000000000000000.tfrecord"]
    assert users(day) == [0, 1, 2, 3, 4, 1000, 1001, 1002]
    assert files.exists(filesystem, f"{folder}/README")


def test_a_missing_shard_is_one_clear_error(bucket: str, publish_day: PublishDay) -> None:
    day = f"{bucket}/shards/ds=2026-11-25"
    manifest = publish_day(day)
    filesystem, folder = files.resolve(day)
    files.delete_file(filesystem, f"{folder}/{manifest.shards[0].path}")
    with pytest.raises(
        CorruptShardError, match=r"^s3://ads/shards/ds=2026-11-25/bucket=00000/.* no such file"
    ):
        users(day)
