"""Number of anchors in each shard: the plan of an epoch needs no more of the files."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from scrollpast.shards.reader import PublishedShard, read_shard_content
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.block import anchor_offsets
from scrollpast.training.data.shard_blocks import positive_ads


def count_anchors(
    shards: Sequence[PublishedShard],
    vocabulary: Vocabulary,
    *,
    merge_repeats: bool = False,
    rank: int = 0,
    num_ranks: int = 1,
    num_threads: int = 2,
) -> NDArray[np.int64]:
    """Read the shards ``rank``, ``rank + num_ranks``, … and count: int64 [2, S], zeros for the others.

    Row 0 counts the anchors, row 1 the positives whose ad the vocabulary knows. The sum over ranks (one all-reduce) is
    what `AnchorStream` takes as ``counts``; with one rank it is complete as it is. Payloads are not verified
    here, as every one is when it is read for training.

    Raises:
        CorruptShardError: a shard is missing, or is not what its manifest says.
    """
    counts = np.zeros((2, len(shards)), np.int64)

    def count(number: int) -> None:
        content, frames = read_shard_content(shards[number], verify=False)
        lists = positive_ads(content, frames, shards[number])
        num_known = np.count_nonzero(vocabulary.ad_rows(lists.flatten().to_numpy()))
        counts[:, number] = anchor_offsets(lists, merge_repeats=merge_repeats)[-1], num_known

    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(count, range(rank, len(shards), num_ranks)))
    return counts
