"""User features that are null in every record of a day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from scrollpast.mining.rules.rules import Rules
from scrollpast.record_schema import UNKNOWN, USER_FEATURE_PREFIX


def known_features(records: pa.RecordBatch | None, rules: Rules) -> list[str]:
    """User features with a value in at least one record of a bucket."""
    if records is None:
        return []
    return [
        name
        for name in rules.user_features
        if np.any(records.column(USER_FEATURE_PREFIX + name).to_numpy() != UNKNOWN)
    ]


def unknown_feature_notes(
    sealed: Iterable[dict[str, Any]], rules: Rules, places: Mapping[str, str]
) -> Iterator[str]:
    """Notes on every user feature without a value in any record of the day; empty for a day without records.

    Args:
        sealed: ``entry`` and ``known_features`` of every written bucket.
        places: of the tables of impressions and users, by their names.
    """
    written = [metadata for metadata in sealed if metadata["entry"]]
    known = {name for metadata in written for name in metadata["known_features"]}
    for name in rules.user_features if written else ():
        if name not in known:
            table = "users" if name in rules.features_of_users else "impressions"
            yield (
                f"user feature {name} of {table} ({places[table]}) is null in every record; "
                "fill the column, or remove it from mining.user_features"
            )
