"""Records with neighbours: negatives of a separate kind, beside the served negatives."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.config import NEIGHBOUR_CODE
from scrollpast.mining.neighbours.engaged import list_lengths
from scrollpast.record_schema import NEGATIVE_FEATURES, UNKNOWN

WEIGHT = 1.0
"""``negative_weight`` of every neighbour: all neighbours that passed the rules are drawn uniformly."""


def with_neighbours(
    batch: pa.RecordBatch, lengths: NDArray[np.int64], ads: NDArray[np.int64]
) -> pa.RecordBatch:
    """Replace the neighbours of the records by these.

    A neighbour was never served: its time, request, position and dwell are unknown (−1), so that it precedes the served
    negatives in the order of the lists.

    Args:
        batch: R records, of `scrollpast.record_schema.record_schema`.
        lengths: int64 [R], neighbours of each record.
        ads: int64 [Σ], their ids, record by record, ascending in each.
    """
    numbers = np.arange(batch.num_rows)
    kinds = batch.column("negative_kind")
    stays = kinds.flatten().to_numpy() != NEIGHBOUR_CODE
    record_of_served = np.repeat(numbers, list_lengths(kinds))[stays]
    record_of = np.concatenate([np.repeat(numbers, lengths), record_of_served])
    order = np.argsort(record_of, kind="stable")
    offsets = np.searchsorted(record_of[order], np.arange(batch.num_rows + 1)).astype(np.int32)
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name in NEGATIVE_FEATURES:
        served = columns[name].flatten().to_numpy()[stays]
        if name == "negative_ad_id":
            of_neighbours = ads
        else:
            value = {"negative_kind": NEIGHBOUR_CODE, "negative_weight": WEIGHT}.get(name, UNKNOWN)
            of_neighbours = np.full(len(ads), value, served.dtype)
        values = np.concatenate([of_neighbours, served])[order]
        columns[name] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=batch.schema)
