"""Interface to trained towers: queries, search, and embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrollpast.compiled import compiled, frozen

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]

Lists = tuple[Integers, Integers]
"""Ads [Σ], oldest first, and offsets [U + 1]."""
Embed = Callable[[Integers, Lists, Mapping[str, Integers], Lists | None], Floats]
"""User ids [U], histories, features [U] by name, and ads passed over (None for towers that read none) → float32 [U, D].
"""
Search = Callable[[Floats, int, int | None], Integers]
"""Users float32 [U, D], k, and lists of the index to probe (None = exact search) → rows of the k nearest ads [U, k],
nearest first; −1 where there are fewer than k."""


@dataclass(frozen=True, eq=False)
class Retriever:
    """Opened exported towers and the index of their ads. Row r of ``ad_ids`` and ``ad_RD`` is the index's id r."""

    fingerprint: str
    """Version of the opened export."""
    user_features: Sequence[str]
    embed: Embed
    search: Search
    ad_ids: Integers
    """int64 [R]; row 0 is no ad"""
    ad_RD: Floats
    """float32 [R, D]"""
    num_lists: int = 0
    """Lists of the index; 0 = an index without lists, which searches all ads."""
    reads_passed: bool = False
    """Whether `embed` needs the ads that users passed over"""

    def scores(self, user_UD: Floats, users: Integers, rows: Integers) -> Floats:
        """Inner products of pairs: numbers of users [P] and rows of ads [P] → float32 [P].

        A pair's score does not depend on other pairs of the call, unlike the scores of an index.
        """
        found = np.empty(len(rows), np.float32)
        _inner_products(
            frozen(user_UD, np.float32),
            frozen(self.ad_RD, np.float32),
            frozen(users, np.int64),
            frozen(rows, np.int64),
            found,
        )
        return found


@compiled
def _inner_products(user_UD: Floats, ad_RD: Floats, users: Integers, rows: Integers, found: Floats) -> None:
    for pair in range(len(rows)):
        user, row = users[pair], rows[pair]
        total = 0.0
        for at in range(user_UD.shape[1]):
            total += user_UD[user, at] * ad_RD[row, at]
        found[pair] = total
