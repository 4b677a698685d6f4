"""Impressions and engagements of one bucket, user by user: the input of the rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrollpast.mining.rules.groups import ByUser, order_by_user
from scrollpast.mining.spark.packed_columns import Columns, take

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Bucket:
    """Impressions and engagements of one bucket, user by user, with the same key codes on both sides.

    ``rows``: columns user, ad, request, served_us, surface, position, dwell_ms (and score, features), [N], of each
    user in order of time. ``engagements``: user, ad, request, kind, engaged_us, [M], of users with a row here,
    of each in order of time. ``user``, ``pair`` (user, ad), ``slate`` (user, request) and ``shown`` (slate, ad)
    are dense codes int64 [N]; ``engaged_pair`` and ``engaged_shown`` the same codes for the engagements, [M],
    −1 where there is no such row.
    """

    rows: Columns
    engagements: Columns
    by_user: ByUser
    user: Ints
    pair: Ints
    slate: Ints
    shown: Ints
    engaged_pair: Ints
    engaged_shown: Ints
    num_pairs: int
    num_slates: int
    num_shown: int

    @classmethod
    def of(cls, rows: Columns, engagements: Columns) -> Bucket:
        users, starts, order = order_by_user(rows["user"], rows["served_us"], rows["request"], rows["ad"])
        rows = _with_ties_ordered(take(rows, order))
        engagements, event_starts = _of_users(engagements, users)
        by_user = ByUser(users, starts, event_starts)
        user, engaged_user = by_user.codes, by_user.event_codes
        pair, engaged_pair, num_pairs = by_user.pair_codes(user, rows["ad"], engaged_user, engagements["ad"])
        slate, engaged_slate, num_slates = by_user.pair_codes(
            user, rows["request"], engaged_user, engagements["request"]
        )
        shown, engaged_shown, num_shown = by_user.pair_codes(
            slate, rows["ad"], engaged_slate, engagements["ad"]
        )
        return cls(
            rows=rows,
            engagements=engagements,
            by_user=by_user,
            user=user,
            pair=pair,
            slate=slate,
            shown=shown,
            engaged_pair=engaged_pair,
            engaged_shown=engaged_shown,
            num_pairs=num_pairs,
            num_slates=num_slates,
            num_shown=num_shown,
        )

    @property
    def num_users(self) -> int:
        return len(self.by_user.user)


def _of_users(engagements: Columns, users: Ints) -> tuple[Columns, Ints]:
    """Engagements of ``users`` (ascending), user by user in order of time; and the start of each user's engagements."""
    order = np.lexsort((engagements["engaged_us"], engagements["user"]))
    # Engagements of users without an impression in the bucket affect no row.
    order = order[np.isin(engagements["user"][order], users)]
    engagements = take(engagements, order)
    return engagements, np.append(np.searchsorted(engagements["user"], users), len(order))


def _with_ties_ordered(rows: Columns) -> Columns:
    """Total order of rows that are ordered by user, time, request and ad: only rows equal in every column tie."""
    first = ("user", "served_us", "request", "ad")
    # Few rows tie so far (repeated deliveries of an ad): only these rows are sorted by all columns.
    same = np.ones(max(len(rows["user"]) - 1, 0), np.bool_)
    for name in first:
        same &= rows[name][1:] == rows[name][:-1]
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same)[: len(rows["user"])])
    names = (*first, "position", *sorted(name for name in rows if name not in (*first, "position")))
    few = take(rows, tied)
    order = np.lexsort([few[name] for name in reversed(names)])
    for name, column in rows.items():
        column[tied] = few[name][order]
    return rows
