"""The plan in integers: lanes are contiguous, equal to one anchor, and cover the line of all anchors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.errors import UserError
from scrollpast.training.data.order import permutation
from scrollpast.training.data.plan import Lanes, Segment, lanes_of

COUNTS = st.lists(st.integers(0, 20), min_size=1, max_size=8).filter(any)


@given(counts=COUNTS, num_lanes=st.integers(1, 9), seed=st.integers(0, 99))
def test_lanes_cover_every_anchor_once_and_differ_by_one_at_most(
    counts: list[int], num_lanes: int, seed: int
) -> None:
    sizes, order = np.array(counts), permutation(len(counts), seed)
    lanes = Lanes(sum(counts), num_lanes, lane_batch=1)
    read = []
    for lane in range(num_lanes):
        segments = lanes.segments(lane, sizes, order, padded_to=None)
        assert sum(map(len, segments)) in (lanes.length, lanes.length - 1)
        read += [(s.shard, anchor) for s in segments for anchor in range(s.first, s.stop)]
    assert sorted(read) == [(shard, anchor) for shard, size in enumerate(counts) for anchor in range(size)]


@given(counts=COUNTS, num_lanes=st.integers(1, 9), lane_batch=st.integers(1, 50))
def test_every_lane_is_filled_up_to_the_same_number_of_whole_batches(
    counts: list[int], num_lanes: int, lane_batch: int
) -> None:
    lanes = Lanes(sum(counts), num_lanes, lane_batch)
    target = lanes.num_steps() * lane_batch
    for lane in range(num_lanes):
        segments = lanes.segments(lane, np.array(counts), np.arange(len(counts)), padded_to=target)
        assert sum(map(len, segments)) == target
        flags = [segment.is_padding for segment in segments]
        assert flags == sorted(flags)  # what fills up comes last


def test_a_lane_that_ends_inside_a_shard_is_filled_up_with_what_follows_there() -> None:
    lanes = Lanes(num_anchors=10, num_lanes=2, lane_batch=4)
    segments = lanes.segments(0, np.array([7, 3]), np.array([0, 1]), padded_to=8)
    assert segments == [Segment(0, 0, 5, False), Segment(0, 5, 7, True), Segment(1, 0, 1, True)]


@pytest.mark.parametrize(("num_ranks", "num_lanes"), [(1, 8), (2, 8), (4, 8), (8, 8), (16, 16), (3, 9)])
def test_one_to_eight_ranks_have_the_same_lanes(num_ranks: int, num_lanes: int) -> None:
    batch_of_all = 16 * 9 * 8
    assert lanes_of(100, batch_of_all // num_ranks, num_ranks, None).num_lanes == num_lanes


@given(batch_size=st.integers(1, 100), num_ranks=st.integers(1, 20))
def test_the_chosen_lanes_always_divide(batch_size: int, num_ranks: int) -> None:
    lanes = lanes_of(1000, batch_size, num_ranks, None)
    assert lanes.num_lanes % num_ranks == 0
    assert lanes.lane_batch * lanes.num_lanes == batch_size * num_ranks


def test_lanes_that_ranks_cannot_share_are_refused() -> None:
    with pytest.raises(UserError, match="a multiple of the 3 ranks that divides their batch of 24 together"):
        lanes_of(100, 8, 3, 8)


def test_an_order_is_fixed_for_ever() -> None:
    assert permutation(8, 7, 0).tolist() == [6, 0, 4, 7, 1, 5, 2, 3]
    assert sorted(permutation(1000, 7, 1).tolist()) == list(range(1000))
    assert permutation(1000, 7, 1).tolist() != permutation(1000, 7, 2).tolist()
