"""The mining job from its input tables to a published day.

    engagements ──scan──┐ (who may have an anchor)
                        ├─ exchange by bucket ── decide ── ad cap ── seal ── gate ── manifest
    impressions ──scan──┘

Rows cross the exchange as parcels (packed columns); counts travel in the same parcels, so that a retried or
lost task can neither lose nor repeat one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.config import Config
from scrollpast.errors import HeldError, ScrollpastError
from scrollpast.mining import bucket_tasks
from scrollpast.mining.examination.table import read_examination
from scrollpast.mining.exposure import Exposure, num_parts, profile_of
from scrollpast.mining.gate.bands import Verdict, judge
from scrollpast.mining.gate.day_metrics import BucketSigns, Health
from scrollpast.mining.gate.held_days import (
    day_uri,
    discard,
    folder_of_days,
    grace_s,
    held_uri,
    hold_day,
    why_held,
)
from scrollpast.mining.gate.trailing_days import read_trailing
from scrollpast.mining.io.contracts import CREATED_AT
from scrollpast.mining.io.engagement_kinds import check_engagements
from scrollpast.mining.io.inputs import check_all_read, describe, no_impressions, open_inputs
from scrollpast.mining.io.plausibility import doubts
from scrollpast.mining.io.source import Source
from scrollpast.mining.io.sources import run
from scrollpast.mining.io.unknown_features import unknown_feature_notes
from scrollpast.mining.publication import (
    Published,
    check_writable,
    find_published,
    make_manifest,
    with_revocations,
    write_table,
)
from scrollpast.mining.rules.ad_cap import AdLimits
from scrollpast.mining.rules.attributes import AdAttributes
from scrollpast.mining.rules.ledger import Ledger
from scrollpast.mining.rules.rules import Rules, Window
from scrollpast.mining.rules.user_filter import UserBloomFilter
from scrollpast.mining.scan import TALLY, scan_ads, scan_engagements, scan_impressions
from scrollpast.mining.spark.map_in_arrow import (
    SHUFFLE_MESSAGE,
    arrow_schema,
    as_batches,
    by_bucket,
    map_batches,
)
from scrollpast.mining.spark.packed_columns import Columns, pack, unpack
from scrollpast.mining.spark.progress import progress
from scrollpast.privacy.forgetting import obey, publish_obeying
from scrollpast.privacy.suppression import check_key_of_list, read_suppressed
from scrollpast.privacy.user_keys import read_user_key
from scrollpast.shards.filesystem import write_named
from scrollpast.shards.manifest import (
    Manifest,
    ShardEntry,
    published_manifest,
    remove_unpublished,
    removed_on_failure,
    sweep_orphans,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_PARCEL_SCHEMA = arrow_schema(SHUFFLE_MESSAGE)
_BIN = "ad long, bin long, count long"


@dataclass(frozen=True)
class MinedDay:
    """What a run did. ``is_new`` is false where the day was published from the same input before."""

    uri: str
    manifest: Manifest
    is_new: bool
    warnings: list[str] = field(default_factory=list)


class DayHeld(HeldError):
    """The gate did not let a day pass; ``mined`` says where it was kept and what it holds."""

    mined: MinedDay


def mine(
    config: Config,
    last_day: date,
    num_days: int,
    as_of: datetime,
    get_spark: Callable[[], SparkSession],
    *,
    overwrite: bool = False,
    as_of_given: bool = True,
) -> MinedDay:
    """Mine the ``num_days`` days that end with ``last_day`` and publish them as ``ds=<last_day>``.

    Args:
        as_of: the moment (UTC) whose knowledge the run may use.
        get_spark: called after everything that can be checked without Spark was checked.
        overwrite: replace the day if it is published.
        as_of_given: whether a person chose ``as_of``; else another moment than before is no change.

    Raises:
        UserError: the input or the configuration cannot be mined; nothing was published.
        DayHeld: the day's figures are not what they should be; it was kept aside, and nothing was published.
        ScrollpastError: the job failed; nothing was published.
    """
    uri = day_uri(config, last_day)
    window = Window.of_days(last_day, num_days, as_of)
    examination = read_examination(config.mining.examined.table)
    user_key = read_user_key(config.privacy)
    suppressed = read_suppressed(folder_of_days(config))
    check_key_of_list(suppressed, user_key, folder_of_days(config))
    rules = Rules.of(config.mining, window, examination, user_key, suppressed)
    inputs = open_inputs(config, rules, get_spark)
    # What the run replaces, as it was before the run read its input: what is published since then stays.
    replaced = published_manifest(uri) if overwrite else None
    published = None
    if not overwrite:
        published = find_published(uri, config, rules, inputs, as_of_given=as_of_given)
        if published is not None and not published.news:
            return MinedDay(uri, obey(uri, published.manifest), is_new=False)
        replaced = None if published is None else published.manifest
    if inputs["impressions"].num_rows == 0:  # Parquet's footers tell, before Spark starts
        raise no_impressions(inputs["impressions"], window)
    check_writable(uri)
    try:
        with removed_on_failure(uri), ExitStack() as stack:
            return _Run(get_spark(), config, rules, last_day, stack).mine(inputs, replaced, published)
    except DayHeld as held:
        # An earlier run that was killed may have written the same files.
        with suppress(OSError, ScrollpastError):
            remove_unpublished(uri, held.mined.manifest.paths)
        raise


class _Run:
    """One run on a session: the steps share the rules, the broadcasts and the day's folder."""

    def __init__(
        self, spark: SparkSession, config: Config, rules: Rules, last_day: date, stack: ExitStack
    ) -> None:
        self._spark = spark
        self._config = config
        self._rules = rules
        self._last_day = last_day
        self._day_uri = day_uri(config, last_day)
        self._stack = stack
        self._warnings: list[str] = []

    def mine(
        self, inputs: dict[str, Source], replaced: Manifest | None, published: Published | None
    ) -> MinedDay:
        """Mine and publish.

        Args:
            replaced: the manifest of the day that is replaced; None = none was published.
            published: the day as it is published, to be brought up to date: shards that stay are not written again.
        """
        impressions = inputs["impressions"]
        self._warnings += [note for source in inputs.values() for note in source.notes]
        engagements, engaged_counts, anchored = self._read_engagements(inputs["engagements"])
        attributes = self._read_attributes(inputs.get("ads"))
        decided = self._kept(self._decide(impressions, engagements, anchored, attributes))
        with progress(self._spark, "scan and decide impressions", impressions.num_rows):
            reports = decided.where("content != 'selected'").select("content", "payload").collect()
        ledger = Ledger()
        num_read, num_impressions, num_timed = _add_tallies(
            ledger, (p for content, p in reports if content == TALLY)
        )
        check_all_read(impressions, num_read)
        if not num_timed:  # rows without a time belong to every window, and make no day
            raise no_impressions(impressions, self._rules.window)
        suspects = [unpack(p) for content, p in reports if content == bucket_tasks.SUSPECTS]
        limits = self._limit_ads(decided, suspects)
        with progress(self._spark, "write shards"):
            num_selected = sum(words["num_selected"] for _, words in suspects)
            paths = frozenset() if published is None else published.paths
            sealed, exposure = self._seal(decided, limits, attributes, num_parts(num_selected), paths)
        for cells, words in sealed:
            ledger.add(cells, words["surfaces"])
        ledger.check(num_impressions)
        signs = BucketSigns.sum(p for content, p in reports if content == bucket_tasks.SIGNS)
        health, verdict = self._judge(Health.of(ledger, signs, exposure, self._rules))
        self._warnings += doubts(ledger, signs, exposure)
        self._warnings += unknown_feature_notes(
            (words for _, words in sealed), self._rules, impressions.place
        )
        manifest = make_manifest(
            ds=self._last_day.isoformat(),
            window=self._rules.window,
            config=self._config,
            user_key=self._rules.user_key,
            suppressed=self._rules.suppressed,
            inputs=describe(
                inputs,
                {"impressions": num_impressions, "engagements": engaged_counts["in_reach"]},
                engaged_counts["suppressed"],
            ),
            ledger=ledger,
            shards=[ShardEntry(**words["entry"]) for _, words in sealed if words["entry"]],
            num_positives=sum(words["num_positives"] for _, words in sealed),
            num_negatives=sum(words["num_negatives"] for _, words in sealed),
            ledger_file=write_table(ledger.table(), "ledger", self._day_uri),
            quarantine_files=[
                bytes(p).decode() for content, p in reports if content == bucket_tasks.QUARANTINE_FILE
            ],
            health={**health.to_json(), "gate": None if verdict is None else verdict.to_json()},
            exposure_file=write_named(exposure.to_json().encode(), "exposure", "json", self._day_uri),
        )
        manifest = with_revocations(manifest, self._day_uri)
        if verdict is not None and verdict.breaches:
            uri = hold_day(self._config, self._last_day, manifest)
            held = DayHeld(**why_held(self._config, self._last_day, verdict, overwrite=replaced is not None))
            held.mined = MinedDay(uri, manifest, is_new=True, warnings=self._warnings)
            raise held
        if published is not None:
            self._warnings.append(
                f"mined again for news of {', '.join(published.news)}: "
                f"{published.num_changed(manifest):,} of {manifest.num_buckets:,} buckets changed"
            )
        manifest = publish_obeying(self._day_uri, manifest, replacing=replaced)
        sweep_orphans(self._day_uri, manifest, older_than_s=grace_s(self._config))
        discard(held_uri(self._config, self._last_day))
        return MinedDay(self._day_uri, manifest, is_new=True, warnings=self._warnings)

    def _judge(self, health: Health) -> tuple[Health, Verdict | None]:
        """Hold the figures against those of the trailing days; no verdict where the gate is switched off."""
        config, rules = self._config, self._rules
        if not config.gate.enabled:
            return health, None
        trailing = read_trailing(folder_of_days(config), self._last_day, rules.window, health, config)
        note = trailing.note(config)
        if note is not None:
            self._warnings.append(note)
        health = health.with_seen_before(trailing.sketches)
        required = config.mining.require_engagements
        return health, judge(health, trailing.days, config.gate, engagements_required=required)

    def _read_engagements(self, source: Source) -> tuple[DataFrame, Counter[str], UserBloomFilter | None]:
        """Pack the engagements by bucket, and find the users who may have an anchor."""
        rules = self._rules

        def scan(_: int, batches: Iterator[pa.RecordBatch]) -> Iterable[tuple[Any, ...]]:
            return ((p.bucket, p.content, p.payload) for p in scan_engagements(batches, rules))

        parcels = self._kept(run(source, self._spark, scan, SHUFFLE_MESSAGE))
        with progress(self._spark, "read engagements", source.num_rows):
            tallies = [unpack(p) for (p,) in parcels.where("bucket < 0").select("payload").collect()]
        counts: Counter[str] = Counter()
        for _, words in tallies:
            counts.update(words["counts"])
        self._warnings += check_engagements(counts, source.place, rules, self._config.mining)
        anchored = (
            None
            if rules.keep_users_without_positive
            else UserBloomFilter.of(c["anchored"] for c, _ in tallies)
        )
        return parcels.where("bucket >= 0"), counts, anchored

    def _read_attributes(self, source: Source | None) -> AdAttributes:
        if source is None:
            return AdAttributes.empty()
        is_aged = CREATED_AT in source.schema.names
        names = tuple(dict.fromkeys((*self._rules.ad_attributes, *((CREATED_AT,) if is_aged else ()))))

        def scan(_: int, batches: Iterator[pa.RecordBatch]) -> Iterable[tuple[Any, ...]]:
            return ((0, "ads", pack(columns)) for columns in scan_ads(batches, names))

        with progress(self._spark, "read ads", source.num_rows):
            parts = run(source, self._spark, scan, SHUFFLE_MESSAGE).select("payload").collect()
        return AdAttributes.of([unpack(payload)[0] for (payload,) in parts], names)

    def _decide(
        self,
        impressions: Source,
        engagements: DataFrame,
        anchored: UserBloomFilter | None,
        attributes: AdAttributes,
    ) -> DataFrame:
        """Scan the impressions, bring each bucket's parcels together, decide its rows."""
        rules, uri = self._rules, self._day_uri
        shared_anchored = self._broadcast(anchored)
        shared_attributes = self._broadcast(attributes if rules.ad_attributes else AdAttributes.empty())

        def scan(task: int, batches: Iterator[pa.RecordBatch]) -> Iterable[tuple[Any, ...]]:
            parcels = scan_impressions(batches, rules, shared_anchored.value, task)
            return ((p.bucket, p.content, p.payload) for p in parcels)

        def decide(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for bucket, parcels in groupby(_rows(batches), key=lambda row: row[0]):
                contents = ((content, payload) for _, content, payload in parcels)
                decided = bucket_tasks.decide_bucket(bucket, contents, rules, shared_attributes.value, uri)
                yield from as_batches(((p.bucket, p.content, p.payload) for p in decided), _PARCEL_SCHEMA)

        scanned = run(impressions, self._spark, scan, SHUFFLE_MESSAGE).unionAll(engagements)
        exchanged = by_bucket(scanned, rules.num_buckets, self._config.spark.num_partitions)
        return map_batches(exchanged, decide, SHUFFLE_MESSAGE)

    def _limit_ads(self, decided: DataFrame, suspects: list[tuple[Columns, dict[str, Any]]]) -> AdLimits:
        """Count the ads that may be over their share, over all buckets, and limit those that are."""
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
        num_negatives = sum(words["num_negatives"] for _, words in suspects)
        limits = AdLimits.find(ads, num_negatives, rules, count, find_above)
        if limits.excess_share is not None:
            self._warnings.append(
                f"mining.max_ad_share: one ad has {limits.excess_share:.3%} of the negatives, more than "
                f"{rules.max_ad_share:.3%}: the negatives are too few, or of too few ads, for a smaller share"
            )
        return limits

    def _seal(
        self,
        decided: DataFrame,
        limits: AdLimits,
        attributes: AdAttributes,
        parts: int,
        published: frozenset[str],
    ) -> tuple[list[tuple[Columns, dict[str, Any]]], Exposure]:
        """Write the shards: what was written and counted of each, and how all negatives fall on ads."""
        rules, uri = self._rules, self._day_uri

        def seal(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for bucket, _, payload in _rows(batches):
                sealed = bucket_tasks.seal_bucket(bucket, payload, limits, rules, uri, parts, published)
                yield from as_batches(((p.bucket, p.content, p.payload) for p in sealed), _PARCEL_SCHEMA)

        parcels = map_batches(decided.where("content = 'selected'"), seal, SHUFFLE_MESSAGE)
        if parts > 1:
            parcels = self._kept(parcels)
            profiles = self._profile(parcels.where("content = 'ads'"), attributes, parts)
            parcels = parcels.where("content = 'shard'")
        else:
            profiles = []
        rows = parcels.select("content", "payload").collect()
        counts = [unpack(payload)[0] for content, payload in rows if content == bucket_tasks.ADS]
        if counts:
            profiles.append(profile_of(counts, attributes, rules))
        sealed = [unpack(payload) for content, payload in rows if content == bucket_tasks.SHARD]
        return sealed, Exposure.of(profiles, attributes, rules)

    def _profile(self, counted: DataFrame, attributes: AdAttributes, parts: int) -> list[Columns]:
        """Sum up the counts of ads where those of a part come together: there are more than the driver should hold."""
        rules, shared = self._rules, self._broadcast(attributes)

        def profile(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for part, rows in groupby(_rows(batches), key=lambda row: row[0]):
                counts = [unpack(payload)[0] for _, _, payload in rows]
                profiled = pack(profile_of(counts, shared.value, rules))
                yield from as_batches([(part, "profile", profiled)], _PARCEL_SCHEMA)

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
        """Computed once, though several jobs read it; a lost part is computed again."""
        from pyspark import StorageLevel

        kept = frame.persist(StorageLevel.DISK_ONLY)
        self._stack.callback(kept.unpersist)
        return kept


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, str, bytes]]:
    for batch in batches:
        for number in range(len(batch)):
            yield tuple(column[number].as_py() for column in batch.columns)  # type: ignore[misc]


def _add_tallies(ledger: Ledger, tallies: Iterable[bytes]) -> tuple[int, int, int]:
    """Add the tallies to the ledger; returns what the scans counted: rows read, impressions, those with a time."""
    num_read = num_impressions = num_timed = 0
    for payload in tallies:
        cells, words = unpack(payload)
        ledger.add(cells, words["surfaces"])
        num_read += words["num_read"]
        num_impressions += words["num_impressions"]
        num_timed += words["num_timed"]
    return num_read, num_impressions, num_timed
