"""Metrics of single users: float64 [U], NaN where the metric is undefined for a user."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scrollpast.training.evaluation.exposures import Weights, shares_of_a_ratio
from scrollpast.training.evaluation.held_out import Integers, Ragged

Values = NDArray[np.float64]


def recall(ranks: Integers, targets: Ragged, k: int, *, counts: NDArray[np.bool_] | None = None) -> Values:
    """Share of the user's targets among the first k: hits / targets, all targets counted, also beyond k.

    Args:
        ranks: int64 [Σ] as `ranks_in` gives them.
        counts: bool [Σ], which targets are asked for; all if left out.
    """
    is_asked = np.ones(len(ranks), bool) if counts is None else counts
    users, num_users = targets.users, len(targets.lengths)
    hits = np.bincount(users[is_asked & (ranks >= 0) & (ranks < k)], minlength=num_users)
    return _ratio(hits, np.bincount(users[is_asked], minlength=num_users))


def ndcg(ranks: Integers, targets: Ragged, k: int) -> Values:
    """Normalised discounted cumulative gain of the first k; a target gains 1 (Järvelin and Kekäläinen, TOIS 2002).

    Σ over hits of 1 / log2(place + 1), over that of min(k, targets) hits at the top; places count from 1.
    """
    is_hit = (ranks >= 0) & (ranks < k)
    gains = 1.0 / np.log2(ranks[is_hit] + 2.0)
    num_users = len(targets.lengths)
    found = np.bincount(targets.users[is_hit], weights=gains, minlength=num_users)
    ideal = np.concatenate([np.zeros(1), np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))])
    return _ratio(found, ideal[np.minimum(targets.lengths, k)])


def weighted_recall(ranks: Integers, targets: Ragged, k: int, weights: Weights) -> Values:
    """Share of the weight of all targets of all users among the first k, as numbers of users with this mean.

    Σ w · hit / Σ w over all targets (self-normalised; see `exposures`). With equal weights it is the share of all
    targets that were found. A user's number is that of `shares_of_a_ratio`, which may lie outside [0, 1].

    Args:
        ranks: int64 [Σ] as `ranks_in` gives them.
        weights: float64 [Σ].
    """
    is_hit = (ranks >= 0) & (ranks < k)
    users, num_users = targets.users, len(targets.lengths)
    return shares_of_a_ratio(_sums(users, weights * is_hit, num_users), _sums(users, weights, num_users))


def weighted_ndcg(ranks: Integers, targets: Ragged, k: int, weights: Weights) -> Values:
    """Discounted cumulative gain of all users over that of ideal rankings; a target gains its weight.

    Σ over users of Σ over hits of w / log2(place + 1), over the same sum where each user's heaviest targets are at the
    top; places count from 1. A user's number is that of `shares_of_a_ratio`.
    """
    is_hit = (ranks >= 0) & (ranks < k)
    users, num_users = targets.users, len(targets.lengths)
    found = _sums(users[is_hit], weights[is_hit] / np.log2(ranks[is_hit] + 2.0), num_users)
    # Targets come by user: only the order within a user changes.
    heaviest = weights[np.lexsort((-weights, users))]
    place = np.arange(len(users)) - targets.offsets[users]
    is_shown = place < k
    ideal = _sums(users[is_shown], heaviest[is_shown] / np.log2(place[is_shown] + 2.0), num_users)
    return shares_of_a_ratio(found, ideal)


def share_in_top(ranks: Integers, served: Ragged, k: int) -> Values:
    """Share of the user's served ads without engagement among the first k."""
    hits = np.bincount(served.users[(ranks >= 0) & (ranks < k)], minlength=len(served.lengths))
    return _ratio(hits, served.lengths)


def auc(
    target_scores: NDArray[np.float32], targets: Ragged, served_scores: NDArray[np.float32], served: Ragged
) -> Values:
    """Probability that a target scores above an ad that the user passed over; equal scores count half.

    Targets and served ads of row 0 are left out: all of them have the same score.
    """
    sides = [(targets, target_scores, True), (served, served_scores, False)]
    kept = [side.rows > 0 for side, _, _ in sides]
    users = np.concatenate([side.users[keep] for (side, _, _), keep in zip(sides, kept, strict=True)])
    scores = np.concatenate([score[keep] for (_, score, _), keep in zip(sides, kept, strict=True)])
    is_target = np.concatenate(
        [np.full(int(keep.sum()), flag) for (_, _, flag), keep in zip(sides, kept, strict=True)]
    )
    order = np.lexsort((scores, users))
    users, scores, is_target = users[order], scores[order], is_target[order]
    num_users = len(targets.lengths)
    # Places from 1 within the user; those of equal scores share their mean (Mann and Whitney 1947).
    starts = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=num_users))])
    places = np.arange(len(users)) - starts[users] + 1.0
    is_first = np.ones(len(users), bool)
    is_first[1:] = (users[1:] != users[:-1]) | (scores[1:] != scores[:-1])
    group = np.cumsum(is_first) - 1
    means = np.bincount(group, weights=places) / np.maximum(np.bincount(group), 1)
    num_targets = np.bincount(users[is_target], minlength=num_users)
    num_served = np.bincount(users[~is_target], minlength=num_users)
    sums = np.bincount(users[is_target], weights=means[group[is_target]], minlength=num_users)
    return _ratio(sums - num_targets * (num_targets + 1) / 2, num_targets * num_served)


def _sums(users: Integers, weights: Weights, num_users: int) -> Weights:
    return np.bincount(users, weights, num_users).astype(np.float64)


def _ratio(above: NDArray[np.generic], below: NDArray[np.generic]) -> Values:
    return np.divide(above, below, out=np.full(len(below), np.nan), where=np.asarray(below) > 0)
