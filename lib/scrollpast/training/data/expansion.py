"""Anchors of a block as the columns of a batch: history, known positives and the negatives drawn for each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scrollpast.compiled import compiled, inlined
from scrollpast.training.data.block import Block, Integers, Side
from scrollpast.training.data.history import History
from scrollpast.training.data.piece import NUMBERS, AnchorPiece

_DAY_MS = 86_400_000
_NO_END_MS = np.iinfo(np.int64).max
_HARD_STREAM, _NEIGHBOUR_STREAM = 0, -1
"""Keys of the random streams of an anchor: 0 leaves the anchor's own state, and no draw has the key −1."""


def expand(
    block: Block,
    anchors: Integers,
    *,
    num_hard: int,
    num_neighbours: int,
    max_history: int,
    max_passed: int = 0,
    seed: int,
    epoch: int,
    is_padding: bool = False,
) -> AnchorPiece:
    """The columns of some anchors.

    Args:
        anchors: int64 [n], numbers of positives in ``block.positives``.
        num_hard: K.
        num_neighbours: J; if more than 0, the block has to be one with neighbours.
        max_history: ads of the history at most, the latest.
        max_passed: ads that the user passed over before the anchor at most, the latest.
        seed: with ``epoch``, the user and the anchor it decides the draws; neither batch nor rank does.
        is_padding: give every anchor the weight 0.
    """
    num_anchors = len(anchors)
    numbers = np.empty((len(NUMBERS) + len(block.user_codes), num_anchors), np.int64)
    positives = block.positives
    _copy_numbers(
        anchors, block.record_of, block.user_ids, block.user_rows, block.user_codes, positives.ad_rows,
        positives.requests, positives.served_at_ms, positives.kinds, block.shard,
        block.first_record, numbers,
    )  # fmt: skip
    history_rows, history_lengths = _before(block, anchors, block.history, max_history)
    passed_rows, passed_lengths = _before(block, anchors, block.negatives, max_passed)
    known_lengths = np.empty(num_anchors, np.int64)
    _measure_known(anchors, block.record_of, positives.offsets, known_lengths)
    known_rows = np.empty(known_lengths.sum(), np.int64)
    _copy_known(anchors, block.record_of, positives.offsets, positives.ad_rows, known_rows)
    hard_numbers, hard_weights = _drawn(
        block, anchors, numbers, block.hard_draw_weights, num_values=2, num_draws=num_hard,
        ends_with_day=True, stream=_HARD_STREAM, seed=seed, epoch=epoch,
    )  # fmt: skip
    # A neighbour was served on no day, and so is not bounded by the anchor's.
    neighbour_numbers, neighbour_weights = _drawn(
        block, anchors, numbers, block.neighbour_draw_weights, num_values=1, num_draws=num_neighbours,
        ends_with_day=False, stream=_NEIGHBOUR_STREAM, seed=seed, epoch=epoch,
    )  # fmt: skip
    weights = np.zeros(num_anchors, np.float32) if is_padding else positives.weights[anchors]
    return AnchorPiece(
        numbers,
        weights,
        hard_numbers,
        hard_weights,
        neighbour_numbers,
        neighbour_weights,
        history_rows,
        history_lengths,
        passed_rows,
        passed_lengths,
        known_rows,
        known_lengths,
    )


def _drawn(
    block: Block,
    anchors: Integers,
    numbers: Integers,
    draw_weights: NDArray[np.float64],
    *,
    num_values: int,
    num_draws: int,
    ends_with_day: bool,
    stream: int,
    seed: int,
    epoch: int,
) -> tuple[Integers, NDArray[np.float32]]:
    """Draws of one source: int64 [num_values, n, draws] (row, request), float32 [2, n, draws] (weight, log Q).

    Args:
        numbers: what the piece says of its anchors, filled already.
        ends_with_day: draw only what was served no later than the end of the anchor's day.
        stream: key of the source's random numbers.
    """
    drawn_numbers = np.zeros((num_values, len(anchors), num_draws), np.int64)
    drawn_weights = np.zeros((2, len(anchors), num_draws), np.float32)
    if num_draws:
        negatives = block.negatives
        chosen = np.full((len(anchors), num_draws), -1, np.int64)
        _draw(
            numbers, anchors, block.positive_ad_ids, block.record_of, negatives.offsets, negatives.served_at_ms,
            block.latest_negative_ms, draw_weights, ends_with_day, stream, seed, epoch, chosen,
            drawn_weights[1],
        )  # fmt: skip
        _copy_chosen(
            chosen, negatives.ad_rows, negatives.requests, negatives.weights,
            drawn_numbers, drawn_weights,
        )  # fmt: skip
    return drawn_numbers, drawn_weights


@compiled
def _copy_numbers(
    anchors: Integers,
    record_of: Integers,
    user_ids: Integers,
    user_rows: Integers,
    user_codes: Integers,
    ad_rows: Integers,
    requests: Integers,
    served_at_ms: Integers,
    kinds: Integers,
    shard: int,
    first_record: int,
    numbers: Integers,
) -> None:
    for i in range(len(anchors)):
        anchor = anchors[i]
        record = record_of[anchor]
        numbers[0, i], numbers[1, i] = user_ids[record], user_rows[record]
        numbers[2, i], numbers[3, i] = ad_rows[anchor], requests[anchor]
        numbers[4, i], numbers[5, i] = served_at_ms[anchor], kinds[anchor]
        numbers[6, i], numbers[7, i] = shard, first_record + record
        for feature in range(len(user_codes)):
            numbers[8 + feature, i] = user_codes[feature, record]


@compiled
def _measure_known(anchors: Integers, record_of: Integers, offsets: Integers, lengths: Integers) -> None:
    for i in range(len(anchors)):
        record = record_of[anchors[i]]
        lengths[i] = offsets[record + 1] - offsets[record]


@compiled
def _copy_known(
    anchors: Integers, record_of: Integers, offsets: Integers, ad_rows: Integers, rows: Integers
) -> None:
    end = 0
    for i in range(len(anchors)):
        record = record_of[anchors[i]]
        for positive in range(offsets[record], offsets[record + 1]):
            rows[end] = ad_rows[positive]
            end += 1


def _before(block: Block, anchors: Integers, side: Side | History, most: int) -> tuple[Integers, Integers]:
    """Rows and lengths of the items that were served before each anchor: the latest ``most``, oldest first."""
    lengths = np.zeros(len(anchors), np.int64)
    if not most:
        return np.zeros(0, np.int64), lengths
    places = (
        block.record_of,
        block.positives.served_at_ms,
        side.offsets,
        side.served_at_ms,
        side.superseded_ms,
    )
    _measure_before(anchors, *places, most, lengths)
    rows = np.empty(lengths.sum(), np.int64)
    _copy_before(anchors, *places, side.ad_rows, lengths, rows)
    return rows, lengths


@compiled
def _measure_before(
    anchors: Integers,
    record_of: Integers,
    anchor_ms: Integers,
    offsets: Integers,
    served_at_ms: Integers,
    superseded_ms: Integers,
    most: int,
    lengths: Integers,
) -> None:
    for i in range(len(anchors)):
        record, at_ms = record_of[anchors[i]], anchor_ms[anchors[i]]
        count = 0
        for item in range(offsets[record], offsets[record + 1]):
            count += served_at_ms[item] < at_ms and at_ms <= superseded_ms[item]
        lengths[i] = min(count, most)


@compiled
def _copy_before(
    anchors: Integers,
    record_of: Integers,
    anchor_ms: Integers,
    offsets: Integers,
    served_at_ms: Integers,
    superseded_ms: Integers,
    ad_rows: Integers,
    lengths: Integers,
    rows: Integers,
) -> None:
    end = 0
    for i in range(len(anchors)):
        record, at_ms = record_of[anchors[i]], anchor_ms[anchors[i]]
        # From the latest backwards until the list is full: what is cut off is the oldest.
        end += lengths[i]
        at, item = end, offsets[record + 1]
        while at > end - lengths[i]:
            item -= 1
            if served_at_ms[item] < at_ms and at_ms <= superseded_ms[item]:
                at -= 1
                rows[at] = ad_rows[item]


@inlined
def _mixed(state: np.uint64, key: int) -> np.uint64:
    """One step of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) over a state that ``key`` was added to."""
    mixed = (state ^ np.uint64(key)) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@compiled
def _draw(
    numbers: Integers,
    anchors: Integers,
    ad_ids: Integers,
    record_of: Integers,
    offsets: Integers,
    served_at_ms: Integers,
    latest_ms: Integers,
    draw_weights: NDArray[np.float64],
    ends_with_day: bool,
    stream: int,
    seed: int,
    epoch: int,
    chosen: Integers,
    log_q: NDArray[np.float32],
) -> None:
    """Choose negatives for every anchor, by weight without replacement: their numbers, and log Q of each draw.

    ``numbers`` is filled already; ``chosen`` keeps −1 where the pool is used up.
    """
    pool = np.empty(1024, np.float64)
    for i in range(len(anchors)):
        record = record_of[anchors[i]]
        first, size = offsets[record], offsets[record + 1] - offsets[record]
        end_ms = (numbers[4, i] // _DAY_MS + 1) * _DAY_MS if ends_with_day else _NO_END_MS
        state = _mixed(_mixed(np.uint64(0), seed), epoch)
        # User, ad, request and time name an anchor.
        for key in (numbers[0, i], ad_ids[anchors[i]], numbers[3, i], numbers[4, i]):
            state = _mixed(state, key)
        if stream:
            state = _mixed(state, stream)
        if size > len(pool):
            pool = np.empty(2 * size, np.float64)
        pool[:size] = draw_weights[first : first + size]
        if latest_ms[record] >= end_ms:
            for at in range(size):
                if served_at_ms[first + at] >= end_ms:
                    pool[at] = 0.0
        for k in range(chosen.shape[1]):
            remaining = _sum(pool, size)
            if not remaining > 0.0:
                break
            target = (_mixed(state, k + 1) >> np.uint64(11)) * 2.0**-53 * remaining
            found, passed = -1, 0.0
            for at in range(size):
                if pool[at] > 0.0:
                    found = at  # rounding may leave the target at the very end: then the last one is meant
                    passed += pool[at]
                    if passed > target:
                        break
            chosen[i, k] = first + found
            log_q[i, k] = np.log(pool[found] / remaining)
            pool[found] = 0.0


@inlined
def _sum(values: NDArray[np.float64], size: int) -> float:
    """The sum of the first ``size`` values in four strands, which the processor adds at the same time."""
    first, second, third, fourth = 0.0, 0.0, 0.0, 0.0
    whole = size - size % 4
    for at in range(0, whole, 4):
        first += values[at]
        second += values[at + 1]
        third += values[at + 2]
        fourth += values[at + 3]
    for at in range(whole, size):
        first += values[at]
    return (first + second) + (third + fourth)


@compiled
def _copy_chosen(
    chosen: Integers,
    ad_rows: Integers,
    requests: Integers,
    weights: NDArray[np.float32],
    drawn_numbers: Integers,
    drawn_weights: NDArray[np.float32],
) -> None:
    for i in range(chosen.shape[0]):
        for k in range(chosen.shape[1]):
            negative = chosen[i, k]
            if negative >= 0:
                drawn_numbers[0, i, k] = ad_rows[negative]
                if len(drawn_numbers) > 1:
                    drawn_numbers[1, i, k] = requests[negative]
                drawn_weights[0, i, k] = weights[negative]
