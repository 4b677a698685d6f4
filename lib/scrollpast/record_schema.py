"""The record: names and types of the features of one user of one day.

Mining writes records and training reads them; this module is all that the two agree on.
Every list of one side (positive, negative) has the same length and order: by ``served_at``, then request,
then ad. ``-1`` stands for unknown in integer features.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

USER_ID = "user_id"
USER_FEATURE_PREFIX = "user_"
HISTORY_AD_ID = "history_ad_id"
"""Ads of the user's history before the log, oldest first: a list column of the table of users."""
UNKNOWN = -1

_INT64_LIST = pa.list_(pa.int64())
_FLOAT_LIST = pa.list_(pa.float32())

POSITIVE_FEATURES: dict[str, pa.DataType] = {
    "positive_ad_id": _INT64_LIST,
    "positive_kind": _INT64_LIST,
    "positive_served_at_ms": _INT64_LIST,
    "positive_request_hash": _INT64_LIST,
    "positive_weight": _FLOAT_LIST,
}
NEGATIVE_FEATURES: dict[str, pa.DataType] = {
    "negative_ad_id": _INT64_LIST,
    "negative_kind": _INT64_LIST,
    "negative_served_at_ms": _INT64_LIST,
    "negative_request_hash": _INT64_LIST,
    "negative_position": _INT64_LIST,
    "negative_dwell_ms": _INT64_LIST,
    "negative_weight": _FLOAT_LIST,
}


def record_schema(user_features: Sequence[str] = (), *, has_history: bool = False) -> pa.Schema:
    """Arrow schema of a batch of records: ``user_id`` int64, the lists of both sides, ``user_<name>`` int64.

    Args:
        user_features: names of the configured user features, without the ``user_`` prefix.
        has_history: the records also hold ``history_ad_id``, a list of int64.
    """
    fields = [pa.field(USER_ID, pa.int64(), nullable=False)]
    fields += [pa.field(name, kind) for name, kind in {**POSITIVE_FEATURES, **NEGATIVE_FEATURES}.items()]
    fields += [pa.field(HISTORY_AD_ID, _INT64_LIST)] if has_history else []
    fields += [pa.field(USER_FEATURE_PREFIX + name, pa.int64()) for name in user_features]
    return pa.schema(fields)
