"""Stages of the mining job in Spark: read engagements and ads, decide, limit ads, seal shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.config import Config
from scrollpast.mining import bucket_tasks
from scrollpast.mining.exposure import Exposure, profile_of
from scrollpast.mining.io.contracts import CREATED_AT
from scrollpast.mining.io.engagement_kinds import check_engagements
from scrollpast.mining.io.source import Source
from scrollpast.mining.io.sources import run
from scrollpast.mining.rules.ad_cap import AdLimits
from scrollpast.mining.rules.attributes import AdAttributes
from scrollpast.mining.rules.rules import Rules
from scrollpast.mining.rules.user_filter import UserBloomFilter
from scrollpast.mining.scan import scan_ads, scan_engagements, scan_impressions
from scrollpast.mining.spark.map_in_arrow import (
    SHUFFLE_MESSAGE,
    arrow_schema,
    as_batches,
    by_bucket,
    map_batches,
)
from scrollpast.mining.spark.packed_columns import Columns, pack, unpack
from scrollpast.mining.spark.progress import progress
from scrollpast.mining.users import scan_users

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_MESSAGE_SCHEMA = arrow_schema(SHUFFLE_MESSAGE)
_BIN = "ad long, bin long, count long"


class Stages:
    """Stages of one run on a Spark session. The stages share rules and broadcasts, and write into the day's folder.

    Args:
        stack: releases cached frames and broadcasts at the end of the run.
    """

    def __init__(
        self, spark: SparkSession, config: Config, rules: Rules, day_uri: str, stack: ExitStack
    ) -> None:
        self._spark, self._config, self._rules = spark, config, rules
        self._day_uri, self._stack = day_uri, stack
        self.warnings: list[str] = []
        """Notes for the user, in the order of the stages"""

    def read_engagements(self, source: Source) -> tuple[DataFrame, Counter[str], UserBloomFilter | None]:
        """Pack the engagements by bucket, and find the users who may have an anchor."""
        rules = self._rules

        def scan(_: int, batches: Iterator[pa.RecordBatch]) -> Iterable[tuple[Any, ...]]:
            return ((p.bucket, p.content, p.payload) for p in scan_engagements(batches, rules))

        messages = self._kept(run(source, self._spark, scan, SHUFFLE_MESSAGE))
        with progress(self._spark, "read engagements", source.num_rows):
            tallies = [unpack(p) for (p,) in messages.where("bucket < 0").select("payload").collect()]
        counts: Counter[str] = Counter()
        for _, metadata in tallies:
            counts.update(metadata["counts"])
        self.warnings += check_engagements(counts, source.place, rules, self._config.mining)
        anchored = (
            None
            if rules.keep_users_without_positive
            else UserBloomFilter.of(c["anchored"] for c, _ in tallies)
        )
        return messages.where("bucket >= 0"), counts, anchored

    def read_attributes(self, source: Source | None) -> AdAttributes:
        if source is None:
            return AdAttributes.empty()
        is_aged = CREATED_AT in source.schema.names
        names = tuple(dict.fromkeys((*self._rules.ad_attributes, *((CREATED_AT,) if is_aged else ()))))

        def scan(_: int, batches: Iterator[pa.RecordBatch]) -> Iterable[tuple[Any, ...]]:
            return ((0, "ads", pack(columns)) for columns in scan_ads(batches, names))

        with progress(self._spark, "read ads", source.num_rows):
            parts = run(source, self._spark, scan, SHUFFLE_MESSAGE).select("payload").collect()
        return AdAttributes.of([unpack(payload)[0] for (payload,) in parts], names)

    def decide(
        self,
        impressions: Source,
        engagements: DataFrame,
        users: Source | None,
        anchored: UserBloomFilter | None,
        attributes: AdAttributes,
    ) -> DataFrame:
        """Scan impressions and users, shuffle the messages by bucket, decide the rows of each bucket."""
        rules, uri = self._rules, self._day_uri
        shared_anchored = self._broadcast(anchored)
        shared_attributes = self._broadcast(attributes if rules.ad_attributes else AdAttributes.empty())

        def scan(task: int, batches: Iterator[pa.RecordBatch]) -> Iterable[tuple[Any, ...]]:
            messages = scan_impressions(batches, rules, shared_anchored.value, task)
            return ((p.bucket, p.content, p.payload) for p in messages)

        def scan_table(task: int, batches: Iterator[pa.RecordBatch]) -> Iterable[tuple[Any, ...]]:
            messages = scan_users(batches, rules, shared_anchored.value, task)
            return ((p.bucket, p.content, p.payload) for p in messages)

        def decide(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for bucket, messages in groupby(_rows(batches), key=lambda row: row[0]):
                contents = ((content, payload) for _, content, payload in messages)
                decided = bucket_tasks.decide_bucket(bucket, contents, rules, shared_attributes.value, uri)
                yield from as_batches(((p.bucket, p.content, p.payload) for p in decided), _MESSAGE_SCHEMA)

        scanned = run(impressions, self._spark, scan, SHUFFLE_MESSAGE).unionAll(engagements)
        if users is not None:
            scanned = scanned.unionAll(run(users, self._spark, scan_table, SHUFFLE_MESSAGE))
        shuffled = by_bucket(scanned, rules.num_buckets, self._config.spark.num_partitions)
        return self._kept(map_batches(shuffled, decide, SHUFFLE_MESSAGE))

    def limit_ads(self, decided: DataFrame, suspects: list[tuple[Columns, dict[str, Any]]]) -> AdLimits:
        """Count the suspects of the ad cap over all buckets, and limit the ads above their share."""
        rules = self._rules
        selected = decided.where("content = 'selected'")

        def count(ads: NDArray[np.int64]) -> list[tuple[int, int, int]]:
            shared_ads = self._broadcast(ads)

            def count_part(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
                for _, _, payload in _rows(batches):
                    counted = bucket_tasks.count_suspects(payload, shared_ads.value, rules)
                    yield pa.RecordBatch.from_pydict(counted)

            with progress(self._spark, "count ads near their cap"):
                bins = map_batches(selected, count_part, _BIN)
                return [(ad, at, n) for ad, at, n in bins.groupBy("ad", "bin").sum("count").collect()]

        def find_above(share: float) -> NDArray[np.int64]:
            def find_part(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
                for _, _, payload in _rows(batches):
                    yield pa.RecordBatch.from_pydict({"ad": bucket_tasks.suspects_above(payload, share)})

            with progress(self._spark, "find more ads near their cap"):
                found = map_batches(selected, find_part, "ad long").distinct().collect()
            return np.array(sorted(ad for (ad,) in found), np.int64)

        ads = np.unique(np.concatenate([np.zeros(0, np.int64), *(columns["ad"] for columns, _ in suspects)]))
        num_negatives = sum(metadata["num_negatives"] for _, metadata in suspects)
        limits = AdLimits.find(ads, num_negatives, rules, count, find_above)
        if limits.excess_share is not None:
            self.warnings.append(
                f"mining.max_ad_share: one ad has {limits.excess_share:.3%} of the negatives, more than "
                f"{rules.max_ad_share:.3%}: the negatives are too few, or of too few ads, for a smaller share"
            )
        return limits

    def seal(
        self,
        decided: DataFrame,
        limits: AdLimits,
        attributes: AdAttributes,
        parts: int,
        published: frozenset[str],
    ) -> tuple[list[tuple[Columns, dict[str, Any]]], Exposure]:
        """Write the shards; returns the entry and counts of each shard, and the distribution of negatives over ads."""
        rules, uri = self._rules, self._day_uri

        def seal(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for bucket, _, payload in _rows(batches):
                sealed = bucket_tasks.seal_bucket(bucket, payload, limits, rules, uri, parts, published)
                yield from as_batches(((p.bucket, p.content, p.payload) for p in sealed), _MESSAGE_SCHEMA)

        messages = map_batches(decided.where("content = 'selected'"), seal, SHUFFLE_MESSAGE)
        if parts > 1:
            messages = self._kept(messages)
            profiles = self._profile(messages.where("content = 'ads'"), attributes, parts)
            messages = messages.where("content = 'shard'")
        else:
            profiles = []
        rows = messages.select("content", "payload").collect()
        counts = [unpack(payload)[0] for content, payload in rows if content == bucket_tasks.ADS]
        if counts:
            profiles.append(profile_of(counts, attributes, rules))
        sealed = [unpack(payload) for content, payload in rows if content == bucket_tasks.SHARD]
        return sealed, Exposure.of(profiles, attributes, rules)

    def _profile(self, counted: DataFrame, attributes: AdAttributes, parts: int) -> list[Columns]:
        """Sum up the counts of ads part by part in tasks, because all counts would not fit the driver."""
        rules, shared = self._rules, self._broadcast(attributes)

        def profile(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for part, rows in groupby(_rows(batches), key=lambda row: row[0]):
                counts = [unpack(payload)[0] for _, _, payload in rows]
                profiled = pack(profile_of(counts, shared.value, rules))
                yield from as_batches([(part, "profile", profiled)], _MESSAGE_SCHEMA)

        rows = (
            map_batches(by_bucket(counted, parts, parts), profile, SHUFFLE_MESSAGE)
            .select("payload")
            .collect()
        )
        return [unpack(payload)[0] for (payload,) in rows]

    def _broadcast(self, value: Any) -> Any:
        shared = self._spark.sparkContext.broadcast(value)
        self._stack.callback(shared.unpersist)
        return shared

    def _kept(self, frame: DataFrame) -> DataFrame:
        """Frame that is computed once for several jobs; a lost partition is computed again."""
        from pyspark import StorageLevel

        kept = frame.persist(StorageLevel.DISK_ONLY)
        self._stack.callback(kept.unpersist)
        return kept


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, str, bytes]]:
    for batch in batches:
        for number in range(len(batch)):
            yield tuple(column[number].as_py() for column in batch.columns)  # type: ignore[misc]
