"""Who reads what: the anchors of an epoch cut into lanes, and lanes dealt to ranks. Integers only, no files.

All anchors of all shards, shard after shard in the epoch's order, are one line. It is cut into L lanes of equal
length (to one anchor); every batch of all ranks together takes the same number from each lane, and rank r of R
has the lanes r · L/R … (r + 1) · L/R − 1. So the batch of all ranks together is the same for any R that divides
L, and a position is one number: the anchors that every lane has given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrollpast.errors import UserError

_LANES_AT_LEAST = 8
"""So that 1, 2, 4 or 8 ranks read the same batches, and a batch of one rank mixes eight places of the data."""


@dataclass(frozen=True)
class Segment:
    """Anchors ``first`` to ``stop`` (exclusive) of a shard; padding repeats what another lane reads."""

    shard: int
    first: int
    stop: int
    is_padding: bool

    def __len__(self) -> int:
        return self.stop - self.first


@dataclass(frozen=True)
class Lanes:
    """The cut of ``num_anchors`` anchors into ``num_lanes`` lanes, of which a batch takes ``lane_batch`` each."""

    num_anchors: int
    num_lanes: int
    lane_batch: int

    @property
    def length(self) -> int:
        """Anchors of the longest lane; another one may have one less."""
        return -(-self.num_anchors // self.num_lanes)

    def num_steps(self, position: int = 0) -> int:
        """Batches from ``position`` to the end of the epoch, the same for every lane."""
        return max(0, -(-(self.length - position) // self.lane_batch))

    def of_rank(self, rank: int, num_ranks: int) -> range:
        """The lanes of a rank."""
        per_rank = self.num_lanes // num_ranks
        return range(rank * per_rank, (rank + 1) * per_rank)

    def bounds(self, lane: int) -> tuple[int, int]:
        """First anchor of a lane in the line of all, and the one behind its last."""
        return lane * self.num_anchors // self.num_lanes, (lane + 1) * self.num_anchors // self.num_lanes

    def segments(
        self, lane: int, counts: NDArray[np.int64], order: NDArray[np.int64], *, padded_to: int | None
    ) -> list[Segment]:
        """Segments that a lane reads in an epoch, in this order.

        Args:
            counts: int64 [S], anchors of each shard.
            order: int64 [S], the shards' order in this epoch.
            padded_to: fill up to this many anchors with those that follow in the line, the first behind the last.
        """
        start, stop = self.bounds(lane)
        found = [Segment(*cut, is_padding=False) for cut in _cut(counts, order, start, stop)]
        while padded_to is not None and stop - start < padded_to:
            at = stop % self.num_anchors
            end = min(self.num_anchors, at + padded_to - (stop - start))
            found += [Segment(*cut, is_padding=True) for cut in _cut(counts, order, at, end)]
            stop += end - at
        return found


def lanes_of(num_anchors: int, batch_size: int, num_ranks: int, num_lanes: int | None) -> Lanes:
    """The cut for ranks with ``batch_size`` anchors a batch each.

    ``num_lanes`` None takes 8, or the number of ranks where that is larger, or fewer where the batch does not
    divide: whatever it is, it stays when the ranks are halved or doubled and the batch of all together stays.

    Raises:
        UserError: the lanes cannot be dealt to the ranks, or the batch to the lanes.
    """
    if num_lanes is None:
        num_lanes = num_ranks * math.gcd(batch_size, -(-_LANES_AT_LEAST // num_ranks))
    batch_of_all = batch_size * num_ranks
    if num_lanes < 1 or num_lanes % num_ranks or batch_of_all % num_lanes:
        raise UserError(
            "training.data.num_lanes",
            expected=f"a multiple of the {num_ranks} ranks that divides their batch of {batch_of_all:,} together",
            found=str(num_lanes),
            remedy="choose another, or null to have one chosen, or another batch size",
        )
    return Lanes(num_anchors, num_lanes, batch_of_all // num_lanes)


def _cut(
    counts: NDArray[np.int64], order: NDArray[np.int64], start: int, stop: int
) -> Iterator[tuple[int, int, int]]:
    """Shard, first and stop of the anchors ``start`` … ``stop`` − 1 of the line of all."""
    ends = np.cumsum(counts[order])
    at = int(np.searchsorted(ends, start, side="right"))
    while start < stop:
        before = int(ends[at] - counts[order[at]])
        end = min(stop, int(ends[at]))
        if end > start:
            yield int(order[at]), start - before, end - before
        start, at = max(start, end), at + 1
