"""Neighbours for published days: inputs, tasks on Spark, and published days.

    served day ──┐ shard by shard: embed users ► search ► rules ► records ► shard, named by content
    export ──────┘                                                            ▼
                                                      ledger checked ► manifest.json published

A task reads a shard and writes a shard. Of the other days, a task holds only the engagements of the shard's users.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from scrollpast.config import Config
from scrollpast.mining.gate.held_days import grace_s
from scrollpast.mining.neighbours.coverage import Search, is_exact
from scrollpast.mining.neighbours.inputs import NeighbourDay, Towers, check_fit, read_days
from scrollpast.mining.neighbours.outcomes import CandidateOutcome
from scrollpast.mining.neighbours.publication import (
    check_ledger,
    describe,
    find_published,
    ledger_table,
    make_manifest,
)
from scrollpast.mining.neighbours.shard_tasks import (
    OpenRetriever,
    Work,
    chances_of_shard,
    measure_search,
    mine_shard,
)
from scrollpast.mining.publication import check_writable, write_table
from scrollpast.mining.spark.map_in_arrow import map_batches
from scrollpast.mining.spark.packed_columns import unpack
from scrollpast.mining.spark.progress import progress
from scrollpast.privacy.forgetting import obey, publish_obeying
from scrollpast.privacy.suppression import folder_of
from scrollpast.shards.manifest import (
    Manifest,
    ShardEntry,
    published_manifest,
    removed_on_failure,
    sweep_orphans,
)
from scrollpast.shards.reader import PublishedShard

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_DONE = "number long, message binary"


@dataclass(frozen=True)
class DayWithNeighbours:
    """Result of a run for one day. ``is_new`` is false where the day was published from the same input before."""

    uri: str
    manifest: Manifest
    is_new: bool


def mine_days(
    config: Config,
    day_uris: Sequence[str],
    out: str,
    towers: Towers,
    open_retriever: OpenRetriever,
    get_spark: Callable[[], SparkSession],
    *,
    engaged_in: Sequence[str] = (),
    sample: int | None = None,
    overwrite: bool = False,
) -> list[DayWithNeighbours]:
    """Publish every day with neighbours as ``ds=…`` below ``out``.

    A day that is published there from the same input is not written again. After a failed run the published days stay,
    and the same call continues with the remaining days.

    Args:
        day_uris: folders of published days, or their manifests.
        towers: the export; ``open_retriever`` opens it on the workers.
        engaged_in: further days whose engagements are excluded, beside the days that get neighbours.
        sample: users to be searched, chosen by a seeded hash; other records stay unchanged. None = all users.
        overwrite: replace days that are published.

    Raises:
        UserError: a day is not published, is published below ``out`` from another input, or does not fit the export.
        ScrollpastError: the job failed.
    """
    days = read_days(day_uris, out)
    others = read_days(engaged_in, None, but=days)
    check_fit(config.neighbours, days, towers)
    made_from = [
        describe(day, [other for other in (*days, *others) if other is not day], towers, sample)
        for day in days
    ]
    published = [
        None if overwrite else find_published(day.out_uri, config.neighbours, inputs)
        for day, inputs in zip(days, made_from, strict=True)
    ]
    replaced = {day.out_uri: published_manifest(day.out_uri) for day in days} if overwrite else {}
    to_do = [day for day, manifest in zip(days, published, strict=True) if manifest is None]
    for day in to_do:
        check_writable(day.out_uri)
    # Users on the suppression list of the source day are left out of the new day too.
    folders = [folder_of(day.uri) for day in days]
    all_days = tuple(day.shards for day in (*days, *others))
    work = Work(config.neighbours, towers.uri, towers.fingerprint, all_days)
    if to_do and sample is not None:
        work = replace(work, highest_chance=_highest_chance(get_spark(), days, work, sample))

    def done(day: NeighbourDay, inputs: dict[str, Any], manifest: Manifest | None) -> DayWithNeighbours:
        if manifest is not None:
            manifest = obey(day.out_uri, manifest, folders)
            return DayWithNeighbours(day.out_uri, manifest, is_new=False)
        # Chosen from this day alone, so that its bytes do not depend on the other days of the run.
        search = _choose_search(get_spark, config, day, work, open_retriever, towers.num_ads)
        with removed_on_failure(day.out_uri):
            manifest = _mine_day(
                get_spark(),
                config,
                day,
                {**inputs, "search": asdict(search)},
                replace(work, num_probes=search.num_probes),
                open_retriever,
                replaced.get(day.out_uri),
                folders,
            )
        return DayWithNeighbours(day.out_uri, manifest, is_new=True)

    return [done(*each) for each in zip(days, made_from, published, strict=True)]


def _mine_day(
    spark: SparkSession,
    config: Config,
    day: NeighbourDay,
    made_from: dict[str, Any],
    work: Work,
    open_retriever: OpenRetriever,
    replaced: Manifest | None,
    folders: Sequence[str],
) -> Manifest:
    shards, out_uri = day.shards, day.out_uri

    def mine(shard: PublishedShard) -> bytes:
        return mine_shard(shard, shards, out_uri, work, open_retriever)

    with progress(spark, f"neighbours of {day.manifest.ds}", day.manifest.num_records):
        messages = _on_shards(spark, shards.shards, mine)
    found = [unpack(message) for message in messages]
    num_ranks = config.neighbours.last_rank - config.neighbours.first_rank + 1
    ledger = np.zeros((len(CandidateOutcome), num_ranks), np.int64)
    counts: Counter[str] = Counter()
    for columns, metadata in found:
        ledger += columns["ledger"].reshape(ledger.shape)
        counts.update({name: count for name, count in metadata.items() if name != "entry"})
    entries = [ShardEntry(**metadata["entry"]) for _, metadata in found]
    check_ledger(ledger, counts, day.manifest, entries)
    manifest = make_manifest(
        day,
        options=config.neighbours,
        made_from=made_from,
        ledger=ledger,
        ledger_file=write_table(ledger_table(ledger, config.neighbours.first_rank), "ledger", out_uri),
        counts=counts,
        shards=entries,
    )
    manifest = publish_obeying(out_uri, manifest, replacing=replaced, folders=folders)
    sweep_orphans(out_uri, manifest, older_than_s=grace_s(config))
    return manifest


def _choose_search(
    get_spark: Callable[[], SparkSession],
    config: Config,
    day: NeighbourDay,
    work: Work,
    open_retriever: OpenRetriever,
    num_ads: int,
) -> Search:
    """Exact search in a small catalogue; else the search that users of the day's largest shard need."""
    if is_exact(config.neighbours, num_ads):
        return Search.exact()
    shards = day.shards
    if not shards.shards:
        return Search.exact()
    largest = max(shards.shards, key=lambda shard: (shard.entry.num_records, shard.entry.sha256))

    def measure(shard: PublishedShard) -> bytes:
        return measure_search(shard, shards, work, open_retriever)

    spark = get_spark()
    with progress(spark, "measure the search"):
        (message,) = _on_shards(spark, [largest], measure)
    return Search(**unpack(message)[1])


def _highest_chance(spark: SparkSession, days: Sequence[NeighbourDay], work: Work, sample: int) -> int:
    """Largest `user_chances` in the sample, which holds the users with a positive and the smallest chances."""
    seed = work.options.seed

    def look(shard: PublishedShard) -> bytes:
        return chances_of_shard(shard, seed, sample)

    shards = [shard for day in days for shard in day.shards.shards]
    with progress(spark, "choose users"):
        messages = _on_shards(spark, shards, look)
    chances = np.unique(np.concatenate([unpack(message)[0]["chances"] for message in messages]))[:sample]
    # Fewer users than the sample size: the largest possible chance includes all of them.
    return int(chances[-1]) if len(chances) == sample else int(np.iinfo(np.int64).max)


def _on_shards(
    spark: SparkSession, shards: Sequence[PublishedShard], function: Callable[[PublishedShard], bytes]
) -> list[bytes]:
    """Results of the function for every shard, in order; one task a shard, because a shard takes seconds to minutes."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch["id"].to_pylist():
                message = pa.array([function(shards[number])], pa.binary())
                yield pa.RecordBatch.from_arrays([pa.array([number]), message], names=["number", "message"])

    rows = map_batches(spark.range(0, len(shards), 1, max(1, len(shards))), run, _DONE).collect()
    return [message for _, message in sorted((row["number"], bytes(row["message"])) for row in rows)]
