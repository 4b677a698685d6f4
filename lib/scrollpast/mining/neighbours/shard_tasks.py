"""Tasks over one shard: write the shard with neighbours, or find the users of a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import gcd

import numpy as np
import pyarrow as pa

from scrollpast.config import Neighbours
from scrollpast.errors import ScrollpastError
from scrollpast.mining.neighbours.coverage import SAMPLE_USERS
from scrollpast.mining.neighbours.engaged import EngagedAds, engaged_schema, list_lengths
from scrollpast.mining.neighbours.query import NeighbourQuery, NeighbourResult
from scrollpast.mining.neighbours.records import with_neighbours
from scrollpast.mining.neighbours.retriever import Retriever
from scrollpast.mining.neighbours.selection import user_chances
from scrollpast.mining.spark.packed_columns import pack
from scrollpast.record_schema import USER_ID, record_schema
from scrollpast.shards.codec import decode_frames
from scrollpast.shards.manifest import write_shard
from scrollpast.shards.reader import PublishedShard, decode_shard, read_shard_content

USERS_AT_ONCE = 1024
"""Records in one search: enough for a fast matrix product, and small in memory compared with an index."""

OpenRetriever = Callable[[str], Retriever]
"""Function from the URI of an export to its retriever; runs on the workers."""


@dataclass(frozen=True)
class DayShards:
    """Shards of one published day."""

    num_buckets: int
    records: pa.Schema
    """Schema of the day's records."""
    shards: tuple[PublishedShard, ...]

    def with_users_of(self, bucket: int, num_buckets: int) -> list[PublishedShard]:
        """Shards that may hold users of a bucket of another day, which may have another number of buckets.

        A bucket is a hash modulo the number of buckets. Two buckets can share a user only where they are equal modulo
        the greatest common divisor of both numbers. With equal numbers, only the bucket itself qualifies.
        """
        step = gcd(num_buckets, self.num_buckets)
        return [shard for shard in self.shards if (shard.entry.bucket - bucket) % step == 0]


@dataclass(frozen=True)
class Work:
    """Common input of the tasks of a run."""

    options: Neighbours
    export_uri: str
    export_fingerprint: str
    engaged_days: tuple[DayShards, ...]
    """Days whose engagements are excluded, including the mined days."""
    num_probes: int | None = None
    """Lists of the index that a query probes; None = exact search over all ads."""
    highest_chance: int | None = None
    """Largest `user_chances` of a user in the sample; None = all users."""


def mine_shard(
    shard: PublishedShard, day: DayShards, out_uri: str, work: Work, open_retriever: OpenRetriever
) -> bytes:
    """Write a shard of ``day`` with neighbours into the day at ``out_uri``.

    Memory: the retriever, the shard with its neighbours, its users' engaged ads, and the memory of `NeighbourQuery`.

    Returns:
        A message: the ledger [outcomes · ranks], the entry of the new shard, and counts.

    Raises:
        CorruptShardError: a shard differs from its manifest entry.
        ScrollpastError: the export cannot be read, or was replaced meanwhile.
    """
    asking = _asking(work, open_retriever)
    content, frames = read_shard_content(shard)
    schema = day.records

    def engaged_in() -> Iterator[pa.RecordBatch]:
        yield own
        for other in work.engaged_days:
            for found in other.with_users_of(shard.entry.bucket, day.num_buckets):
                if found != shard:
                    yield decode_frames(
                        *read_shard_content(found),
                        engaged_schema(other.records),
                        found.uri,
                        remedy=found.remedy,
                    )

    own = decode_frames(content, frames, engaged_schema(schema), shard.uri, remedy=shard.remedy)
    engaged = EngagedAds.of(own.column(USER_ID).to_numpy(), engaged_in())
    parts: list[pa.RecordBatch] = []
    answers: list[NeighbourResult] = []
    num_left_out = 0
    # An empty shard is one empty batch.
    for first in range(0, max(1, len(frames)), USERS_AT_ONCE):
        stop = min(first + USERS_AT_ONCE, len(frames))
        batch = decode_shard(shard, content, frames, schema, first=first, stop=stop)
        is_wanted = np.ones(len(batch), np.bool_)
        if work.highest_chance is not None:
            chances = user_chances(work.options.seed, batch.column(USER_ID).to_numpy())
            is_wanted = chances <= work.highest_chance
        answer = asking.answer(batch, engaged.of_some(first, stop), is_wanted)
        num_left_out += int((~is_wanted).sum())
        answers.append(answer)
        parts.append(with_neighbours(batch, answer.lengths, answer.ads))
    records = pa.concat_batches(parts)
    return pack(
        {"ledger": np.sum([answer.ledger for answer in answers], axis=0).ravel()},
        entry=asdict(write_shard(out_uri, shard.entry.bucket, records)),
        num_asked=sum(answer.num_asked for answer in answers),
        num_unplaced=sum(answer.num_unplaced for answer in answers),
        num_left_out=num_left_out,
        num_candidates=sum(answer.num_candidates for answer in answers),
        num_without=sum(answer.num_without for answer in answers),
        num_negatives=int(list_lengths(records.column("negative_ad_id")).sum()),
        num_neighbours=sum(len(answer.ads) for answer in answers),
    )


def chances_of_shard(shard: PublishedShard, seed: int, most: int) -> bytes:
    """Message with the ``most`` smallest `user_chances` of users with a positive, ascending and distinct."""
    content, frames = read_shard_content(shard)
    fields = [record_schema().field(name) for name in (USER_ID, "positive_ad_id")]
    batch = decode_frames(content, frames, pa.schema(fields), shard.uri, remedy=shard.remedy)
    users = batch.column(USER_ID).to_numpy()[list_lengths(batch.column("positive_ad_id")) > 0]
    return pack({"chances": np.unique(user_chances(seed, users))[:most]})


def measure_search(shard: PublishedShard, day: DayShards, work: Work, open_retriever: OpenRetriever) -> bytes:
    """Message with the `Search` that users of a shard need."""
    content, frames = read_shard_content(shard)
    batch = decode_shard(shard, content, frames, day.records)
    return pack({}, **asdict(_asking(work, open_retriever).choose_search(batch, SAMPLE_USERS)))


_opened: dict[tuple[str, Neighbours, int | None], NeighbourQuery] = {}
"""Exports opened by this worker: an export is large, and the same for all tasks of a run."""


def _asking(work: Work, open_retriever: OpenRetriever) -> NeighbourQuery:
    key = (work.export_fingerprint, work.options, work.num_probes)
    if key not in _opened:
        _opened.clear()
        retriever = open_retriever(work.export_uri)
        if retriever.fingerprint != work.export_fingerprint:
            raise ScrollpastError(
                work.export_uri,
                expected="the export that the run began with",
                found="another version: the export was replaced meanwhile",
                remedy="run again",
            )
        _opened[key] = NeighbourQuery(retriever, work.options, work.num_probes)
    return _opened[key]
