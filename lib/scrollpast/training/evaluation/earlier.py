"""Histories before the log, for the users of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scrollpast.record_schema import HISTORY_AD_ID, USER_ID
from scrollpast.shards.reader import ShardReader
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.block import list_offsets

Integers = NDArray[np.int64]


def read_earlier(
    history_days: Sequence[str], evaluation_days: Sequence[str], users: Integers, vocabulary: Vocabulary
) -> tuple[Integers, Integers]:
    """Ads with a row in the histories before the log, oldest first: the user's number int64 [n], and the ad int64 [n].

    Of several records of a user, the last of the days before the evaluation counts. A user without one has the history
    of the first record of the evaluated days: by the input contract, it holds nothing of these days.

    Args:
        users: int64 [U] ids, ascending.

    Raises:
        UserError: some days were mined with histories and others without.
        CorruptShardError: a shard is corrupt.
    """
    user, ad, is_found = _last_of_each(history_days, users)
    # Backwards, as the last record that is read counts.
    later_user, later_ad, _ = _last_of_each(evaluation_days[::-1], users)
    is_needed = ~is_found[later_user]
    user, ad = np.append(user, later_user[is_needed]), np.append(ad, later_ad[is_needed])
    has_row = vocabulary.ad_rows(ad) > 0
    return user[has_row], ad[has_row]


def _last_of_each(days: Sequence[str], users: Integers) -> tuple[Integers, Integers, NDArray[np.bool_]]:
    """Users and ads of each user's last record with a history, and the mask of users with such a record."""
    found = [np.zeros((3, 0), np.int64)]
    latest = np.full(len(users), -1)
    reader = ShardReader(days, features=[USER_ID], optional=[HISTORY_AD_ID])
    if HISTORY_AD_ID in reader.schema.names:
        # A user has one record in a shard, and no batch spans two shards.
        for number, batch in enumerate(reader):
            ids = batch.column(USER_ID).to_numpy()
            at = np.searchsorted(users, ids).clip(max=len(users) - 1)
            is_wanted = users[at] == ids
            latest[at[is_wanted]] = number
            lists = batch.column(HISTORY_AD_ID)
            lengths = np.diff(list_offsets(lists))
            is_kept = np.repeat(is_wanted, lengths)
            user = np.repeat(at, lengths)[is_kept]
            found.append(np.stack([user, np.full(len(user), number), lists.flatten().to_numpy()[is_kept]]))
    user, number, ad = np.concatenate(found, axis=1)
    is_last = number == latest[user]
    return user[is_last], ad[is_last], latest >= 0
