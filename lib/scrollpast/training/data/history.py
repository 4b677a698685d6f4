"""History of a record: the ads of its user's history before the log, then its positives in order of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrollpast.compiled import frozen

Integers = NDArray[np.int64]

NEVER_MS = np.iinfo(np.int64).max
LONG_AGO_MS = np.iinfo(np.int64).min
"""Time of an ad of the history before the log, which has none"""


@dataclass(frozen=True)
class History:
    """Items that a user tower may read of R records, M in all; record i has those from ``offsets[i]`` on.

    An item is listed for an anchor at time t if served_at_ms < t <= superseded_ms.
    """

    offsets: Integers
    """int64 [R + 1]"""
    ad_rows: Integers
    """int64 [M], as are the next two"""
    served_at_ms: Integers
    superseded_ms: Integers

    @property
    def num_bytes(self) -> int:
        return (
            self.offsets.nbytes + self.ad_rows.nbytes + self.served_at_ms.nbytes + self.superseded_ms.nbytes
        )


def with_earlier(
    positives: History,
    positive_ads: Integers,
    earlier_offsets: Integers,
    earlier_ads: Integers,
    earlier_rows: Integers,
    *,
    merge_repeats: bool,
) -> History:
    """Put the ads of histories before the log in front of the positives.

    An earlier ad is listed until the record's first positive of the same ad, which is excluded: a positive's own ad is
    never in its history. Ads without a row are left out.

    Args:
        positive_ads: int64 [M], ids.
        earlier_offsets: int64 [R + 1], of the earlier ads.
        earlier_ads: int64 [N], ids, oldest first; ``earlier_rows`` their rows.
        merge_repeats: of an ad that is among a record's earlier ads several times, list the last one only.
    """
    num_records = len(positives.offsets) - 1
    records = np.arange(num_records)
    has_row = earlier_rows > 0
    earlier_record = np.repeat(records, np.diff(earlier_offsets))[has_row]
    num_earlier = len(earlier_record)
    record = np.concatenate([earlier_record, np.repeat(records, np.diff(positives.offsets))])
    ads = np.concatenate([earlier_ads[has_row], positive_ads])
    served_ms = np.concatenate([np.full(num_earlier, LONG_AGO_MS), positives.served_at_ms])
    superseded_ms = np.concatenate([np.full(num_earlier, NEVER_MS), positives.superseded_ms])
    if num_earlier:
        by_ad = np.lexsort((ads, record))  # stable: the earlier ads of a group come first
        is_first = np.ones(len(by_ad), np.bool_)
        is_first[1:] = (np.diff(ads[by_ad]) != 0) | (np.diff(record[by_ad]) != 0)
        is_earlier = by_ad < num_earlier
        times = np.where(is_earlier, NEVER_MS, served_ms[by_ad])
        first_ms = np.minimum.reduceat(times, np.flatnonzero(is_first))[np.cumsum(is_first) - 1]
        ends_ms = np.where(first_ms == NEVER_MS, NEVER_MS, first_ms - 1)
        if merge_repeats:
            is_repeated = is_earlier[:-1] & is_earlier[1:] & ~is_first[1:]
            ends_ms[:-1][is_repeated] = LONG_AGO_MS
        superseded_ms[by_ad[is_earlier]] = ends_ms[is_earlier]
    order = np.argsort(record, kind="stable")
    rows = np.concatenate([earlier_rows[has_row], positives.ad_rows])
    return History(
        offsets=frozen(np.searchsorted(record[order], np.arange(num_records + 1)), np.int64),
        ad_rows=frozen(rows[order], np.int64),
        served_at_ms=frozen(served_ms[order], np.int64),
        superseded_ms=frozen(superseded_ms[order], np.int64),
    )
