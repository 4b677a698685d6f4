"""The mining job without Spark: the same task functions, called one after the other."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.config import Mining
from scrollpast.documents.health import Health
from scrollpast.mining import bucket_tasks
from scrollpast.mining.exposure import Exposure, profile_of
from scrollpast.mining.gate.day_metrics import BucketSigns, health_of
from scrollpast.mining.rules.ad_cap import AdLimits
from scrollpast.mining.rules.attributes import AdAttributes
from scrollpast.mining.rules.ledger import Ledger
from scrollpast.mining.rules.rules import Rules, Window, epoch_us
from scrollpast.mining.rules.user_filter import UserBloomFilter
from scrollpast.mining.scan import TALLY, scan_engagements, scan_impressions
from scrollpast.mining.spark.packed_columns import Columns, unpack
from scrollpast.mining.users import USERS_TALLY, scan_users
from scrollpast.shards.manifest import ShardEntry

DAY = date(2026, 11, 20)
DAY_START_US = epoch_us(datetime(2026, 11, 20, tzinfo=UTC))
SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US

IMPRESSIONS = pa.schema(
    [
        ("request_id", pa.int64()),
        ("user_id", pa.int64()),
        ("ad_id", pa.int64()),
        ("served_at", pa.timestamp("us", "UTC")),
        ("surface", pa.string()),
        ("position", pa.int32()),
        ("dwell_ms", pa.int32()),
    ]
)
ENGAGEMENTS = pa.schema(
    [
        ("user_id", pa.int64()),
        ("ad_id", pa.int64()),
        ("kind", pa.string()),
        ("engaged_at", pa.timestamp("us", "UTC")),
        ("request_id", pa.int64()),
    ]
)


def rules_of(*, as_of_us: int | None = None, num_days: int = 1, **mining: Any) -> Rules:
    """Rules for the day 2026-11-20, known ten days later if nothing else is said; few buckets, no ad cap."""
    options = {"num_buckets": 3, "max_ad_share": 1.0, **mining}
    window = Window.of_days(DAY, num_days, datetime(2026, 11, 30, tzinfo=UTC))
    if as_of_us is not None:
        window = Window(window.start_us, window.end_us, as_of_us)
    return Rules.of(Mining.model_validate(options), window)


@dataclass
class Mined:
    """Output of a run: the ledger, the decided rows of every bucket, the shards, and the metrics for the gate."""

    ledger: Ledger
    num_impressions: int
    selected: list[Columns]
    shards: list[ShardEntry]
    quarantine_files: list[str]
    health: Health
    exposure: Exposure
    num_users: Counter[str]
    """Counts of the table of users"""


def mine(
    impressions: Iterable[pa.Table],
    engagements: Iterable[pa.Table],
    rules: Rules,
    day: Path,
    *,
    attributes: AdAttributes | None = None,
    order: random.Random | None = None,
    batch_rows: int = 7,
    parts: int = 1,
    users: Iterable[pa.Table] = (),
) -> Mined:
    """Every table is one task's input. ``order`` shuffles the parcels' arrival at their buckets; the ads of records
    are counted in so many ``parts``."""
    attributes = attributes or AdAttributes.empty()
    arriving = _scan(impressions, engagements, users, rules, batch_rows)
    ledger, num_impressions = Ledger(), 0
    quarantine_files: list[str] = []
    counts: Counter[str] = Counter()
    selected: dict[int, bytes] = {}
    signs: list[bytes] = []
    suspects: list[tuple[Columns, dict[str, Any]]] = []
    for bucket in sorted(arriving):
        if order is not None:
            order.shuffle(arriving[bucket])
        for parcel in bucket_tasks.decide_bucket(bucket, arriving[bucket], rules, attributes, str(day)):
            if parcel.content == TALLY:
                cells, words = unpack(parcel.payload)
                ledger.add(cells, words["surfaces"])
                num_impressions += words["num_impressions"]
            elif parcel.content == bucket_tasks.SIGNS:
                signs.append(parcel.payload)
            elif parcel.content == bucket_tasks.SELECTED:
                selected[bucket] = parcel.payload
            elif parcel.content == bucket_tasks.SUSPECTS:
                suspects.append(unpack(parcel.payload))
            elif parcel.content == USERS_TALLY:
                counts.update(unpack(parcel.payload)[1]["counts"])
            else:
                quarantine_files.append(parcel.payload.decode())
    limits = _limits(list(selected.values()), suspects, rules)
    shards: list[ShardEntry] = []
    ads: dict[int, list[Columns]] = defaultdict(list)
    for bucket, payload in selected.items():
        for parcel in bucket_tasks.seal_bucket(bucket, payload, limits, rules, str(day), parts):
            columns, words = unpack(parcel.payload)
            if parcel.content == bucket_tasks.ADS:
                ads[parcel.bucket].append(columns)
                continue
            ledger.add(columns, words["surfaces"])
            if words["entry"]:
                shards.append(ShardEntry(**words["entry"]))
    exposure = Exposure.of([profile_of(part, attributes, rules) for part in ads.values()], attributes, rules)
    return Mined(
        ledger=ledger,
        num_impressions=num_impressions,
        selected=[unpack(payload)[0] for payload in selected.values()],
        shards=shards,
        quarantine_files=quarantine_files,
        health=health_of(ledger, BucketSigns.sum(signs), exposure, rules),
        exposure=exposure,
        num_users=counts,
    )


def _scan(
    impressions: Iterable[pa.Table],
    engagements: Iterable[pa.Table],
    listed: Iterable[pa.Table],
    rules: Rules,
    batch_rows: int,
) -> dict[int, list[tuple[str, bytes]]]:
    """Messages of the shuffle, by bucket."""
    arriving: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
    anchored = []
    for table in engagements:
        for parcel in scan_engagements(table.to_batches(), rules):
            if parcel.bucket < 0:
                anchored.append(unpack(parcel.payload)[0]["anchored"])
            else:
                arriving[parcel.bucket].append((parcel.content, parcel.payload))
    users = None if rules.keep_users_without_positive else UserBloomFilter.of(anchored)
    for task, table in enumerate(impressions):
        for parcel in scan_impressions(table.to_batches(max_chunksize=batch_rows), rules, users, task):
            arriving[parcel.bucket].append((parcel.content, parcel.payload))
    for task, table in enumerate(listed):
        for parcel in scan_users(table.to_batches(max_chunksize=batch_rows), rules, users, task):
            arriving[parcel.bucket].append((parcel.content, parcel.payload))
    return arriving


def _limits(selected: list[bytes], suspects: list[tuple[Columns, dict[str, Any]]], rules: Rules) -> AdLimits:
    def count(ads: NDArray[np.int64]) -> list[tuple[int, int, int]]:
        histogram: Counter[tuple[int, int]] = Counter()
        for payload in selected:
            counted = bucket_tasks.count_suspects(payload, ads, rules)
            for ad, at, n in zip(*(counted[name].tolist() for name in ("ad", "bin", "count")), strict=True):
                histogram[ad, at] += n
        return [(ad, at, n) for (ad, at), n in histogram.items()]

    def find_above(share: float) -> NDArray[np.int64]:
        found = [bucket_tasks.suspects_above(payload, share) for payload in selected]
        return np.unique(np.concatenate(found))

    ads = np.unique(np.concatenate([np.zeros(0, np.int64), *(columns["ad"] for columns, _ in suspects)]))
    num_negatives = sum(words["num_negatives"] for _, words in suspects)
    return AdLimits.find(ads, num_negatives, rules, count, find_above)


def impressions_of(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, IMPRESSIONS)


def engagements_of(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, ENGAGEMENTS)
