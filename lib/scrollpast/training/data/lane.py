"""One lane of an epoch, read from its files: block after block, shuffled inside, cut to pieces of equal size."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from scrollpast.shards.reader import PublishedShard
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.block import Block, Integers, OpenShard
from scrollpast.training.data.expansion import Piece, concatenate, expand
from scrollpast.training.data.options import DataOptions
from scrollpast.training.data.order import permutation
from scrollpast.training.data.plan import Segment


@dataclass(frozen=True)
class Run:
    """Anchors of one block that follow each other in a lane: numbers of ``block.positives``, int64 [n]."""

    block: Block
    anchors: Integers
    is_padding: bool

    def __len__(self) -> int:
        return len(self.anchors)


@dataclass(frozen=True)
class LaneReader:
    """Reads lanes; holds nothing but what all of them share, and so serves several threads at once."""

    shards: Sequence[PublishedShard]
    schema: pa.Schema
    vocabulary: Vocabulary
    options: DataOptions

    def pieces(self, segments: Sequence[Segment], epoch: int, position: int, size: int) -> Generator[Piece]:
        """The anchors from ``position`` on in pieces of ``size``; the last one is smaller where they end before.

        Memory: the bytes of one shard, one block decoded, one piece.
        """
        options = self.options
        held: list[Piece] = []
        missing = size
        for run in self._runs(segments, epoch, position):
            at = 0
            while at < len(run):
                part = expand(
                    run.block,
                    run.anchors[at : at + missing],
                    num_hard=options.num_hard,
                    max_history=options.max_history,
                    seed=options.seed,
                    epoch=epoch,
                    is_padding=run.is_padding,
                )
                held.append(part)
                at, missing = at + len(part), missing - len(part)
                if not missing:
                    yield concatenate(held)
                    held, missing = [], size
        if held:
            yield concatenate(held)

    def _runs(self, segments: Sequence[Segment], epoch: int, skipped: int) -> Iterator[Run]:
        """What lies behind the first ``skipped`` anchors; a shard that is skipped whole is not read."""
        opened: tuple[int, OpenShard] | None = None
        for segment in segments:
            if skipped >= len(segment):
                skipped -= len(segment)
                continue
            # Padding mostly goes on where the lane ended: the shard is open already.
            if opened is None or opened[0] != segment.shard:
                opened = None  # let go of the bytes before the next ones are read
                opened = (segment.shard, self._open(segment.shard))
            yield from self._runs_of(opened[1], segment, epoch, skipped)
            skipped = 0

    def _open(self, shard: int) -> OpenShard:
        return OpenShard(self.shards[shard], shard, self.schema, verify=self.options.verify)

    def _runs_of(self, shard: OpenShard, segment: Segment, epoch: int, skipped: int) -> Iterator[Run]:
        options, offsets = self.options, shard.anchor_offsets
        # Blocks lie on a grid over the shard's records, whichever part of them the segment takes.
        size, num_records = options.block_records, len(offsets) - 1
        bounds = np.append(np.arange(0, num_records, size), num_records)
        firsts = np.clip(offsets[bounds[:-1]], segment.first, segment.stop)
        stops = np.clip(offsets[bounds[1:]], segment.first, segment.stop)
        blocks = np.flatnonzero(stops > firsts)
        keys = (epoch, segment.shard, segment.first)
        if options.is_shuffled:
            blocks = blocks[permutation(len(blocks), options.seed, *keys)]
        for number in blocks.tolist():
            first, stop = int(firsts[number]), int(stops[number])
            if skipped >= stop - first:
                skipped -= stop - first
                continue
            begin, end = int(bounds[number]), int(bounds[number + 1])
            block = shard.block(begin, end, self.vocabulary, options.explicit_boost)
            anchors = np.arange(first, stop) - offsets[begin]
            if options.is_shuffled:
                anchors = anchors[permutation(len(anchors), options.seed, *keys, number)]
            yield Run(block, np.ascontiguousarray(anchors[skipped:]), segment.is_padding)
            skipped = 0
