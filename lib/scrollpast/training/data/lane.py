"""One lane of an epoch, read from its files: block after block, shuffled inside, cut to pieces of equal size."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.config.training_options import TrainingData
from scrollpast.shards.reader import PublishedShard
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.block import Block, Integers
from scrollpast.training.data.expansion import expand
from scrollpast.training.data.order import permutation
from scrollpast.training.data.piece import AnchorPiece, concatenate
from scrollpast.training.data.plan import Segment
from scrollpast.training.data.sampling import Sampling
from scrollpast.training.data.shard_blocks import BlockCache, ShardBlocks

_EXPANDED_ANCHORS = 2048
"""Anchors that are expanded in one call, about, however small the pieces are."""


@dataclass(frozen=True)
class AnchorRun:
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
    options: TrainingData
    sampling: Sampling
    cache: BlockCache
    kind_weights: NDArray[np.float32]
    """Factor of the weight of an anchor, by the code of its kind"""

    def pieces(
        self, segments: Sequence[Segment], epoch: int, position: int, size: int
    ) -> Generator[AnchorPiece]:
        """The anchors from ``position`` on in pieces of ``size``; the last one is smaller where they end before.

        Memory, beside the cache: the bytes of one shard, one block decoded, one piece.
        """
        held: list[AnchorPiece] = []
        missing = size
        for run in self._runs(segments, epoch, position):
            for part in self._parts(run, epoch, missing, size):
                held.append(part)
                missing -= len(part)
                if not missing:
                    yield concatenate(held)
                    held, missing = [], size
        if held:
            yield concatenate(held)

    def _parts(self, run: AnchorRun, epoch: int, first_size: int, size: int) -> Iterator[AnchorPiece]:
        """A run's anchors in parts: the first of ``first_size``, the others of ``size``, the last one of the rest.

        A lane's share of a batch may be small, and a call costs as much as a hundred anchors: many parts are
        expanded at once, and cut.
        """
        sampling, at = self.sampling, 0
        while at < len(run):
            stop = min(len(run), at + first_size + size * (_EXPANDED_ANCHORS // size))
            sizes = [min(first_size, stop - at)]
            sizes += [min(size, stop - first) for first in range(at + sizes[0], stop, size)]
            expanded = expand(
                run.block,
                run.anchors[at:stop],
                num_hard=sampling.num_hard,
                num_neighbours=sampling.num_neighbours,
                max_history=self.options.max_history,
                max_passed=self.options.max_passed,
                seed=sampling.seed,
                epoch=epoch,
                is_padding=run.is_padding,
            )
            yield from expanded.cut(sizes)
            at, first_size = stop, size

    def _runs(self, segments: Sequence[Segment], epoch: int, skipped: int) -> Iterator[AnchorRun]:
        """Anchors after the first ``skipped`` ones; a shard that is skipped whole is not read."""
        shard: ShardBlocks | None = None
        for segment in segments:
            if skipped >= len(segment):
                skipped -= len(segment)
                continue
            # Padding mostly goes on where the lane ended: the shard is open already.
            if shard is None or shard.number != segment.shard:
                shard = self._shard(segment.shard)
            yield from self._runs_of(shard, segment, epoch, skipped)
            skipped = 0

    def _shard(self, number: int) -> ShardBlocks:
        options = self.options
        return ShardBlocks(
            self.shards[number],
            number,
            self.schema,
            self.vocabulary,
            self.cache,
            block_records=options.block_records,
            sample_by_weight=self.sampling.sample_by_weight,
            explicit_boost=options.explicit_boost,
            has_neighbours=self.sampling.num_neighbours > 0,
            merge_repeats=options.merge_repeats,
            kind_weights=self.kind_weights,
            verify=options.verify,
        )

    def _runs_of(self, shard: ShardBlocks, segment: Segment, epoch: int, skipped: int) -> Iterator[AnchorRun]:
        offsets, bounds, seed = shard.anchor_offsets, shard.bounds, self.sampling.seed
        firsts = np.clip(offsets[bounds[:-1]], segment.first, segment.stop)
        stops = np.clip(offsets[bounds[1:]], segment.first, segment.stop)
        blocks = np.flatnonzero(stops > firsts)
        keys = (epoch, segment.shard, segment.first)
        if self.options.shuffle:
            blocks = blocks[permutation(len(blocks), seed, *keys)]
        for number in blocks.tolist():
            first, stop = int(firsts[number]), int(stops[number])
            if skipped >= stop - first:
                skipped -= stop - first
                continue
            anchors = np.arange(first, stop) - offsets[bounds[number]]
            if self.options.shuffle:
                anchors = anchors[permutation(len(anchors), seed, *keys, number)]
            block = shard.block(number)
            yield AnchorRun(block, block.anchor_positives[anchors[skipped:]], segment.is_padding)
            skipped = 0
