"""Revoke published negatives that a later engagement contradicts.

A served negative means that a user saw an ad and did not want it. A later engagement of the user with the ad, or an
earlier engagement that arrives late, contradicts it. Shards stay unchanged: revocations are written beside the day, and
every reader leaves the revoked negatives out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scrollpast.config import SERVED_CODE, Config
from scrollpast.errors import UserError
from scrollpast.mining.io.contracts import ENGAGED_AT, ENGAGEMENTS
from scrollpast.mining.io.sources import open_source, run
from scrollpast.mining.publication import iso
from scrollpast.mining.rules.rules import HOUR_US, Rules, Window, epoch_us
from scrollpast.mining.scan import scan_engagements
from scrollpast.mining.spark.map_in_arrow import (
    SHUFFLE_MESSAGE,
    TimeRange,
    by_bucket,
    collect_table,
    map_batches,
)
from scrollpast.mining.spark.packed_columns import concatenate, unpack
from scrollpast.mining.spark.progress import progress
from scrollpast.privacy.user_keys import check_user_key, read_user_key
from scrollpast.record_schema import NEGATIVE_FEATURES, USER_ID
from scrollpast.shards.manifest import Manifest, day_folder, publish_manifest, read_manifest
from scrollpast.shards.reader import PublishedShard, decode_shard, published_shards, read_shard_content
from scrollpast.shards.revocations import (
    AD_ID,
    BUCKET,
    ENGAGED_AT_MS,
    REASON,
    SERVED_AT_MS,
    read_revocations,
    write_revocations,
)
from scrollpast.shards.revocations import SCHEMA as REVOKED

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_FOUND = "day int, user_id long, ad_id long, served_at_ms long, bucket int, kind int, engaged_at_ms long"
_FEATURES = ("negative_ad_id", "negative_served_at_ms", "negative_kind")


@dataclass(frozen=True)
class RevokedDay:
    """Result for one day."""

    uri: str
    num_negatives: int
    """Negatives in the day's shards."""
    num_revoked: int
    """Revoked negatives of the day, by this and earlier runs."""
    num_new: int
    """Negatives revoked by this run."""
    reasons: dict[str, int]
    """All revoked negatives by the kind of engagement."""
    as_of: str
    """The latest moment up to which engagements were searched, by this run or an earlier one."""


def revoke_negatives(
    config: Config, day_uris: Sequence[str], as_of: datetime, get_spark: Callable[[], SparkSession]
) -> list[RevokedDay]:
    """Find engagements that contradict negatives of published days, and write the revocations beside each day.

    An engagement of a positive kind revokes a negative of the same user and ad that was served up to
    ``mining.guard.before_h`` after it or ``revocation.after_h`` before it. Engagements known when the day was mined
    were excluded then, so that every engagement found here came later. Earlier revocations stay.

    Raises:
        UserError: a day is not published, days differ in their number of buckets, or the engagements cannot be read.
        CorruptShardError: a shard or a file of revocations is corrupt.
    """
    days = [read_manifest(uri) for uri in day_uris]
    rules = _rules(config, days, as_of)
    source = open_source(
        config.input.engagements,
        ENGAGEMENTS,
        get_spark,
        rows=TimeRange(ENGAGED_AT, rules.engagements_from_us, rules.engagements_to_us),
        rows_per_task=config.spark.rows_per_task,
        num_tasks=config.spark.num_partitions,
        null_ids=config.input.null_ids,
    )
    shards = {
        (shard.entry.bucket, number): shard
        for number, (uri, day) in enumerate(zip(day_uris, days, strict=True))
        for shard in published_shards(uri, day)
    }
    spark = get_spark()
    shared_shards = spark.sparkContext.broadcast(shards)

    def scan(_: int, batches: Iterator[pa.RecordBatch]) -> Iterable[tuple[Any, ...]]:
        return ((p.bucket, p.content, p.payload) for p in scan_engagements(batches, rules) if p.bucket >= 0)

    def find(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = (
            (bucket, payload)
            for batch in batches
            for bucket, payload in zip(batch["bucket"].to_pylist(), batch["payload"].to_pylist(), strict=True)
        )
        for bucket, messages in groupby(rows, key=lambda row: row[0]):
            engaged = _positive(concatenate([unpack(payload)[0] for _, payload in messages]), rules)
            for number in range(len(days)):
                shard = shared_shards.value.get((bucket, number))
                if shard is not None:
                    yield _contradicted(engaged, shard, number, rules)

    with progress(spark, "compare negatives with engagements", source.num_rows):
        scanned = run(source, spark, scan, SHUFFLE_MESSAGE)
        messages = by_bucket(scanned, rules.num_buckets, config.spark.num_partitions)
        found = collect_table(map_batches(messages, find, _FOUND))
    shared_shards.unpersist()
    return [
        _publish(uri, day, found.filter(pc.equal(found["day"], number)), rules)
        for number, (uri, day) in enumerate(zip(day_uris, days, strict=True))
    ]


def _rules(config: Config, days: Sequence[Manifest], as_of: datetime) -> Rules:
    """Rules of mining over all the days, with engagements read as far as they can revoke."""
    buckets = {day.num_buckets for day in days}
    if len(buckets) > 1:
        raise UserError(
            f"days {', '.join(day.ds for day in days)}",
            expected="days with the same number of buckets",
            found=", ".join(f"{count:,}" for count in sorted(buckets)),
            remedy="run the job once for the days of each number of buckets",
        )
    starts, ends = (
        [epoch_us(datetime.fromisoformat(getattr(day, name))) for day in days]
        for name in ("window_start", "window_end")
    )
    window = Window(min(starts), max(ends), epoch_us(as_of))
    mining = config.mining.model_copy(update={"num_buckets": buckets.pop()})
    user_key = read_user_key(config.privacy)
    for day in days:
        check_user_key(user_key, day.user_key, f"day {day.ds}")
    return replace(
        Rules.of(mining, window, user_key=user_key), guard_after_us=round(config.revocation.after_h * HOUR_US)
    )


def _positive(engaged: dict[str, Any], rules: Rules) -> pa.Table:
    """The engagements of positive kinds: user_id, ad_id, kind (its row in the table of kinds), engaged_us."""
    is_positive = rules.kinds.is_positive[engaged["kind"]]
    names = {"user": USER_ID, "ad": AD_ID, "kind": "kind", "engaged_us": "engaged_us"}
    return pa.table({name: engaged[own][is_positive] for own, name in names.items()})


def _contradicted(engaged: pa.Table, shard: PublishedShard, number: int, rules: Rules) -> pa.RecordBatch:
    """Negatives of a shard that an engagement contradicts, with the earliest contradicting engagement."""
    content, frames = read_shard_content(shard)
    fields = [pa.field(USER_ID, pa.int64()), *(pa.field(name, NEGATIVE_FEATURES[name]) for name in _FEATURES)]
    # The reader leaves out earlier revocations; they are not searched again.
    batch = decode_shard(shard, content, frames, pa.schema(fields))
    lengths = pc.list_value_length(batch[_FEATURES[0]]).to_numpy()
    lists = pa.table({name.removeprefix("negative_"): batch[name].flatten() for name in _FEATURES})
    negatives = lists.append_column(USER_ID, pa.array(batch[USER_ID].to_numpy().repeat(lengths)))
    # A hide is kept whatever else the user did, as in mining.
    negatives = negatives.filter(pc.equal(negatives["kind"], SERVED_CODE)).select(
        [USER_ID, AD_ID, SERVED_AT_MS]
    )
    both = negatives.join(engaged, keys=[USER_ID, AD_ID], join_type="inner")
    after = pc.subtract(both["engaged_us"], pc.multiply(both[SERVED_AT_MS], 1000))
    is_near = pc.and_(
        pc.greater_equal(after, -rules.guard_before_us), pc.less_equal(after, rules.guard_after_us)
    )
    near = both.filter(is_near).sort_by([("engaged_us", "ascending"), ("kind", "descending")])
    keys = [USER_ID, AD_ID, SERVED_AT_MS]
    first = near.group_by(keys, use_threads=False).aggregate([("kind", "first"), ("engaged_us", "first")])
    size = first.num_rows
    return pa.RecordBatch.from_pydict(
        {
            "day": pa.array(np.full(size, number, np.int32)),
            **{name: first[name].combine_chunks() for name in keys},
            BUCKET: pa.array(np.full(size, shard.entry.bucket, np.int32)),
            "kind": first["kind_first"].combine_chunks().cast(pa.int32()),
            ENGAGED_AT_MS: pa.array(first["engaged_us_first"].to_numpy() // 1000),
        }
    )


def _publish(uri: str, day: Manifest, found: pa.Table, rules: Rules) -> RevokedDay:
    """Add the found revocations to the earlier ones and record the time of the search in the manifest.

    A search without a new revocation writes no file: readers return the same records.
    """
    folder = day_folder(uri)
    before = read_revocations(folder, day.revocation_file)
    reasons = pa.array(rules.kinds.names).take(found["kind"].combine_chunks())
    new = found.append_column(REASON, reasons).select(REVOKED.names).cast(REVOKED)
    together = pa.concat_tables([before, new])
    searched = replace(day, revocations_as_of=_later(day.revocations_as_of, iso(rules.window.as_of_us)))
    if new.num_rows:
        path = write_revocations(together, folder)
        searched = replace(searched, revocation_file=path, num_revoked=together.num_rows)
    if searched != day:
        publish_manifest(folder, searched, replacing=day)
    counted = together.group_by(REASON).aggregate([(REASON, "count")]).to_pylist()
    return RevokedDay(
        uri=folder,
        num_negatives=day.num_negatives,
        num_revoked=together.num_rows,
        num_new=new.num_rows,
        reasons={row[REASON]: row[f"{REASON}_count"] for row in sorted(counted, key=lambda row: row[REASON])},
        as_of=str(searched.revocations_as_of),
    )


def _later(before: str | None, now: str) -> str:
    """The later one of two ISO 8601 times."""
    return now if before is None else max(before, now, key=datetime.fromisoformat)
