"""Grouping and as-of matching over sorted arrays: what the per-bucket rules are written in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def dense_codes(values: NDArray[np.integer]) -> Ints:
    """Number the distinct values of an [N] column in ascending order: int64 [N], dense from 0."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64, copy=False)


def pair_codes(first: Ints, second: Ints) -> Ints:
    """Number the distinct pairs of two [N] columns of dense codes, in ascending order: int64 [N], dense."""
    # Both are below N < 2³¹ (a bucket), so that the pair fits one integer and stays exact.
    return dense_codes(first * (int(second.max(initial=0)) + 1) + second)


def rank_in_group(groups: Ints, *order: NDArray[np.generic]) -> Ints:
    """Rank of every row in its group, from 0, by ``order`` (most significant first): int64 [N]."""
    by_group = np.lexsort((*reversed(order), groups))
    sorted_groups = groups[by_group]
    starts = np.flatnonzero(np.r_[True, sorted_groups[1:] != sorted_groups[:-1]]) if len(groups) else by_group
    sizes = np.diff(np.r_[starts, len(groups)])
    ranks = np.empty(len(groups), np.int64)
    ranks[by_group] = np.arange(len(groups)) - np.repeat(starts, sizes)
    return ranks


def last_at_or_before(row_key: Ints, row_time: Ints, row_order: Ints, key: Ints, time: Ints) -> Ints:
    """For every question (key, time) the last row with that key and a time not after it.

    Args:
        row_key, row_time: int64 [R] of the rows; ``row_order`` breaks ties of time.
        key, time: int64 [Q] of the questions.

    Returns:
        int64 [Q]: number of a row, or −1 where there is none.
    """
    num_rows = len(row_key)
    keys, times = np.concatenate([row_key, key]), np.concatenate([row_time, time])
    is_question = np.arange(len(keys)) >= num_rows
    ties = np.concatenate([row_order, np.zeros(len(key), np.int64)])
    by_key = np.lexsort((ties, is_question, times, keys))
    # Walking along the order, the place of the latest row seen; rows stand before questions of the same time.
    seen = np.maximum.accumulate(np.where(is_question[by_key], -1, np.arange(len(keys))))
    found = np.where(seen >= 0, by_key[np.maximum(seen, 0)], -1)
    found[(seen >= 0) & (keys[by_key] != keys[found])] = -1
    answers = np.empty(len(key), np.int64)
    questions = is_question[by_key]
    answers[by_key[questions] - num_rows] = found[questions]
    return answers


def has_between(event_key: Ints, event_time: Ints, key: Ints, start: Ints, end: Ints) -> NDArray[np.bool_]:
    """For every question (key, start, end): is there an event with that key in [start, end]? bool [Q]."""
    if not len(event_key):
        return np.zeros(len(key), np.bool_)
    no_ties = np.zeros(len(event_key), np.int64)
    latest = last_at_or_before(event_key, event_time, no_ties, key, end)
    return (latest >= 0) & (event_time[np.maximum(latest, 0)] >= start)
