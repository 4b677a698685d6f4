"""Days with neighbours on Spark: the laws over whole days, what is published, and what a second run does."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from scripts.bench.synthetic_days import plant_day, plant_towers

from scrollpast.config import load_config
from scrollpast.errors import ScrollpastError, UserError
from scrollpast.hashing import bucket_of, seeded_hash, xxhash64
from scrollpast.mining.neighbours.days import DayWithNeighbours, mine_days
from scrollpast.mining.neighbours.outcomes import CandidateOutcome
from scrollpast.mining.neighbours.publication import check_ledger
from scrollpast.mining.neighbours.retriever import Retriever
from scrollpast.record_schema import record_schema
from scrollpast.shards.manifest import publish_manifest, read_manifest, write_shard
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.shards.vocabulary_of_days import name_vocabulary, resolve_vocabulary
from scrollpast.training.serving.export_files import read_export
from tests.mining.neighbours.planted_world import (
    OPTIONS,
    PLAN,
    World,
    engaged_by_user,
    neighbours_of,
    records_of,
)

SETTINGS = [f"neighbours.{name}={value}" for name, value in OPTIONS.model_dump().items()]


def open_on_worker(export: str) -> Retriever:
    from tests.mining.neighbours.planted_world import opened

    return opened(export)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.plant(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two days of the same users, in 4 and in 6 buckets."""
    root = tmp_path_factory.mktemp("served")
    return [
        plant_day(PLAN, root, ds=ds, num_buckets=count)
        for ds, count in (("2026-11-20", 4), ("2026-11-21", 6))
    ]


def mine(
    spark: SparkSession,
    world: World,
    days: Sequence[str],
    out: Path,
    *settings: str,
    export: str | None = None,
    **options: Any,
) -> list[DayWithNeighbours]:
    towers = read_export(export or world.export)
    config = load_config(None, [*SETTINGS, *settings])
    return mine_days(config, days, str(out), towers, open_on_worker, lambda: spark, **options)


def no_spark() -> SparkSession:
    raise AssertionError("Spark was started to do nothing")


def content_of(day: str) -> dict[str, bytes]:
    folder = Path(day)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def mined(
    spark: SparkSession, world: World, days: list[str], tmp_path_factory: pytest.TempPathFactory
) -> list[DayWithNeighbours]:
    return mine(spark, world, days, tmp_path_factory.mktemp("out"))


# Laws


def test_every_record_has_the_neighbours_that_a_plain_loop_gives(
    world: World, days: list[str], mined: list[DayWithNeighbours]
) -> None:
    engaged = engaged_by_user(days)
    for day in mined:
        records = records_of([day.uri])
        found = sum(world.check(row, engaged[row["user_id"]], OPTIONS) for row in records)
        assert found == day.manifest.ledger["kept"] > 300


def test_days_that_an_index_is_searched_for_have_the_same_bytes_alone_and_together(
    spark: SparkSession, world: World, days: list[str], tmp_path: Path
) -> None:
    through_index, export = "neighbours.exact_up_to=0", str(tmp_path / "export")
    plant_towers(PLAN, tmp_path / "export", "ivf_flat")
    together = mine(spark, world, days, tmp_path / "together", through_index, export=export)
    for number, day in enumerate(days):
        out = tmp_path / f"alone{number}"
        (alone,) = mine(spark, world, [day], out, through_index, export=export, engaged_in=days)
        assert alone.manifest.shards == together[number].manifest.shards
        search = alone.manifest.input["search"]
        assert search == together[number].manifest.input["search"]
        assert search["num_users"] > 0
        assert search["coverage"] >= 0.95


def test_what_was_engaged_with_on_another_day_is_no_neighbour(
    spark: SparkSession, world: World, days: list[str], mined: list[DayWithNeighbours], tmp_path: Path
) -> None:
    (alone,) = mine(spark, world, days[:1], tmp_path / "alone")
    engaged = engaged_by_user(days[1:])
    later = [set(neighbours_of(row)) & engaged[row["user_id"]] for row in records_of([alone.uri])]
    assert any(later), "some neighbour of the first day is engaged with on the second"
    (ruled_out,) = mine(spark, world, days[:1], tmp_path / "ruled_out", engaged_in=days)
    assert records_of([ruled_out.uri]) == records_of([mined[0].uri])
    assert ruled_out.manifest.ledger == mined[0].manifest.ledger


def test_all_else_in_the_records_stays(days: list[str], mined: list[DayWithNeighbours]) -> None:
    for served, day in zip(days, mined, strict=True):
        for old, new in zip(records_of([served]), records_of([day.uri]), strict=True):
            count = len(neighbours_of(new))
            for name, value in old.items():
                assert (new[name][count:] if name.startswith("negative_") else new[name]) == value


def test_the_ledger_adds_up_and_says_of_every_rank_what_became_of_it(mined: list[DayWithNeighbours]) -> None:
    for day in mined:
        manifest = day.manifest
        records = manifest.input["records"]
        num_ranks = OPTIONS.last_rank - OPTIONS.first_rank + 1
        assert sum(manifest.ledger.values()) == records["num_asked"] * num_ranks
        assert sum(records.values()) == manifest.num_records == PLAN.num_users
        assert records["num_unplaced"] > 0
        (name,) = manifest.ledger_files
        table = pq.read_table(Path(day.uri) / name)
        assert set(table["rank"].to_pylist()) == set(range(OPTIONS.first_rank, OPTIONS.last_rank + 1))
        totals = table.group_by("outcome").aggregate([("count", "sum")]).to_pylist()
        assert {row["outcome"]: row["count_sum"] for row in totals} == manifest.ledger
        kept = sum(len(neighbours_of(row)) for row in records_of([day.uri]))
        assert kept == manifest.ledger["kept"]


def test_the_same_bytes_come_out_in_any_order_and_of_any_place(
    spark: SparkSession, world: World, days: list[str], mined: list[DayWithNeighbours], tmp_path: Path
) -> None:
    moved = [shutil.copytree(day, tmp_path / "moved" / Path(day).name) for day in days]
    again = mine(spark, world, [str(day) for day in moved[::-1]], tmp_path / "out")
    for first, second in zip(mined, again[::-1], strict=True):
        assert first.manifest.shards == second.manifest.shards
        assert first.manifest.ledger_files == second.manifest.ledger_files


def test_users_have_the_same_neighbours_in_any_number_of_buckets(
    spark: SparkSession, world: World, tmp_path: Path
) -> None:
    found = []
    for count in (1, 5):
        day = plant_day(PLAN, tmp_path / f"in-{count}", num_buckets=1)
        if count > 1:
            day = rebucketed(day, tmp_path / "rebucketed", count)
        (mined,) = mine(spark, world, [day], tmp_path / f"out-{count}")
        assert len(mined.manifest.shards) == count
        found.append({row["user_id"]: neighbours_of(row) for row in records_of([mined.uri])})
    assert found[0] == found[1]


def rebucketed(day: str, root: Path, num_buckets: int) -> str:
    """The same records in other shards."""
    rows = records_of([day])
    buckets = bucket_of(xxhash64(np.array([row["user_id"] for row in rows])), num_buckets)
    uri, schema = str(root / Path(day).name), record_schema(("age",))
    entries = []
    for bucket in range(num_buckets):
        own = [row for row, found in zip(rows, buckets, strict=True) if found == bucket]
        entries.append(write_shard(uri, bucket, pa.RecordBatch.from_pylist(own, schema=schema)))
    manifest = replace(read_manifest(day), num_buckets=num_buckets, shards=tuple(entries))
    publish_manifest(uri, manifest, replace=False)
    return uri


# Samples


def test_a_sample_asks_for_the_users_with_the_smallest_hashes_and_leaves_others_as_they_are(
    spark: SparkSession, world: World, days: list[str], mined: list[DayWithNeighbours], tmp_path: Path
) -> None:
    sampled = mine(spark, world, days, tmp_path, sample=40)
    users = np.arange(1, PLAN.num_users + 1)
    chosen = set(users[np.argsort(seeded_hash(OPTIONS.seed, users))[:40]].tolist())
    for all_users, some in zip(mined, sampled, strict=True):
        for whole, found in zip(records_of([all_users.uri]), records_of([some.uri]), strict=True):
            assert neighbours_of(found) == (neighbours_of(whole) if found["user_id"] in chosen else [])
        assert some.manifest.input["records"]["num_left_out"] == PLAN.num_users - 40


def test_a_sample_of_more_users_than_there_are_is_all_of_them(
    spark: SparkSession, world: World, days: list[str], mined: list[DayWithNeighbours], tmp_path: Path
) -> None:
    sampled = mine(spark, world, days, tmp_path, sample=10**6)
    assert [day.manifest.shards for day in sampled] == [day.manifest.shards for day in mined]


# Publication


def test_the_manifest_is_the_served_days_but_for_what_this_job_did(
    world: World, days: list[str], mined: list[DayWithNeighbours]
) -> None:
    for uri, other, day in zip(days, days[::-1], mined, strict=True):
        served, found = read_manifest(uri), read_manifest(day.uri)
        assert found == day.manifest
        kept = ("ds", "window_start", "window_end", "as_of", "num_buckets", "num_records", "num_positives",
                "kinds", "user_features")  # fmt: skip
        assert [getattr(found, name) for name in kept] == [getattr(served, name) for name in kept]
        assert found.num_negatives == served.num_negatives + found.ledger["kept"]
        assert found.config["neighbours"] == OPTIONS.model_dump()
        assert found.input["served_day"]["place"] == uri
        assert [place["place"] for place in found.input["engaged_in"]] == [other]
        assert found.input["towers"]["fingerprint"] == read_export(world.export).fingerprint
        assert found.quarantine_files == ()


def test_the_vocabulary_of_the_served_day_is_that_of_the_day_with_neighbours(
    spark: SparkSession, world: World, tmp_path: Path
) -> None:
    day = plant_day(PLAN, tmp_path / "served")
    row = np.arange(PLAN.num_ads + 1)
    # Row 0 means nothing: it has no id and no count.
    ids, counts = np.where(row > 0, PLAN.ad_ids(row), 0), (row > 0).astype(np.int64)
    words = Vocabulary(ids, counts, {}, {"user_age": ("20",)}, num_user_rows=10)
    name_vocabulary(day, read_manifest(day), words.write(str(tmp_path / "served")))
    (mined,) = mine(spark, world, [day], tmp_path / "out")
    assert resolve_vocabulary([mined.uri], None)[0].version == words.version


def test_neighbours_of_an_older_model_are_replaced(
    spark: SparkSession, world: World, days: list[str], mined: list[DayWithNeighbours], tmp_path: Path
) -> None:
    again = mine(spark, world, [day.uri for day in mined], tmp_path)
    assert [day.manifest.shards for day in again] == [day.manifest.shards for day in mined]
    assert [day.manifest.num_negatives for day in again] == [day.manifest.num_negatives for day in mined]


# A second run


def test_the_same_again_does_nothing(
    world: World, days: list[str], mined: list[DayWithNeighbours], tmp_path: Path
) -> None:
    out = str(Path(mined[0].uri).parent)
    before = [content_of(day.uri) for day in mined]
    towers, config = read_export(world.export), load_config(None, SETTINGS)
    again = mine_days(config, days, out, towers, open_on_worker, no_spark)
    assert [(day.uri, day.is_new) for day in again] == [(day.uri, False) for day in mined]
    assert [content_of(day.uri) for day in mined] == before


@pytest.mark.parametrize(
    ("settings", "options", "change"),
    [
        (["neighbours.seed=3"], {}, "the options of neighbours"),
        (["neighbours.relative_margin=0.1"], {"sample": 3}, "the options of neighbours, --sample"),
        ([], {"is_alone": True}, "the other days whose engagements are excluded"),
        ([], {"is_reexported": True}, "the export"),
        ([], {"is_mined_anew": True}, "the day's shards"),
    ],
)
def test_a_change_without_overwrite_is_refused_and_named(
    world: World,
    days: list[str],
    mined: list[DayWithNeighbours],
    tmp_path: Path,
    settings: list[str],
    options: dict[str, Any],
    change: str,
) -> None:
    given = list(days)
    if options.pop("is_alone", False):
        given = days[:1]
    if options.pop("is_mined_anew", False):
        given = [plant_day(PLAN, tmp_path, num_buckets=7), days[1]]
    export = world.export
    if options.pop("is_reexported", False):
        export = str(shutil.copytree(world.export, tmp_path / "export"))
        about = (Path(export) / "export.json").read_text()
        (Path(export) / "export.json").write_text(about.replace("seed 0", "seed 1"))
    before = content_of(mined[0].uri)
    config = load_config(None, [*SETTINGS, *settings])
    out = str(Path(mined[0].uri).parent)
    with pytest.raises(UserError) as caught:
        mine_days(config, given, out, read_export(export), open_on_worker, no_spark, **options)
    assert str(caught.value) == (
        f"{mined[0].uri}: expected an unpublished day, or the same input and options as before, "
        f"found a published day, and a change of {change}; pass --overwrite to replace the day, or choose another --out"
    )
    assert content_of(mined[0].uri) == before


def test_overwrite_replaces_a_day_and_sweeps_what_nobody_names(
    spark: SparkSession, world: World, days: list[str], tmp_path: Path
) -> None:
    (first,) = mine(spark, world, days[:1], tmp_path)
    old = set(content_of(first.uri))
    for path in old:
        os.utime(Path(first.uri) / path, (time.time() - 7200,) * 2)
    changes = ("neighbours.negatives_per_user=2", "output.orphan_grace_h=1")
    (second,) = mine(spark, world, days[:1], tmp_path, *changes, overwrite=True)
    assert second.is_new
    assert second.manifest.ledger["kept"] < first.manifest.ledger["kept"]
    assert set(content_of(first.uri)) & old == {"manifest.json"}


def test_a_run_that_failed_goes_on_with_the_days_that_it_did_not_publish(
    spark: SparkSession, world: World, days: list[str], tmp_path: Path
) -> None:
    copies = [str(shutil.copytree(day, tmp_path / "served" / Path(day).name)) for day in days]
    shard = next(Path(copies[1]).glob("bucket=00003/*.tfrecord"))
    content = shard.read_bytes()
    # The tasks of the first day look at the shards of the second as well: it is broken between the two.
    (first,) = mine(spark, world, copies[:1], tmp_path / "out", engaged_in=copies[1:])
    shard.write_bytes(content[:-3])
    with pytest.raises(Exception, match="mine ds=2026-11-21 again"):
        mine(spark, world, copies, tmp_path / "out")
    assert not (tmp_path / "out" / Path(days[1]).name / "manifest.json").exists()
    shard.write_bytes(content)
    done = mine(spark, world, copies, tmp_path / "out")
    assert [(day.uri, day.is_new) for day in done] == [(first.uri, False), (done[1].uri, True)]


# Mistakes, told before Spark starts


def refused(world: World, days: Sequence[str], out: Path, *settings: str) -> str:
    config, towers = load_config(None, [*SETTINGS, *settings]), read_export(world.export)
    with pytest.raises(UserError) as caught:
        mine_days(config, days, str(out), towers, open_on_worker, no_spark)
    return str(caught.value)


def test_the_folder_of_the_served_day_is_no_place_for_it(world: World, days: list[str]) -> None:
    root = Path(days[0]).parent
    assert f"expected a folder other than the day's own, found the folder of {days[0]}" in refused(
        world, days[:1], root
    )


def test_two_days_of_one_date_are_told(world: World, days: list[str], tmp_path: Path) -> None:
    twin = str(shutil.copytree(days[0], tmp_path / "served" / Path(days[0]).name))
    assert refused(world, [days[0], twin], tmp_path / "out").startswith(
        f"{twin}: expected one day ds=2026-11-20"
    )


def test_ranks_beyond_the_catalogue_are_told(world: World, days: list[str], tmp_path: Path) -> None:
    text = refused(world, days, tmp_path, "neighbours.first_rank=401", "neighbours.last_rank=500")
    assert text.startswith(
        f"neighbours.first_rank: expected at most 400, the ads of {world.export}, found 401;"
    )


def test_a_day_without_a_feature_of_the_tower_is_told(world: World, days: list[str], tmp_path: Path) -> None:
    copy = str(shutil.copytree(days[0], tmp_path / Path(days[0]).name))
    publish_manifest(copy, replace(read_manifest(copy), user_features=()), replace=True)
    text = refused(world, [copy], tmp_path / "out")
    assert text.startswith(f"{copy}/manifest.json, user_features: expected age, which the user tower of")


def test_a_candidate_or_a_record_that_is_lost_stops_the_run(mined: list[DayWithNeighbours]) -> None:
    manifest = mined[0].manifest
    ledger = np.array([[manifest.ledger[outcome.label]] for outcome in CandidateOutcome])
    counts = {
        **manifest.input["records"],
        "num_candidates": int(ledger.sum()),
        "num_neighbours": manifest.ledger["kept"],
    }
    check_ledger(ledger, counts, manifest, manifest.shards)
    for name in ("num_candidates", "num_neighbours", "num_asked"):
        with pytest.raises(ScrollpastError, match="; this is a defect of the job"):
            check_ledger(ledger, {**counts, name: counts[name] - 1}, manifest, manifest.shards)
    with pytest.raises(ScrollpastError, match="records written"):
        check_ledger(ledger, counts, manifest, manifest.shards[1:])
