"""One shard as blocks, and the blocks that stay in memory from epoch to epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.record_schema import POSITIVE_FEATURES
from scrollpast.shards.codec import decode_frames
from scrollpast.shards.framing import Frames
from scrollpast.shards.reader import PublishedShard, decode_shard, read_shard_content
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.block import Block, Integers, anchor_offsets, block_of

_ENTRY_BYTES = 4096
"""Bytes of Python objects around the arrays of a block, approximately."""


class BlockCache:
    """Decoded blocks and the anchors of shards, as many as fit; the first to come stay.

    An epoch reads every block once: throwing one out for another would spare nothing. Several threads may use it.
    """

    def __init__(self, num_bytes: int) -> None:
        self._room = num_bytes
        self._blocks: dict[tuple[int, int], Block] = {}
        self._offsets: dict[int, Integers] = {}

    def block(self, shard: int, number: int) -> Block | None:
        """A block that was kept."""
        return self._blocks.get((shard, number))

    def offsets(self, shard: int) -> Integers | None:
        """``anchor_offsets`` of a shard that was kept."""
        return self._offsets.get(shard)

    def keep_block(self, shard: int, number: int, block: Block) -> None:
        """Keep a block if there is room."""
        if self._has_room(block.num_bytes):
            self._blocks[shard, number] = block

    def keep_offsets(self, shard: int, offsets: Integers) -> None:
        """Keep the anchors of a shard if there is room."""
        if self._has_room(offsets.nbytes):
            self._offsets[shard] = offsets

    def _has_room(self, num_bytes: int) -> bool:
        # Two threads at once may overdraw by a block each: that is not worth a lock.
        needed = num_bytes + _ENTRY_BYTES
        if needed > self._room:
            return False
        self._room -= needed
        return True


class ShardBlocks:
    """A shard whose records are cut into blocks of ``block_records``; read when a block is not in the cache.

    Args:
        number: the shard's number in the stream's list.
        schema: the features of `block_features`, typed.

    Raises:
        CorruptShardError: here or in `block`, the shard is not what its manifest says.
    """

    def __init__(
        self,
        shard: PublishedShard,
        number: int,
        schema: pa.Schema,
        vocabulary: Vocabulary,
        cache: BlockCache,
        *,
        block_records: int,
        sample_by_weight: bool,
        explicit_boost: float,
        has_neighbours: bool,
        merge_repeats: bool,
        kind_weights: NDArray[np.float32],
        verify: bool,
    ) -> None:
        self.number = number
        self._shard, self._schema, self._vocabulary, self._cache = shard, schema, vocabulary, cache
        self._sample_by_weight, self._explicit_boost = sample_by_weight, explicit_boost
        self._has_neighbours, self._verify = has_neighbours, verify
        self._merge_repeats, self._kind_weights = merge_repeats, kind_weights
        self._content: tuple[pa.Buffer, Frames] | None = None
        offsets = cache.offsets(number)
        if offsets is None:
            offsets = anchor_offsets(positive_ads(*self._read(), shard), merge_repeats=merge_repeats)
            cache.keep_offsets(number, offsets)
        self.anchor_offsets: Integers = offsets
        """int64 [R + 1]: anchors before each record of the shard."""
        num_records = len(offsets) - 1
        self.bounds = np.append(np.arange(0, num_records, block_records), num_records)
        """int64: the first record of each block, and the end."""

    def block(self, number: int) -> Block:
        """The block of this number, decoded."""
        block = self._cache.block(self.number, number)
        if block is None:
            shard, first, stop = self._shard, int(self.bounds[number]), int(self.bounds[number + 1])
            content, frames = self._read()
            # Verified always, as the loops over a block look at one list by the length of another.
            batch = decode_shard(shard, content, frames, self._schema, first=first, stop=stop)
            block = block_of(
                batch,
                self.number,
                first,
                self._vocabulary,
                sample_by_weight=self._sample_by_weight,
                explicit_boost=self._explicit_boost,
                has_neighbours=self._has_neighbours,
                merge_repeats=self._merge_repeats,
                kind_weights=self._kind_weights,
            )
            self._cache.keep_block(self.number, number, block)
        return block

    def _read(self) -> tuple[pa.Buffer, Frames]:
        if self._content is None:
            self._content = read_shard_content(self._shard, verify=self._verify)
        return self._content


def positive_ads(content: Any, frames: Frames, shard: PublishedShard) -> pa.Array:
    """The lists of positive ads of all records of a shard: their anchors."""
    name = next(iter(POSITIVE_FEATURES))
    schema = pa.schema([pa.field(name, POSITIVE_FEATURES[name])])
    return decode_frames(content, frames, schema, shard.uri, remedy=shard.remedy).column(name)
