"""User features that are null in every record of a day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from scrollpast.mining.rules.rules import Rules
from scrollpast.record_schema import UNKNOWN, USER_FEATURE_PREFIX


def known_features(records: pa.RecordBatch | None, rules: Rules) -> list[str]:
    """The user features that some record of a bucket has a value of."""
    if records is None:
        return []
    return [
        name
        for name in rules.user_features
        if np.any(records.column(USER_FEATURE_PREFIX + name).to_numpy() != UNKNOWN)
    ]


def unknown_feature_notes(sealed: Iterable[dict[str, Any]], rules: Rules, place: str) -> Iterator[str]:
    """One note for every user feature that no record of the day has a value of; none for a day without records.

    Args:
        sealed: what was written of every bucket: ``entry`` and ``known_features``.
        place: the table of impressions.
    """
    written = [metadata for metadata in sealed if metadata["entry"]]
    known = {name for metadata in written for name in metadata["known_features"]}
    for name in rules.user_features if written else ():
        if name not in known:
            yield (
                f"user feature {name} of impressions ({place}) is null in every record; "
                "fill the column, or leave it out of mining.user_features"
            )
