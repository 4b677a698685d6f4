"""Events of the history days: the input of baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from scrollpast.config import NEIGHBOUR_CODE
from scrollpast.record_schema import USER_ID
from scrollpast.shards.manifest import read_manifest
from scrollpast.shards.reader import ShardReader
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.block import list_offsets

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Past:
    """P positives of N users, and counts of the R rows of a vocabulary. Ads outside the vocabulary are left out.

    Positives are ordered by user, time and row: the order of shards and records has no influence.
    """

    user_id: Integers
    """int64 [N], ascending"""
    user: Integers
    """int64 [P]: number of the user"""
    row: Integers
    """int64 [P], from 1 on"""
    served_at_ms: Integers
    """int64 [P]: milliseconds since 1970, UTC"""
    num_served: Integers
    """int64 [R]: served negatives by row, without neighbours"""
    end_ms: int
    """End of the latest window of the history days; 0 without history days"""

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self.num_served)

    def num_positives(self, last_hours: float | None = None) -> Integers:
        """Positives by row: int64 [R].

        Args:
            last_hours: count only impressions of this time before the end; None = all.
        """
        is_late = np.ones(len(self.row), bool)
        if last_hours is not None:
            is_late = self.served_at_ms >= self.end_ms - last_hours * 3_600_000
        return np.bincount(self.row[is_late], minlength=self.num_rows)


def read_past(history_days: Sequence[str], vocabulary: Vocabulary) -> Past:
    """Read the positives of all users, and count the served negatives. Memory grows with the positives.

    Raises:
        UserError: a day is not published.
        CorruptShardError: a shard is corrupt.
    """
    users, ads, times = ([np.zeros(0, np.int64)] for _ in range(3))
    num_served = np.zeros(vocabulary.num_rows, np.int64)
    names = [USER_ID, "positive_ad_id", "positive_served_at_ms", "negative_ad_id", "negative_kind"]
    for batch in ShardReader(history_days, features=names) if history_days else ():
        lengths = np.diff(list_offsets(batch.column("positive_ad_id")))
        users.append(np.repeat(batch.column(USER_ID).to_numpy(), lengths))
        ads.append(batch.column("positive_ad_id").flatten().to_numpy())
        times.append(batch.column("positive_served_at_ms").flatten().to_numpy())
        served = batch.column("negative_ad_id").flatten().to_numpy()
        is_served = batch.column("negative_kind").flatten().to_numpy() != NEIGHBOUR_CODE
        num_served += np.bincount(vocabulary.ad_rows(served[is_served]), minlength=len(num_served))
    num_served[0] = 0
    user, row, time = np.concatenate(users), vocabulary.ad_rows(np.concatenate(ads)), np.concatenate(times)
    user, row, time = (column[row > 0] for column in (user, row, time))
    order = np.lexsort((row, time, user))
    user_id, number = np.unique(user[order], return_inverse=True)
    ends = [datetime.fromisoformat(read_manifest(day).window_end) for day in history_days]
    end_ms = int(max(ends).timestamp() * 1000) if ends else 0
    return Past(user_id, number.astype(np.int64), row[order], time[order], num_served, end_ms)
