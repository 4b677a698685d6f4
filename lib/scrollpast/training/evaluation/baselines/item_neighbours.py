"""Baseline by item neighbours: ads whose positives come from the users of the ads that a user engaged with.

Item-based collaborative filtering: Sarwar et al., WWW 2001; the nearest neighbours of each item only: Deshpande and
Karypis, ACM TOIS 22(1), 2004.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scrollpast.compiled import compiled, frozen
from scrollpast.training.evaluation.baselines.baseline import Baseline
from scrollpast.training.evaluation.baselines.past import Past
from scrollpast.training.evaluation.held_out import HeldOut, Integers, Ragged

NUM_NEIGHBOURS = 200
"""Nearest ads of an ad that add to scores. Memory is 12 bytes for each of these and each ad."""
_CELLS_AT_ONCE = 1 << 24


@dataclass(frozen=True, eq=False)
class ItemNeighbours:
    """Scorer by the sum of the cosines of an ad and the ads of the user's history."""

    history: Ragged
    """Distinct rows of each user's positives on the history days"""
    neighbour_RN: Integers
    """int64 [R, N]: rows, nearest first, 0 = none"""
    cosine_RN: NDArray[np.float32]
    """float32 [R, N]"""

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.history.lengths)

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self.neighbour_RN)

    def scores(self, start: int, stop: int) -> torch.Tensor:
        """float32 [stop − start, R]; 0 for an ad that is no neighbour of the user's ads."""
        out = np.zeros((stop - start, self.num_rows), np.float32)
        offsets = frozen(self.history.offsets[start : stop + 1], np.int64)
        rows = frozen(self.history.rows, np.int64)
        _add_up(offsets, rows, frozen(self.neighbour_RN, np.int64), frozen(self.cosine_RN, np.float32), out)
        return torch.from_numpy(out)

    def pair_scores(self, pairs: Ragged) -> NDArray[np.float32]:
        """float32 [Σ]"""
        found = np.zeros(len(pairs.rows), np.float32)
        users, step = pairs.users, max(1, _CELLS_AT_ONCE // self.num_rows)
        for start in range(0, self.num_users, step):
            stop = min(start + step, self.num_users)
            part = slice(int(pairs.offsets[start]), int(pairs.offsets[stop]))
            found[part] = self.scores(start, stop).numpy()[users[part] - start, pairs.rows[part]]
        return found


def item_neighbours(past: Past, held_out: HeldOut) -> ItemNeighbours:
    """Fit by the cosine of the sets of users that have a positive of two ads: both / √(one · other)."""
    keys = np.unique(past.user * past.num_rows + past.row)
    user, row = keys // past.num_rows, keys % past.num_rows
    by_row = np.argsort(row, kind="stable")
    neighbour_RN = np.zeros((past.num_rows, NUM_NEIGHBOURS), np.int64)
    cosine_RN = np.zeros((past.num_rows, NUM_NEIGHBOURS), np.float32)
    _nearest(
        _offsets(user, len(past.user_id)),
        frozen(row, np.int64),
        _offsets(row, past.num_rows),
        frozen(user[by_row], np.int64),
        neighbour_RN,
        cosine_RN,
    )
    return ItemNeighbours(held_out.known, neighbour_RN, cosine_RN)


def _offsets(numbers: Integers, size: int) -> Any:
    counts = np.bincount(numbers, minlength=size)
    return frozen(np.concatenate([[0], np.cumsum(counts)]), np.int64)


@compiled
def _nearest(
    user_offsets: Any,
    rows_of_users: Any,
    row_offsets: Any,
    users_of_rows: Any,
    neighbour_RN: Any,
    cosine_RN: Any,
) -> None:
    num_rows, most = neighbour_RN.shape
    shared = np.zeros(num_rows, np.int64)
    touched = np.zeros(num_rows, np.int64)
    for row in range(num_rows):
        num_touched = 0
        for at in range(row_offsets[row], row_offsets[row + 1]):
            user = users_of_rows[at]
            for place in range(user_offsets[user], user_offsets[user + 1]):
                other = rows_of_users[place]
                if other != row:
                    if shared[other] == 0:
                        touched[num_touched] = other
                        num_touched += 1
                    shared[other] += 1
        # Ascending rows, and a stable sort: of equal cosines the lower row is nearer.
        others = np.sort(touched[:num_touched])
        cosines = np.zeros(num_touched, np.float32)
        own = row_offsets[row + 1] - row_offsets[row]
        for at in range(num_touched):
            other = others[at]
            cosines[at] = shared[other] / np.sqrt(own * (row_offsets[other + 1] - row_offsets[other]))
            shared[other] = 0
        order = np.argsort(-cosines, kind="mergesort")
        for at in range(min(most, num_touched)):
            neighbour_RN[row, at] = others[order[at]]
            cosine_RN[row, at] = cosines[order[at]]


@compiled
def _add_up(offsets: Any, rows: Any, neighbour_RN: Any, cosine_RN: Any, out_UR: Any) -> None:
    for user in range(len(offsets) - 1):
        for at in range(offsets[user], offsets[user + 1]):
            row = rows[at]
            for place in range(neighbour_RN.shape[1]):
                other = neighbour_RN[row, place]
                if other == 0:
                    break
                out_UR[user, other] += cosine_RN[row, place]


ITEM_NEIGHBOURS = Baseline(
    "item neighbours", "sum of the cosines of the ad and the user's past ads, by their users", item_neighbours
)
