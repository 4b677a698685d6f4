"""TFRecord shards by the fastest public writers: tfx-bsl's C++ encoder of Arrow batches, TensorFlow's record writer."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder


class Shards:
    """One file a bucket; batches come with their rows in order of the column ``bucket``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._encoder = RecordBatchToExamplesEncoder()
        self._writers: dict[int, tf.io.TFRecordWriter] = {}

    def write(self, batch: pa.RecordBatch) -> None:
        buckets = batch["bucket"].to_pylist()
        columns = [name for name in batch.schema.names if name != "bucket"]
        for bucket, example in zip(buckets, self._encoder.encode(batch.select(columns)), strict=True):
            if bucket not in self._writers:
                path = self._folder / f"part-{bucket:05d}.tfrecord"
                self._writers[bucket] = tf.io.TFRecordWriter(str(path))
            self._writers[bucket].write(example)

    def __enter__(self) -> Shards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers.values():
            writer.close()


def record_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch in the form that tfx-bsl reads: lists of int64 and float, a list of one value for a single value."""
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name == "bucket":
            columns[name] = column
        elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            item = pa.float32() if pa.types.is_floating(column.type.value_type) else pa.int64()
            columns[name] = pc.fill_null(column.cast(pa.list_(item)), pa.scalar([], pa.list_(item)))
        else:
            offsets = pa.array(np.arange(len(column) + 1, dtype=np.int32))
            columns[name] = pa.ListArray.from_arrays(offsets, column.cast(pa.int64()))
    return pa.RecordBatch.from_pydict(columns)
