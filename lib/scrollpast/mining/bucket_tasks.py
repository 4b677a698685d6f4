"""Tasks behind the shuffle: decide the rows of a bucket, and seal its records into a shard."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scrollpast.mining.exposure import count_ads
from scrollpast.mining.gate.day_metrics import BucketSigns, engaged_in_window, signs_of
from scrollpast.mining.io.unknown_features import known_features
from scrollpast.mining.publication import write_table
from scrollpast.mining.records import gather_records
from scrollpast.mining.rules.ad_cap import (
    AdLimits,
    count_by_bin,
    find_over_ad_cap,
    find_suspects,
    suspect_share,
)
from scrollpast.mining.rules.attributes import AdAttributes
from scrollpast.mining.rules.bucket import Bucket
from scrollpast.mining.rules.decide import decide, latest_features
from scrollpast.mining.rules.ledger import count_cells
from scrollpast.mining.rules.rules import Rules
from scrollpast.mining.scan import ENGAGEMENTS, QUARANTINE, ROWS, TALLY, ShuffleMessage
from scrollpast.mining.spark.packed_columns import Columns, concatenate, pack, take, unpack
from scrollpast.mining.users import USERS, USERS_TALLY, count_positives_in_history, join_users
from scrollpast.outcomes import Outcome
from scrollpast.shards.manifest import write_shard

SELECTED = "selected"
SUSPECTS = "suspects"
SIGNS = "signs"
QUARANTINE_FILE = "quarantine_file"
SHARD = "shard"
ADS = "ads"

_RECORD_COLUMNS = (
    "user", "ad", "request", "served_us", "surface", "position", "dwell_ms", "outcome", "kind", "weight",
)  # fmt: skip

_NO_ENGAGEMENTS: Columns = {
    "user": np.zeros(0, np.int64),
    "ad": np.zeros(0, np.int64),
    "request": np.zeros(0, np.int64),
    "kind": np.zeros(0, np.int8),
    "engaged_us": np.zeros(0, np.int64),
}


def decide_bucket(
    bucket: int, messages: Iterable[tuple[str, bytes]], rules: Rules, attributes: AdAttributes, day_uri: str
) -> Iterator[ShuffleMessage]:
    """Decide a bucket's rows, write its quarantine file, and yield its tallies.

    Args:
        messages: (content, payload) of every message of the bucket, in any order.

    Yields:
        Messages: the selected rows with the features and histories of their users, the suspects of the ad cap,
        tallies, signs, and the quarantine file's path.
    """
    rows: list[Columns] = []
    engagements: list[Columns] = []
    listed: list[Columns] = []
    quarantined: list[bytes] = []
    surfaces: dict[str, int] = {}
    for content, payload in messages:
        if content in (TALLY, USERS_TALLY):
            yield ShuffleMessage(bucket, content, payload)
        elif content == QUARANTINE:
            quarantined.append(payload)
        elif content == USERS:
            listed.append(unpack(payload)[0])
        elif content == ENGAGEMENTS:
            engagements.append(unpack(payload)[0])
        else:
            assert content == ROWS, content
            columns, metadata = unpack(payload)
            codes = [surfaces.setdefault(name, len(surfaces)) for name in metadata["surfaces"]]
            rows.append({**columns, "surface": np.array(codes, np.int16)[columns["surface"]]})
    if quarantined:
        yield ShuffleMessage(bucket, QUARANTINE_FILE, _write_quarantine(quarantined, day_uri).encode())
    engaged = concatenate(engagements) if engagements else _NO_ENGAGEMENTS
    num_engaged = int(engaged_in_window(engaged, rules).sum())
    if not rows:
        if num_engaged:
            yield ShuffleMessage(bucket, SIGNS, BucketSigns(num_engaged).packed())
        return
    # Codes in the order of their names: messages arrive in any order, and ties are broken by the code.
    names = sorted(surfaces)
    recode = np.array([names.index(name) for name in surfaces], np.int16)
    for part in rows:
        part["surface"] = recode[part["surface"]]
    inside = Bucket.of(concatenate(rows), engaged)
    judged = decide(inside, rules.on(names), rules, attributes)
    decided = judged.rows
    yield ShuffleMessage(bucket, SIGNS, signs_of(num_engaged, inside, judged, rules).packed())
    is_negative = decided["outcome"] == Outcome.NEGATIVE
    final = take({name: decided[name] for name in ("outcome", "surface", "position")}, ~is_negative)
    yield ShuffleMessage(
        bucket, TALLY, pack(count_cells(**final), surfaces=names, num_read=0, num_impressions=0, num_timed=0)
    )
    is_recorded = np.isin(decided["outcome"], (Outcome.POSITIVE, Outcome.EXPLICIT_NEGATIVE, Outcome.NEGATIVE))
    if not is_recorded.any():
        return
    selected = take({name: decided[name] for name in _RECORD_COLUMNS}, is_recorded)
    features = latest_features(inside, rules)
    features = take(features, np.isin(features["user"], selected["user"]))
    if rules.reads_users:
        joined, counts = join_users(features["user"], listed, rules)
        features |= joined
        counts["joined"] = len(features["user"])
        yield ShuffleMessage(bucket, USERS_TALLY, pack({}, counts=counts))
    payload = pack(
        {**selected, **{f"of_user:{name}": part for name, part in features.items()}}, surfaces=names
    )
    yield ShuffleMessage(bucket, SELECTED, payload)
    suspects = find_suspects(decided["ad"][is_negative], suspect_share(rules))
    metadata = {"num_negatives": int(is_negative.sum()), "num_selected": len(selected["user"])}
    yield ShuffleMessage(bucket, SUSPECTS, pack({"ad": suspects}, **metadata))


def suspects_above(payload: bytes, share: float) -> np.ndarray:
    """Ads above a share of the negatives in a message of selected rows, int64."""
    rows, _ = unpack(payload)
    return find_suspects(rows["ad"][rows["outcome"] == Outcome.NEGATIVE], share)


def count_suspects(payload: bytes, suspects: np.ndarray, rules: Rules) -> Columns:
    """Negatives of suspected ads in a message of selected rows, by bin of the ad cap's hash."""
    rows, _ = unpack(payload)
    is_negative = rows["outcome"] == Outcome.NEGATIVE
    return count_by_bin(
        take({name: rows[name] for name in ("user", "ad", "request")}, is_negative), suspects, rules
    )


def seal_bucket(
    bucket: int,
    payload: bytes,
    limits: AdLimits,
    rules: Rules,
    day_uri: str,
    num_parts: int = 1,
    published: Container[str] = (),
) -> Iterator[ShuffleMessage]:
    """Apply the ad cap to a bucket's selected rows and write its shard, unless ``published`` holds the shard.

    Yields:
        A message that describes the written shard, and messages with counts of the records' ads for up to ``num_parts``
        parts
        (see :mod:`scrollpast.mining.exposure`).
    """
    columns, metadata = unpack(payload)
    rows = {name: columns[name] for name in _RECORD_COLUMNS}
    features = {
        name.removeprefix("of_user:"): part for name, part in columns.items() if name.startswith("of_user:")
    }
    is_negative = rows["outcome"] == Outcome.NEGATIVE
    outcome = rows["outcome"].copy()
    outcome[is_negative & find_over_ad_cap(rows, limits, rules)] = Outcome.OVER_CAP
    rows["outcome"] = outcome
    tallied = take({name: rows[name] for name in ("outcome", "surface", "position")}, is_negative)
    kept = take(rows, outcome != Outcome.OVER_CAP)
    records = gather_records(kept, features, rules) if len(kept["user"]) else None
    entry = None if records is None else write_shard(day_uri, bucket, records, published)
    num_positives = int((kept["outcome"] == Outcome.POSITIVE).sum())
    yield ShuffleMessage(
        bucket,
        SHARD,
        pack(
            count_cells(**tallied),
            surfaces=metadata["surfaces"],
            entry=asdict(entry) if entry else None,
            num_positives=num_positives,
            num_negatives=len(kept["user"]) - num_positives,
            known_features=known_features(records, rules),
            num_in_history=count_positives_in_history(records)
            if records is not None and rules.user_history is not None
            else 0,
        ),
    )
    for part, counted in count_ads(kept, num_parts):
        yield ShuffleMessage(part, ADS, pack(counted))


def _write_quarantine(payloads: list[bytes], day_uri: str) -> str:
    """Write invalid rows as one Parquet file, in an order independent of arrival; returns its relative path."""
    table = pa.concat_tables([pa.ipc.open_stream(payload).read_all() for payload in payloads])
    order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in table.column_names])
    return write_table(table.take(order), "quarantine", day_uri)
