"""Ads that the users of a batch of records engaged with on any of the days: never neighbours of these users."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.compiled import compiled, frozen
from scrollpast.config import NEIGHBOUR_CODE, SERVED_CODE
from scrollpast.record_schema import HISTORY_AD_ID, USER_ID

ENGAGED_FEATURES = (USER_ID, "positive_ad_id", "negative_ad_id", "negative_kind")
"""Features of a record with engaged ads: positives, and hidden or reported ads."""

Integers = NDArray[np.int64]


def engaged_schema(records: pa.Schema) -> pa.Schema:
    """Part of a day's schema that `EngagedAds.of` reads: `ENGAGED_FEATURES`, and histories where records hold them."""
    names = (*ENGAGED_FEATURES, *((HISTORY_AD_ID,) if HISTORY_AD_ID in records.names else ()))
    return pa.schema([records.field(name) for name in names])


@dataclass(frozen=True)
class EngagedAds:
    """Distinct ads of U users: those of user u are ``ads[offsets[u]:offsets[u + 1]]``, ascending."""

    offsets: Integers
    """int64 [U + 1]"""
    ads: Integers

    @staticmethod
    def of(user_ids: Integers, batches: Iterable[pa.RecordBatch]) -> EngagedAds:
        """Gather the ads that these users engaged with from records.

        Args:
            user_ids: int64 [U], distinct.
            batches: records of any days, of `engaged_schema`; records of other users are ignored.
        """
        order = np.argsort(user_ids)
        ids = user_ids[order]
        found: list[tuple[Integers, Integers]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for batch in batches:
            users, ads = _pairs(batch)
            at = np.searchsorted(ids, users).clip(max=max(len(ids) - 1, 0))
            is_asked = ids[at] == users if len(ids) else np.zeros(len(users), np.bool_)
            found.append((order[at[is_asked]], ads[is_asked]))
        users, ads = (np.concatenate(parts) for parts in zip(*found, strict=True))
        by_user = np.lexsort((ads, users))
        users, ads = users[by_user], ads[by_user]
        is_first = np.ones(len(users), np.bool_)
        is_first[1:] = (users[1:] != users[:-1]) | (ads[1:] != ads[:-1])
        users, ads = users[is_first], ads[is_first]
        return EngagedAds(np.searchsorted(users, np.arange(len(user_ids) + 1)), ads)

    def of_some(self, first: int, stop: int) -> EngagedAds:
        """Engaged ads of the users ``first`` to ``stop`` (exclusive)."""
        return EngagedAds(self.offsets[first : stop + 1], self.ads)

    def holds(self, users: Integers, ads: Integers) -> NDArray[np.bool_]:
        """Membership of pairs of user number [P] and ad [P] in the engaged ads: bool [P]."""
        found = np.empty(len(users), np.bool_)
        _holds(
            frozen(self.offsets, np.int64),
            frozen(self.ads, np.int64),
            frozen(users, np.int64),
            frozen(ads, np.int64),
            found,
        )
        return found


def _pairs(batch: pa.RecordBatch) -> tuple[Integers, Integers]:
    """User and ad of every engagement in a batch of records, and of every ad of the history before the log."""
    users = batch.column(USER_ID).to_numpy()
    positives, negatives = batch.column("positive_ad_id"), batch.column("negative_ad_id")
    kinds = batch.column("negative_kind").flatten().to_numpy()
    is_engagement = ~np.isin(kinds, (SERVED_CODE, NEIGHBOUR_CODE))
    theirs = [
        np.repeat(users, list_lengths(positives)),
        np.repeat(users, list_lengths(negatives))[is_engagement],
    ]
    ads = [positives.flatten().to_numpy(), negatives.flatten().to_numpy()[is_engagement]]
    if HISTORY_AD_ID in batch.schema.names:
        earlier = batch.column(HISTORY_AD_ID)
        theirs.append(np.repeat(users, list_lengths(earlier)))
        ads.append(earlier.flatten().to_numpy())
    return np.concatenate(theirs), np.concatenate(ads)


def list_lengths(lists: pa.ListArray) -> Integers:
    """Number of values of each list, 0 for null: int64 [R]."""
    return np.diff(lists.offsets.to_numpy()).astype(np.int64)


@compiled
def _holds(
    offsets: Integers, engaged: Integers, users: Integers, ads: Integers, found: NDArray[np.bool_]
) -> None:
    for pair in range(len(users)):
        low, end = offsets[users[pair]], offsets[users[pair] + 1]
        high = end
        while low < high:
            middle = (low + high) // 2
            if engaged[middle] < ads[pair]:
                low = middle + 1
            else:
                high = middle
        found[pair] = low < end and engaged[low] == ads[pair]
