"""The data set of one rank among several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from scrollpast.config.training_options import Training
from scrollpast.shards.reader import ShardReader
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.block import block_features
from scrollpast.training.data.counting import count_anchors
from scrollpast.training.data.sampling import Sampling
from scrollpast.training.data.stream import AnchorStream
from scrollpast.training.engine.distributed import raise_on_all_ranks


def open_stream(
    options: Training, days: Sequence[str], vocabulary: Vocabulary, rank: int, num_ranks: int
) -> AnchorStream:
    """The rank's part of the data; the ranks share the work of counting."""
    counts: NDArray[np.int64] | None = None
    if num_ranks > 1:
        with raise_on_all_ranks():
            shards = ShardReader(days, features=block_features(vocabulary)).shards
            counts = count_anchors(
                shards,
                vocabulary,
                merge_repeats=options.data.merge_repeats,
                rank=rank,
                num_ranks=num_ranks,
            )
        dist.all_reduce(torch.from_numpy(counts))
    with raise_on_all_ranks():
        return AnchorStream(
            days,
            vocabulary,
            options.data,
            Sampling.of(options),
            rank=rank,
            num_ranks=num_ranks,
            counts=counts,
        )
    raise AssertionError("the agreement raises where a rank failed")
