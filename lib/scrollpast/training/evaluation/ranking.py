"""Rankings of ads for users, exact or by an index, and the ranks of targets in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from scrollpast.training.evaluation.held_out import Integers, Ragged

_CELLS_AT_ONCE = 1 << 24
"""Number of scores in memory at a time: 64 MiB."""

Search = Callable[[NDArray[np.float32], int], Integers]
"""Embeddings float32 [U, D] and k → rows int64 [U, k], best first, −1 where there are no more."""


class Scorer(Protocol):
    """Scores of ads for the U users of an evaluation; R rows of the vocabulary."""

    @property
    def num_users(self) -> int:
        """U."""
        ...

    @property
    def num_rows(self) -> int:
        """R."""
        ...

    def scores(self, start: int, stop: int) -> torch.Tensor:
        """Scores of all ads for some users: float32 [stop − start, R], a tensor that the caller may change."""
        ...

    def pair_scores(self, pairs: Ragged) -> NDArray[np.float32]:
        """Scores of each user's rows: float32 [Σ]."""
        ...


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Scorer by the inner product of a user's and an ad's embedding."""

    user_UD: torch.Tensor
    """float32 [U, D]"""
    ad_RD: torch.Tensor
    """float32 [R, D]; row r is row r of the vocabulary"""

    @property
    def num_users(self) -> int:
        return len(self.user_UD)

    @property
    def num_rows(self) -> int:
        return len(self.ad_RD)

    def scores(self, start: int, stop: int) -> torch.Tensor:
        return self.user_UD[start:stop] @ self.ad_RD.T

    def pair_scores(self, pairs: Ragged) -> NDArray[np.float32]:
        users, rows = torch.from_numpy(pairs.users), torch.from_numpy(pairs.rows)
        step = max(1, _CELLS_AT_ONCE // self.user_UD.shape[1])
        parts = [
            (self.user_UD[users[start : start + step]] * self.ad_RD[rows[start : start + step]]).sum(1)
            for start in range(0, len(rows), step)
        ]
        return np.concatenate([part.numpy() for part in parts]) if parts else np.zeros(0, np.float32)


def exact_top_rows(scorer: Scorer, known: Ragged, k: int) -> Integers:
    """Rows of the k ads with the highest scores: int64 [U, k], best first; −1 where there are fewer.

    Row 0 and the user's known rows are left out. Of equal scores the lower row comes first.
    """
    num_users, num_rows = scorer.num_users, scorer.num_rows
    width = min(k, num_rows)
    found = np.full((num_users, k), -1, np.int64)
    known_rows, known_users = torch.from_numpy(known.rows), torch.from_numpy(known.users)
    step = max(1, _CELLS_AT_ONCE // num_rows)
    for start in range(0, num_users, step):
        stop = min(start + step, num_users)
        scores = scorer.scores(start, stop)
        scores[:, 0] = -torch.inf
        first, last = known.offsets[start], known.offsets[stop]
        scores[known_users[first:last] - start, known_rows[first:last]] = -torch.inf
        rows = _top_rows(scores, width)
        best = scores.gather(1, rows)
        rows = rows.masked_fill(best == -torch.inf, -1)
        found[start:stop, :width] = rows.numpy()
    return found


def _top_rows(scores: torch.Tensor, width: int) -> torch.Tensor:
    """Rows of the highest scores: int64 [n, width], best first; of equal scores the lower row first."""
    # One more than wanted shows where equal scores lie on both sides of the cut: topk takes any of them.
    best, rows = scores.topk(min(width + 1, scores.shape[1]), dim=1)
    if best.shape[1] > width:
        last = best[:, width - 1]
        (is_cut,) = torch.nonzero((last == best[:, width]) & (last > -torch.inf), as_tuple=True)
        rows = rows[:, :width]
        if len(is_cut):
            cut, last = scores[is_cut], last[is_cut, None]
            is_equal = cut == last
            num_wanted = width - (cut > last).sum(1, keepdim=True)
            is_in = (cut > last) | (is_equal & (is_equal.cumsum(1) <= num_wanted))
            rows[is_cut] = is_in.nonzero()[:, 1].view(-1, width)
    # topk leaves the order of equal scores open: order by row, then by score without disturbing the rows.
    rows = rows.sort(dim=1).values
    order = scores.gather(1, rows).sort(dim=1, descending=True, stable=True).indices
    return rows.gather(1, order)


def searched_top_rows(search: Search, user_UD: torch.Tensor, known: Ragged, k: int) -> Integers:
    """The k best ads of an index: int64 [U, k]; −1 where the index finds fewer. Known rows are left out.

    The query asks for k more rows than the user has known rows, in groups of users with similar numbers of known rows.
    """
    found = np.full((len(user_UD), k), -1, np.int64)
    lengths = known.lengths
    users = user_UD.numpy()
    is_known = _members(known, int(known.rows.max(initial=0)) + 1)
    sizes = np.where(lengths == 0, 0, 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64))
    for size in np.unique(sizes).tolist():
        (of_size,) = np.nonzero(sizes == size)
        rows = search(users[of_size], k + size)
        is_left_out = (rows <= 0) | is_known(of_size[:, None], rows)
        # A stable sort moves excluded rows behind kept rows, and keeps the order of both.
        order = np.argsort(is_left_out, axis=1, kind="stable")[:, :k]
        rows = np.where(is_left_out, -1, rows)
        found[of_size] = np.take_along_axis(rows, order, axis=1)
    return found


def ranks_in(top_UK: Integers, wanted: Ragged) -> Integers:
    """Rank of each wanted row in its user's list: int64 [Σ], 0 = first, −1 = not there (nor is row 0)."""
    num_users, k = top_UK.shape
    num_rows = 1 + max(int(top_UK.max(initial=0)), int(wanted.rows.max(initial=0)))
    keys = (np.arange(num_users)[:, None] * num_rows + top_UK)[top_UK > 0]
    places = np.broadcast_to(np.arange(k), top_UK.shape)[top_UK > 0]
    order = np.argsort(keys)
    keys, places = keys[order], places[order]
    wanted_keys = wanted.users * num_rows + wanted.rows
    at = np.searchsorted(keys, wanted_keys).clip(max=max(0, len(keys) - 1))
    if not len(keys):
        return np.full(len(wanted_keys), -1, np.int64)
    return np.where((keys[at] == wanted_keys) & (wanted.rows > 0), places[at], -1)


def _members(lists: Ragged, num_rows: int) -> Callable[[Integers, Integers], NDArray[np.bool_]]:
    keys = np.sort(lists.users * num_rows + lists.rows)

    def is_member(users: Integers, rows: Integers) -> NDArray[np.bool_]:
        if not len(keys):
            return np.zeros(np.broadcast_shapes(users.shape, rows.shape), bool)
        wanted = users * num_rows + rows
        at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return (keys[at] == wanted) & (rows >= 0) & (rows < num_rows)

    return is_member
