"""The table of users: scanned and packed by bucket, then joined to the users of each bucket's records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scrollpast.errors import UserError
from scrollpast.hashing import bucket_of, hash_column, ids_of
from scrollpast.mining.io import contracts as column
from scrollpast.mining.rules.rules import Rules
from scrollpast.mining.rules.user_filter import UserBloomFilter
from scrollpast.mining.scan import MAX_BUFFERED_ROWS, ShuffleMessage, category_codes, written_ids
from scrollpast.mining.spark.packed_columns import Columns, concatenate, pack, split_by_bucket, unpack
from scrollpast.record_schema import HISTORY_AD_ID, UNKNOWN

USERS = "users"
USERS_TALLY = "users_tally"

HISTORY_LENGTH, HISTORY_AD = "history_length", "history_ad"
"""Packed histories: int32 ads of each user, and the int64 ads of all users, one user after the other."""

SUSPICIOUS_SHARE = 0.5
"""Share of the positives that a history holds, above which it was probably written after the mined days."""
LEAST_POSITIVES = 100


def scan_users(
    batches: Iterable[pa.RecordBatch], rules: Rules, anchored: UserBloomFilter | None, task: int
) -> Iterator[ShuffleMessage]:
    """Pack the rows of users who may have a record by bucket, with the latest ads of each history.

    Args:
        batches: rows of the contract of users; lists hold no null.
        anchored: users who may have a positive; ``None`` lets every user pass.
        task: number of this task; spreads the tallies over the buckets.

    Yields:
        Messages of users, and one tally with counts of rows: read, without an id, of a suppressed user.
    """
    counts: Counter[str] = Counter()
    buffered: list[tuple[NDArray[np.int32], Columns, NDArray[np.int64]]] = []
    num_buffered = 0
    for batch in batches:
        hashes = hash_column(batch[column.USER_ID])
        is_named = np.asarray(batch[column.USER_ID].is_valid())
        is_suppressed = is_named & rules.suppressed.in_log(batch[column.USER_ID], hashes, rules.user_key)
        counts.update(read=len(batch), invalid=int((~is_named).sum()), suppressed=int(is_suppressed.sum()))
        passes = is_named & ~is_suppressed
        if anchored is not None:
            passes &= anchored.may_contain(hashes)
        rows = batch.filter(pa.array(passes))
        users, hashes = written_ids(rows[column.USER_ID], hashes[passes], rules)
        columns: Columns = {"user": users}
        for name in rules.features_of_users:
            columns[f"feature:{name}"] = category_codes(rows[name])
        ads = np.zeros(0, np.int64)
        if rules.user_history is not None:
            columns[HISTORY_LENGTH], ads = latest_ads(rows[rules.user_history], rules.user_history_length)
        buffered.append((bucket_of(hashes, rules.num_buckets), columns, ads))
        num_buffered += len(users) + len(ads)
        if num_buffered >= MAX_BUFFERED_ROWS:
            yield from _messages(buffered)
            buffered, num_buffered = [], 0
    yield from _messages(buffered)
    yield ShuffleMessage(task % rules.num_buckets, USERS_TALLY, pack({}, counts=dict(counts)))


def latest_ads(lists: pa.Array, most: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Ids of the last ``most`` ads of N lists: int32 [N] lengths, and int64 [Σ] ids in the order of the lists."""
    if pa.types.is_null(lists.type):
        return np.zeros(len(lists), np.int32), np.zeros(0, np.int64)
    items = lists.flatten()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum(lengths)
    is_latest = np.repeat(ends, lengths) - np.arange(len(items)) <= most
    kept = items.filter(pa.array(is_latest))
    hashes = np.zeros(0, np.int64) if pa.types.is_integer(kept.type) else hash_column(kept)
    return np.minimum(lengths, most).astype(np.int32), ids_of(kept, hashes)


def _messages(
    buffered: Sequence[tuple[NDArray[np.int32], Columns, NDArray[np.int64]]],
) -> Iterator[ShuffleMessage]:
    if not buffered:
        return
    buckets = np.concatenate([part for part, _, _ in buffered])
    columns = concatenate([part for _, part, _ in buffered])
    ads = np.concatenate([part for _, _, part in buffered])
    of_bucket: dict[int, Columns] = {}
    if HISTORY_LENGTH in columns:
        # Rows keep their order inside a bucket, and so do their ads.
        split = split_by_bucket({HISTORY_AD: ads}, np.repeat(buckets, columns[HISTORY_LENGTH]))
        of_bucket = dict(split)
    none = {HISTORY_AD: np.zeros(0, np.int64)} if HISTORY_LENGTH in columns else {}
    for bucket, rows in split_by_bucket(columns, buckets):
        yield ShuffleMessage(bucket, USERS, pack({**rows, **of_bucket.get(bucket, none)}))


def join_users(
    users: NDArray[np.int64], listed: Sequence[Columns], rules: Rules
) -> tuple[Columns, dict[str, int]]:
    """Features and histories of some users; a user whom the table lacks has unknown features and an empty history.

    Args:
        users: int64 [U], ascending and distinct.
        listed: the bucket's rows of the table, in any order.

    Returns:
        ``feature:<name>`` int64 [U] for each feature of the table, and the packed histories; counts of the users that
        the table has (``found``) and of those with several rows (``repeated``).
    """
    features = [f"feature:{name}" for name in rules.features_of_users]
    joined: Columns = {name: np.full(len(users), UNKNOWN, np.int64) for name in features}
    if rules.user_history is not None:
        joined |= {HISTORY_LENGTH: np.zeros(len(users), np.int32), HISTORY_AD: np.zeros(0, np.int64)}
    if not listed:
        return joined, {"found": 0, "repeated": 0}
    theirs = np.concatenate([part["user"] for part in listed])
    at = np.flatnonzero(np.isin(theirs, users))
    at = at[np.argsort(theirs[at], kind="stable")]
    is_first = np.append(True, np.diff(theirs[at]) != 0)[: len(at)]
    repeated = len(np.unique(theirs[at][~is_first]))
    at = at[is_first]
    to = np.searchsorted(users, theirs[at])
    for name in features:
        joined[name][to] = np.concatenate([part[name] for part in listed])[at]
    if rules.user_history is not None:
        lengths = np.concatenate([part[HISTORY_LENGTH] for part in listed]).astype(np.int64)
        ads = np.concatenate([part[HISTORY_AD] for part in listed])
        starts, counts = (np.cumsum(lengths) - lengths)[at], lengths[at]
        joined[HISTORY_LENGTH][to] = counts
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        joined[HISTORY_AD] = ads[np.repeat(starts, counts) + inside]
    return joined, {"found": len(at), "repeated": repeated}


def history_lists(
    lengths: NDArray[np.int32], ads: NDArray[np.int64], rows: NDArray[np.int64]
) -> pa.ListArray:
    """Histories of some of the users that were packed, as lists.

    Args:
        rows: numbers of the users.
    """
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(ads)).take(pa.array(rows))


def count_positives_in_history(records: pa.RecordBatch) -> int:
    """Positives whose ad is in the history of their record."""
    pairs = []
    for name in ("positive_ad_id", HISTORY_AD_ID):
        lists = records.column(name)
        pairs.append(pa.table({"record": pc.list_parent_indices(lists), "ad": pc.list_flatten(lists)}))
    positives, histories = pairs
    histories = histories.group_by(["record", "ad"], use_threads=False).aggregate([])
    return int(positives.join(histories, ["record", "ad"], join_type="left semi", use_threads=False).num_rows)


def count_users(tallies: Iterable[bytes]) -> Counter[str]:
    """Sum of the counts of the tasks' tallies."""
    counts: Counter[str] = Counter()
    for payload in tallies:
        counts.update(unpack(payload)[1]["counts"])
    return counts


def check_users(counts: Counter[str], place: str, rules: Rules) -> list[str]:
    """Notes on the table of users.

    Args:
        counts: of `count_users`.
        place: the table.

    Raises:
        UserError: users with a record have several rows.
    """
    if counts["repeated"]:
        raise UserError(
            f"users.{column.USER_ID} ({place})",
            expected="one row a user",
            found=f"several rows of {counts['repeated']:,} of the {counts['found']:,} users with a record",
            remedy="keep each user's row of one moment before the mined days, where the table is made",
        )
    if not rules.reads_users:
        unread = f"users ({place}) is not read: name a list column of it in mining.user_history"
        return [f"{unread}, or categorical columns in mining.user_features"]
    notes = []
    if counts["invalid"]:
        notes.append(f"{counts['invalid']:,} rows of users ({place}) with a null user_id were ignored")
    if counts["joined"] and not counts["found"]:
        notes.append(
            f"users ({place}) has none of the {counts['joined']:,} users with a record: check that the table is of the "
            "same log"
        )
    return notes


def history_notes(num_positives: int, num_in_history: int, place: str) -> list[str]:
    """Note on a history that holds most positives of the mined days."""
    if num_positives < LEAST_POSITIVES or num_in_history <= SUSPICIOUS_SHARE * num_positives:
        return []
    share = f"{num_in_history / num_positives:.0%} of the positives are in their users' histories"
    return [f"{share}: pass a table of users ({place}) that was written before the mined days"]
