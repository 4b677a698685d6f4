"""Decided rows of one bucket, gathered into one record a user."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast import record_schema
from scrollpast.config import SERVED_CODE
from scrollpast.mining.rules.decide import SERVED_KIND
from scrollpast.mining.rules.rules import Rules
from scrollpast.mining.spark.packed_columns import Columns
from scrollpast.mining.users import HISTORY_AD, HISTORY_LENGTH, history_lists
from scrollpast.outcomes import Outcome


def gather_records(rows: Columns, features: Columns, rules: Rules) -> pa.RecordBatch:
    """One record for every user with a positive, a hide or report, or a negative, ordered by user id.

    Args:
        rows: decided rows with the outcomes positive, explicit negative and negative, in total order.
        features: ``user`` and ``feature:<name>`` of at least these users, and their packed histories if the rules name
            a column of histories.

    Returns:
        Batch of :func:`scrollpast.record_schema.record_schema`.
    """
    users = np.unique(rows["user"])
    is_positive = rows["outcome"] == Outcome.POSITIVE
    codes = np.append(rules.kinds.codes, SERVED_CODE)  # SERVED_KIND (−1) indexes the last code
    assert SERVED_KIND == -1
    values = {
        "ad_id": rows["ad"],
        "kind": codes[rows["kind"]],
        "served_at_ms": rows["served_us"] // 1000,
        "request_hash": rows["request"],
        "position": rows["position"].astype(np.int64),
        "dwell_ms": rows["dwell_ms"].astype(np.int64),
        "weight": rows["weight"],
    }
    columns: dict[str, pa.Array] = {record_schema.USER_ID: pa.array(users)}
    for side, names, of_side in (
        ("positive_", record_schema.POSITIVE_FEATURES, is_positive),
        ("negative_", record_schema.NEGATIVE_FEATURES, ~is_positive),
    ):
        at = np.flatnonzero(of_side)
        at = at[np.argsort(rows["user"][at], kind="stable")]
        offsets = _offsets(rows["user"][at], users)
        for name in names:
            items = values[name.removeprefix(side)][at]
            columns[name] = pa.ListArray.from_arrays(offsets, pa.array(items))
    known = np.searchsorted(features["user"], users)
    for name in rules.user_features:
        columns[record_schema.USER_FEATURE_PREFIX + name] = pa.array(features[f"feature:{name}"][known])
    has_history = rules.user_history is not None
    if has_history:
        columns[record_schema.HISTORY_AD_ID] = history_lists(
            features[HISTORY_LENGTH], features[HISTORY_AD], known
        )
    schema = record_schema.record_schema(rules.user_features, has_history=has_history)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _offsets(sorted_users: NDArray[np.int64], users: NDArray[np.int64]) -> pa.Array:
    """Start of each user's rows in a sorted column, and the end of the column: int32 [len(users) + 1]."""
    starts = np.searchsorted(sorted_users, users)
    return pa.array(np.append(starts, len(sorted_users)).astype(np.int32))
