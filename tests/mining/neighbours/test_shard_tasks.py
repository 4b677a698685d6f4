"""Tasks on a shard: the same bytes however it is cut, users found in days of other buckets, samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts.bench.synthetic_days import plant_day

from scrollpast.errors import CorruptShardError, ScrollpastError
from scrollpast.hashing import bucket_of, xxhash64
from scrollpast.mining.neighbours import shard_tasks
from scrollpast.mining.neighbours.shard_tasks import DayShards, Work, chances_of_shard, mine_shard
from scrollpast.mining.spark.packed_columns import unpack
from scrollpast.record_schema import record_schema
from scrollpast.shards.manifest import ShardEntry
from scrollpast.shards.reader import PublishedShard, ShardReader
from scrollpast.training.serving.export_files import read_export
from tests.mining.neighbours.planted_world import OPTIONS, PLAN, World, opened


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.plant(tmp_path_factory.mktemp("export"))


def shards_of(day: str) -> DayShards:
    reader = ShardReader([day])
    return DayShards(reader.days[0].num_buckets, reader.days[0].records, tuple(reader.shards))


def work_on(world: World, *days: DayShards, **changes: Any) -> Work:
    return Work(OPTIONS, world.export, read_export(world.export).fingerprint, days, **changes)


def mined(world: World, day: DayShards, out: Path, **changes: Any) -> list[dict[str, Any]]:
    """Results of the tasks for every shard of a day."""
    work = work_on(world, day, **changes)
    return [unpack(mine_shard(shard, day, str(out), work, opened))[1] for shard in day.shards]


def test_a_shard_is_the_same_whatever_is_searched_at_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = shards_of(plant_day(PLAN, tmp_path))
    whole = mined(world, day, tmp_path / "whole")
    for size in (1, 7):
        monkeypatch.setattr(shard_tasks, "USERS_AT_ONCE", size)
        assert mined(world, day, tmp_path / f"by-{size}") == whole
    contents = {
        path.read_bytes() for path in tmp_path.glob("*/bucket=*/*.tfrecord") if "ds=" not in str(path)
    }
    assert len(contents) == len(day.shards)


def test_a_shard_without_records_stays_one(world: World, tmp_path: Path) -> None:
    from scripts.bench.synthetic_days import Plan

    day = shards_of(plant_day(Plan(num_ads=400, num_users=1), tmp_path))
    found = mined(world, day, tmp_path / "out")
    assert sorted(words["entry"]["num_records"] for words in found) == [0, 0, 0, 1]


def test_a_shard_that_is_broken_is_named(world: World, tmp_path: Path) -> None:
    uri = plant_day(PLAN, tmp_path)
    path = next(Path(uri).glob("bucket=00002/*.tfrecord"))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CorruptShardError, match=rf"{path.name}.*mine ds=2026-11-20 again"):
        mined(world, shards_of(uri), tmp_path / "out")


def test_an_export_that_was_replaced_meanwhile_is_noticed(world: World, tmp_path: Path) -> None:
    day = shards_of(plant_day(PLAN, tmp_path))
    work = Work(OPTIONS, world.export, "another", (day,))
    with pytest.raises(ScrollpastError, match="expected the export that the run began with"):
        mine_shard(day.shards[0], day, str(tmp_path / "out"), work, opened)


@given(st.integers(1, 40), st.integers(1, 40), st.lists(st.integers(0, 2**40), min_size=1, max_size=50))
def test_a_users_shard_of_another_day_is_among_those_that_are_looked_at(
    own: int, other: int, users: list[int]
) -> None:
    entries = [ShardEntry(f"bucket={bucket}", bucket, 0, 0, "") for bucket in range(other)]
    day = DayShards(
        other, record_schema(), tuple(PublishedShard("day", "2026-11-21", entry) for entry in entries)
    )
    hashes = xxhash64(np.array(users))
    for here, there in zip(bucket_of(hashes, own), bucket_of(hashes, other), strict=True):
        looked_at = [shard.entry.bucket for shard in day.with_users_of(int(here), own)]
        assert there in looked_at
        assert own != other or len(looked_at) == 1


def test_the_chances_of_a_shard_are_its_smallest(tmp_path: Path) -> None:
    day = shards_of(plant_day(PLAN, tmp_path))
    everyone, some = (unpack(chances_of_shard(day.shards[0], 1, most))[0]["chances"] for most in (10**6, 5))
    assert len(everyone) == day.shards[0].entry.num_records
    assert (np.diff(everyone) > 0).all()
    assert some.tolist() == everyone[:5].tolist()
