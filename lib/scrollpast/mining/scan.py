"""Tasks over source rows: decide outcomes that depend on a single row, pack the other rows for the shuffle.

The same functions serve every source: the batches come from Parquet files read inside the task or from
Spark's scan of a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scrollpast.hashing import bucket_of, hash_column, ids_of, integers, seeded_hash, xxhash64
from scrollpast.mining.io import contracts as column
from scrollpast.mining.rules.ledger import Ledger, count_cells
from scrollpast.mining.rules.rules import Rules
from scrollpast.mining.rules.user_filter import UserBloomFilter
from scrollpast.mining.spark.packed_columns import Columns, concatenate, pack, split_by_bucket
from scrollpast.outcomes import Outcome
from scrollpast.record_schema import UNKNOWN

MAX_BUFFERED_ROWS = 4_000_000
"""Undecided rows that a task collects before it yields messages: bounds its memory."""

_TIME = pa.timestamp("us", tz="UTC")
_MAX_INT32 = np.iinfo(np.int32).max


@dataclass(frozen=True)
class ShuffleMessage:
    """One row of the shuffle: target bucket, content, payload."""

    bucket: int
    content: str
    payload: bytes


ROWS = "rows"
ENGAGEMENTS = "engagements"
QUARANTINE = "quarantine"
TALLY = "tally"


def scan_impressions(
    batches: Iterable[pa.RecordBatch], rules: Rules, anchored: UserBloomFilter | None, task: int
) -> Iterator[ShuffleMessage]:
    """Count rows that are invalid, of a suppressed user, or of a user without anchor; pack the other rows by bucket.

    Args:
        batches: rows with the columns of the impressions contract.
        anchored: users who may have a positive; ``None`` lets every user pass.
        task: number of this task; spreads the tallies over the buckets.

    Yields:
        Messages of rows and of quarantined rows, and one tally: the counts of rows that are not packed.
    """
    surfaces: dict[str, int] = {}
    ledger = Ledger()
    num_read = num_impressions = num_timed = num_buffered = 0
    buffered: list[tuple[NDArray[np.int32], Columns]] = []
    for batch in batches:
        num_read += len(batch)
        batch = _within_window(batch, rules)
        num_impressions += len(batch)
        num_timed += len(batch) - batch[column.SERVED_AT].null_count
        if not len(batch):
            continue
        reasons = _invalid_reasons(batch)
        is_invalid = reasons >= 0
        hashes = hash_column(batch[column.USER_ID])
        is_suppressed = rules.suppressed.in_log(batch[column.USER_ID], hashes, rules.user_key)
        passes = ~(is_invalid | is_suppressed)
        if anchored is not None:
            passes &= anchored.may_contain(hashes)
        surface = _surface_codes(batch, surfaces)
        position = _small_integers(batch[column.POSITION])
        passing, ending = np.flatnonzero(passes), np.flatnonzero(~passes)
        outcome = np.where(is_suppressed, Outcome.SUPPRESSED, Outcome.UNANCHORED).astype(np.int8)
        outcome[is_invalid] = Outcome.INVALID
        # The ledger counts an invalid position as unknown; the quarantine keeps its value.
        known = np.maximum(position, UNKNOWN)
        ledger.add(count_cells(outcome[ending], surface[ending], known[ending]), list(surfaces))
        # The quarantine holds ids: a suppressed user's invalid rows are counted only.
        reasons[is_suppressed] = -1
        if (reasons >= 0).any():
            yield from _quarantine(batch, reasons, rules)
        if len(passing):
            users, hashes = written_ids(batch[column.USER_ID].take(pa.array(passing)), hashes[passing], rules)
            rows = _impression_columns(batch.filter(pa.array(passes)), users, rules)
            rows["surface"] = surface[passing]
            buffered.append((bucket_of(hashes, rules.num_buckets), rows))
            num_buffered += len(rows["user"])
        if num_buffered >= MAX_BUFFERED_ROWS:
            yield from _parcels(ROWS, buffered, surfaces=list(surfaces))
            buffered, num_buffered = [], 0
    yield from _parcels(ROWS, buffered, surfaces=list(surfaces))
    names = list(surfaces)
    cells: Columns = {
        "outcome": np.array([outcome for outcome, _, _ in ledger.cells], np.int8),
        "surface": np.array([surfaces[name] for _, name, _ in ledger.cells], np.int16),
        "position": np.array([UNKNOWN if p is None else p for _, _, p in ledger.cells], np.int64),
        "count": np.array(list(ledger.cells.values()), np.int64),
    }
    tally = pack(
        cells, surfaces=names, num_read=num_read, num_impressions=num_impressions, num_timed=num_timed
    )
    yield ShuffleMessage(task % rules.num_buckets, TALLY, tally)


def scan_engagements(batches: Iterable[pa.RecordBatch], rules: Rules) -> Iterator[ShuffleMessage]:
    """Pack the engagements of the window by bucket, and list the users who may have an anchor.

    Yields:
        Messages of engagements, and one tally with bucket −1: counts by kind, and the column ``anchored``
        with the ``xxhash64`` of every user (as in the log) with a positive kind of engagement that can be attributed.
    """
    kinds = {name: row for row, name in enumerate(rules.kinds.names)}
    counts: Counter[str] = Counter()
    buffered: list[tuple[NDArray[np.int32], Columns]] = []
    anchored: list[NDArray[np.int64]] = []
    for batch in batches:
        counts["read"] += len(batch)
        engaged_at = batch[column.ENGAGED_AT].cast(_TIME, safe=False)
        engaged_us = integers(engaged_at.cast(pa.int64()))
        usable = _is_valid(batch[column.USER_ID]) & _is_valid(batch[column.AD_ID]) & _is_valid(engaged_at)
        counts["invalid"] += len(batch) - int(usable.sum())
        usable &= (engaged_us >= rules.engagements_from_us) & (engaged_us <= rules.engagements_to_us)
        batch, engaged_us = batch.filter(pa.array(usable)), engaged_us[usable]
        in_log = hash_column(batch[column.USER_ID])
        is_suppressed = rules.suppressed.in_log(batch[column.USER_ID], in_log, rules.user_key)
        if is_suppressed.any():
            counts["suppressed"] += int(is_suppressed.sum())
            batch, engaged_us, in_log = (
                batch.filter(pa.array(~is_suppressed)), engaged_us[~is_suppressed], in_log[~is_suppressed]
            )  # fmt: skip
        counts["in_reach"] += len(batch)
        names = batch[column.KIND].cast(pa.string()).dictionary_encode()
        names_found = ["null" if name is None else str(name) for name in names.dictionary.to_pylist()]
        code = integers(names.indices, null=UNKNOWN).astype(np.int64)
        lookup = np.array([*(kinds.get(name, UNKNOWN) for name in names_found), UNKNOWN], np.int64)
        for name, count in zip(
            [*names_found, "null"], np.bincount(code % len(lookup), minlength=len(lookup)), strict=True
        ):
            if count:
                counts[f"kind:{name}"] += int(count)
        kind = lookup[code]
        is_known = kind >= 0
        batch, engaged_us, kind = batch.filter(pa.array(is_known)), engaged_us[is_known], kind[is_known]
        in_log = in_log[is_known]
        users, hashes = written_ids(batch[column.USER_ID], in_log, rules)
        columns: Columns = {
            "user": users,
            "ad": _ids(batch[column.AD_ID]),
            "request": _request_hashes(batch),
            "kind": kind.astype(np.int8),
            "engaged_us": engaged_us,
        }
        can_anchor = rules.kinds.is_positive[kind] & (
            engaged_us >= rules.window.start_us - rules.clock_skew_us
        )
        counts["positive_kinds"] += int(can_anchor.sum())
        anchored.append(np.unique(in_log[can_anchor]))
        buffered.append((bucket_of(hashes, rules.num_buckets), columns))
    yield from _parcels(ENGAGEMENTS, buffered)
    users = np.unique(np.concatenate(anchored)) if anchored else np.zeros(0, np.int64)
    yield ShuffleMessage(-1, TALLY, pack({"anchored": users}, counts=dict(counts)))


def scan_ads(batches: Iterable[pa.RecordBatch], names: Sequence[str]) -> Iterator[Columns]:
    """Ids of ads and the named attributes, as columns ``ad`` and the names, batch by batch.

    A categorical attribute is its code, a timestamp microseconds since the epoch; −1 where it is null.
    """
    for batch in batches:
        batch = batch.filter(pc.is_valid(batch[column.AD_ID]))
        yield {"ad": _ids(batch[column.AD_ID]), **{name: _attribute(batch[name]) for name in names}}


def _within_window(batch: pa.RecordBatch, rules: Rules) -> pa.RecordBatch:
    """Rows served in the window, and rows without a time, which belong to every window."""
    served_at = batch[column.SERVED_AT].cast(_TIME, safe=False)
    batch = batch.set_column(batch.schema.get_field_index(column.SERVED_AT), column.SERVED_AT, served_at)
    served_us = integers(served_at.cast(pa.int64()), null=rules.window.start_us)
    inside = (served_us >= rules.window.start_us) & (served_us < rules.window.end_us)
    return batch if inside.all() else batch.filter(pa.array(inside))


_REASONS = (
    "request_id is null, or one of input.null_ids",
    "user_id is null, or one of input.null_ids",
    "ad_id is null, or one of input.null_ids",
    "served_at is null",
    "position is negative",
    "dwell_ms is negative",
)


def _invalid_reasons(batch: pa.RecordBatch) -> NDArray[np.int8]:
    """Number of the first of :data:`_REASONS` that holds for every row, or −1: int8 [N]."""
    reasons = np.full(len(batch), -1, np.int8)
    keys = (column.REQUEST_ID, column.USER_ID, column.AD_ID, column.SERVED_AT)
    broken = [~_is_valid(batch[name]) for name in keys]
    broken += [integers(_whole(batch[name])) < 0 for name in (column.POSITION, column.DWELL_MS)]
    for number in reversed(range(len(broken))):
        reasons[broken[number]] = number
    return reasons


def _quarantine(batch: pa.RecordBatch, reasons: NDArray[np.int8], rules: Rules) -> Iterator[ShuffleMessage]:
    """Messages of the unchanged invalid rows with the reason, distributed over the buckets by their content."""
    is_invalid = reasons >= 0
    rows = batch.filter(pa.array(is_invalid))
    keys = [
        hash_column(_as_identifier(rows[name])) for name in (column.REQUEST_ID, column.USER_ID, column.AD_ID)
    ]
    keys.append(integers(rows[column.SERVED_AT].cast(pa.int64())))
    buckets = bucket_of(seeded_hash(rules.seed, *keys), rules.num_buckets)
    reason = pa.DictionaryArray.from_arrays(pa.array(reasons[is_invalid]), pa.array(_REASONS)).cast(
        pa.string()
    )
    names = [
        name
        for name in (*column.IMPRESSIONS.required, *column.IMPRESSIONS.optional)
        if name in rows.schema.names
    ]
    columns = [
        _plain(rows[name] if name not in (column.POSITION, column.DWELL_MS) else _whole(rows[name]))
        for name in names
    ]
    if rules.user_key is not None:
        columns[names.index(column.USER_ID)] = rules.user_key.hide(rows[column.USER_ID])
    table = pa.table([*columns, reason], [*names, "reason"])
    for bucket, picked in split_by_bucket({"row": np.arange(len(table))}, buckets):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.take(pa.array(picked["row"])))
        yield ShuffleMessage(bucket, QUARANTINE, sink.getvalue().to_pybytes())


def written_ids(
    column_of_ids: pa.Array, hashes: NDArray[np.int64], rules: Rules
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Written ids of the users [N] of a log, and the hashes of these ids, which choose the bucket."""
    if rules.user_key is None:
        return ids_of(column_of_ids, hashes), hashes
    users = rules.user_key.ids_of(column_of_ids)
    return users, xxhash64(users)


def _impression_columns(batch: pa.RecordBatch, users: NDArray[np.int64], rules: Rules) -> Columns:
    columns: Columns = {
        "user": users,
        "ad": _ids(batch[column.AD_ID]),
        "request": _request_hashes(batch),
        "served_us": integers(batch[column.SERVED_AT].cast(pa.int64())),
        "position": _small_integers(batch[column.POSITION]),
        "dwell_ms": _small_integers(batch[column.DWELL_MS]),
    }
    if rules.score_column is not None:
        score = batch[rules.score_column].cast(pa.float64()).fill_null(-np.inf)
        columns["score"] = np.nan_to_num(score.to_numpy(zero_copy_only=False), nan=-np.inf)
    for name in rules.features_of_impressions:
        columns[f"feature:{name}"] = category_codes(batch[name])
    return columns


def category_codes(values: pa.Array) -> NDArray[np.int64]:
    """A categorical column as int64 [N]: integers and booleans as they are, strings hashed, null −1."""
    if pa.types.is_null(values.type):
        return np.full(len(values), UNKNOWN, np.int64)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int64())
    codes = _ids(_as_identifier(values))
    return np.where(_is_valid(values), codes, np.int64(UNKNOWN)) if values.null_count else codes


def _attribute(values: pa.Array) -> NDArray[np.int64]:
    if pa.types.is_timestamp(values.type):
        return integers(values.cast(_TIME, safe=False).cast(pa.int64()), null=UNKNOWN)
    return category_codes(values)


def _request_hashes(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Requests as non-negative hashes; −1 where an engagement names no request."""
    if column.REQUEST_ID not in batch.schema.names:
        return np.full(len(batch), UNKNOWN, np.int64)
    values = _as_identifier(batch[column.REQUEST_ID])
    hashes = hash_column(values) & np.int64(2**63 - 1)
    return np.where(_is_valid(values), hashes, np.int64(UNKNOWN)) if values.null_count else hashes


def _ids(values: pa.Array) -> NDArray[np.int64]:
    return integers(values) if pa.types.is_integer(values.type) else ids_of(values, hash_column(values))


def _as_identifier(values: pa.Array) -> pa.Array:
    return values.cast(pa.int64()) if pa.types.is_null(values.type) else values


def _is_valid(values: pa.Array) -> NDArray[np.bool_]:
    if not values.null_count:
        return np.ones(len(values), np.bool_)
    return np.asarray(pc.is_valid(values).to_numpy(zero_copy_only=False))


def _whole(values: pa.Array) -> pa.Array:
    return values.cast(pa.int64())


def _small_integers(values: pa.Array) -> NDArray[np.int32]:
    """A nullable integer column as int32, null −1; larger values are clipped to the largest int32."""
    return np.clip(integers(_whole(values), null=UNKNOWN), -_MAX_INT32, _MAX_INT32).astype(np.int32)


def _plain(values: pa.Array) -> pa.Array:
    """Column as int64, string or timestamp: one schema of the quarantine for all widths and encodings of a source."""
    if pa.types.is_timestamp(values.type):
        return values
    return values.cast(pa.int64() if pa.types.is_integer(values.type) else pa.string())


def _surface_codes(batch: pa.RecordBatch, surfaces: dict[str, int]) -> NDArray[np.int16]:
    """Surface of every row as a code; new names are added to ``surfaces``."""
    if column.SURFACE not in batch.schema.names or pa.types.is_null(batch[column.SURFACE].type):
        return np.full(len(batch), surfaces.setdefault(column.WHOLE_SURFACE, len(surfaces)), np.int16)
    values = batch[column.SURFACE]
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    index = integers(encoded.indices, null=len(encoded.dictionary)).astype(np.int64)
    names = [*encoded.dictionary.to_pylist(), None]
    used = np.bincount(index, minlength=len(names)) > 0
    codes = np.zeros(len(names), np.int16)
    for at in np.flatnonzero(used).tolist():
        name = column.WHOLE_SURFACE if names[at] is None else names[at]
        codes[at] = surfaces.setdefault(name, len(surfaces))
    return codes[index]


def _parcels(
    content: str, buffered: list[tuple[NDArray[np.int32], Columns]], **metadata: object
) -> Iterator[ShuffleMessage]:
    if not buffered:
        return
    buckets = np.concatenate([part for part, _ in buffered])
    columns = concatenate([part for _, part in buffered])
    for bucket, rows in split_by_bucket(columns, buckets):
        yield ShuffleMessage(bucket, content, pack(rows, **metadata))
