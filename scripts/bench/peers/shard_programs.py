"""Programs that write or read shards, each printing its rate and the sum of the first records' values as JSON.

Called by scripts/bench/bench_shards.py as ``shard_programs.py TASK PROGRAM FOLDER RECORDS RUN``. Libraries are imported
and warmed up before the clock starts.
"""

from __future__ import annotations

import json
import os
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from scrollpast.record_schema import NEGATIVE_FEATURES, POSITIVE_FEATURES, record_schema
from scrollpast.shards.codec import decode_frames, encode_records
from scrollpast.shards.framing import index_frames

SUMMED = 10_000
"""Records whose values are summed up for the comparison; every program handles at least as many."""
NUM_SLOW = 20_000
"""Records for programs that take one record at a time: their rate does not depend on the number."""
THREADS = int(os.environ.get("THREADS", "1"))
BATCH = 8192


def records(count: int) -> pa.RecordBatch:
    """Records of 40 values: a user, 5 positives of 5 values, 2 negatives of 7."""
    generator = np.random.Generator(np.random.Philox(3))
    columns: dict[str, pa.Array] = {"user_id": pa.array(np.arange(count))}
    for features, number in ((POSITIVE_FEATURES, 5), (NEGATIVE_FEATURES, 2)):
        offsets = pa.array(np.arange(0, count * number + 1, number, dtype=np.int32))
        for name, kind in features.items():
            top = 2**62 if "hash" in name else 2**41 if "_ms" in name else 5000
            is_float = pa.types.is_floating(kind.value_type)
            values = (
                generator.random(count * number).astype(np.float32)
                if is_float
                else generator.integers(0, top, count * number)
            )
            columns[name] = pa.ListArray.from_arrays(offsets, pa.array(values))
    schema = record_schema(())
    return pa.RecordBatch.from_arrays(
        [columns[n].cast(schema.field(n).type) for n in schema.names], schema=schema
    )


def sum_of(batch: pa.RecordBatch) -> float:
    batch = batch.slice(0, SUMMED)
    # tfx-bsl reads lists of 64-bit offsets, and one value as a list of one.
    flat = [column.flatten() if pa.types.is_nested(column.type) else column for column in batch.columns]
    return round(
        sum(float(column.to_numpy(zero_copy_only=False).astype(np.float64).sum()) for column in flat), -15
    )


def timed(action: Callable[[], Any], count: int, warm: Callable[[], Any]) -> tuple[float, Any]:
    warm()
    started = time.perf_counter()
    result = action()
    return count / (time.perf_counter() - started), result


def as_lists(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch in the form that tfx-bsl reads: a list of one value for each single-valued feature."""
    offsets = pa.array(np.arange(batch.num_rows + 1, dtype=np.int32))
    return pa.RecordBatch.from_pydict(
        {
            name: column if pa.types.is_list(column.type) else pa.ListArray.from_arrays(offsets, column)
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
    )


def rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, np.ndarray]]:
    """Records as dictionaries of arrays, for writers that take a record at a time."""
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        is_list = pa.types.is_list(column.type)
        columns[name] = (
            column.flatten().to_numpy().reshape(batch.num_rows, -1) if is_list else column.to_numpy()[:, None]
        )
    for row in range(batch.num_rows):
        yield {name: values[row] for name, values in columns.items()}


# Writers: a batch to a file.


def batches_of(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Batches of the size that a job writes, so that no program allocates more memory than needed."""
    return (batch.slice(first, BATCH) for first in range(0, batch.num_rows, BATCH))


def write_scrollpast(batch: pa.RecordBatch, path: Path) -> None:
    with path.open("wb") as file:
        for part in batches_of(batch):
            file.write(encode_records(part))


def write_tfx_bsl(batch: pa.RecordBatch, path: Path) -> None:
    import tensorflow as tf
    from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

    encoder = RecordBatchToExamplesEncoder()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for part in batches_of(as_lists(batch)):
            for example in encoder.encode(part):
                writer.write(example)


def write_tensorflow(batch: pa.RecordBatch, path: Path) -> None:
    import tensorflow as tf

    train = tf.train
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows_of(batch):
            features = {
                name: train.Feature(float_list=train.FloatList(value=values))
                if values.dtype == np.float32
                else train.Feature(int64_list=train.Int64List(value=values))
                for name, values in row.items()
            }
            writer.write(train.Example(features=train.Features(feature=features)).SerializeToString())


def write_tfrecord(batch: pa.RecordBatch, path: Path) -> None:
    from tfrecord.writer import TFRecordWriter

    writer = TFRecordWriter(str(path))
    for row in rows_of(batch):
        writer.write({n: (v.tolist(), "float" if v.dtype == np.float32 else "int") for n, v in row.items()})
    writer.close()


def write_webdataset(batch: pa.RecordBatch, path: Path) -> None:
    from webdataset import TarWriter

    with TarWriter(str(path)) as writer:
        for number, row in enumerate(rows_of(batch)):
            writer.write(
                {"__key__": f"{number:09d}", **{f"{name}.npy": values for name, values in row.items()}}
            )


def write_streaming(batch: pa.RecordBatch, path: Path) -> None:
    from streaming import MDSWriter

    columns = {n: "ndarray:float32" if n.endswith("weight") else "ndarray:int64" for n in batch.schema.names}
    with MDSWriter(out=str(path), columns=columns) as writer:
        for row in rows_of(batch):
            writer.write(row)


# Readers: a file to batches of columns; every one returns the sum of the first records.


def read_scrollpast(path: Path) -> float:
    content = path.read_bytes()
    frames = index_frames(content, str(path))
    schema, first_batches = record_schema(()), []
    for first in range(0, len(frames), BATCH):
        stop = min(first + BATCH, len(frames))
        batch = decode_frames(content, frames, schema, str(path), first=first, stop=stop)
        if first < SUMMED:
            first_batches.append(batch)
    return sum_of(pa.Table.from_batches(first_batches).combine_chunks().to_batches()[0])


def parsed(paths: list[str], names: Iterable[str]) -> Any:
    """tf.data as TensorFlow's guides advise: batches parsed at once, ragged."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    kinds = {n: tf.float32 if n.endswith("weight") else tf.int64 for n in names}
    spec = {
        n: tf.io.FixedLenFeature([], k)
        if n == "user_id"
        else tf.io.RaggedFeature(k, row_splits_dtype=tf.int64)
        for n, k in kinds.items()
    }
    data = tf.data.TFRecordDataset(paths).batch(BATCH)
    return data.map(lambda x: tf.io.parse_example(x, spec), num_parallel_calls=THREADS).prefetch(2)


def read_tf_data(path: Path) -> float:
    total, seen = 0.0, 0
    for batch in parsed([str(path)], record_schema(()).names):
        for name, values in batch.items():
            flat = values.numpy() if name == "user_id" else values.flat_values.numpy()
            if seen == 0:
                size = len(flat) // len(batch["user_id"])
                total += float(flat[: SUMMED * size].astype(np.float64).sum())
            elif seen < SUMMED:
                size = len(flat) // len(batch["user_id"])
                total += float(flat[: (SUMMED - seen) * size].astype(np.float64).sum())
        seen += len(batch["user_id"])
    return round(total, -15)


def read_tfx_bsl(path: Path) -> float:
    import tensorflow as tf
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    decoder, first = ExamplesToRecordBatchDecoder(), None
    for batch in tf.data.TFRecordDataset(str(path)).batch(SUMMED):
        found = decoder.DecodeBatch(batch.numpy().tolist())
        first = first if first is not None else found
    return sum_of(first)


def read_tfrecord(path: Path) -> float:
    from tfrecord.reader import tfrecord_loader

    kinds = {n: "float" if n.endswith("weight") else "int" for n in record_schema(()).names}
    return _sum_rows(tfrecord_loader(str(path), None, kinds))


def read_webdataset(path: Path) -> float:
    import webdataset as wds

    return _sum_rows(
        {name: values for name, values in row.items() if not name.startswith("__")}
        for row in wds.WebDataset(str(path), shardshuffle=False, empty_check=False).decode()
    )


def read_streaming(path: Path) -> float:
    from streaming import StreamingDataset

    dataset = StreamingDataset(local=str(path), shuffle=False, batch_size=1)
    return _sum_rows(dataset[number] for number in range(len(dataset)))


def _sum_rows(rows: Iterable[dict[str, Any]]) -> float:
    total = 0.0
    for number, row in enumerate(rows):
        if number < SUMMED:
            total += sum(float(np.asarray(values).astype(np.float64).sum()) for values in row.values())
    return round(total, -15)


# Training input: anchors a second from the shards of a day.


def anchors(program: str, folder: Path, num_records: int) -> dict[str, float]:
    import torch
    from scripts.bench import plain_torch

    from scrollpast.config import load_config
    from scrollpast.training.data.sampling import Sampling
    from scrollpast.training.data.stream import AnchorStream
    from scrollpast.training.engine.step_input import Preparation

    torch.set_num_threads(1)
    vocabulary = plain_torch.example_vocabulary(1_000_000)
    day = folder / "ds=2026-11-20"
    if not day.exists():
        plain_torch.example_day(str(folder), vocabulary, num_records // 2)
    if program == "tf.data":
        paths = sorted(str(path) for path in day.rglob("*.tfrecord"))
        data = parsed(paths, record_schema(()).names)
        count = sum(int(batch["positive_ad_id"].flat_values.shape[0]) for batch in data)
        rate, _ = timed(lambda: [None for _ in data], count, lambda: None)
        return {"rate": rate, "sum": count}
    training = load_config(None, ["training.data.num_workers=0"]).training
    preparation = Preparation(vocabulary, training)

    def epoch(stream: AnchorStream) -> int:
        return sum(len(step.anchors) for step in preparation.steps(stream, 0))

    def opened() -> AnchorStream:
        return AnchorStream([str(day)], vocabulary, training.data, Sampling.of(training))

    warm = opened()
    epoch(warm)
    stream = warm if program == "from its cache" else opened()
    rate, _ = timed(lambda: epoch(stream), stream.num_anchors, lambda: None)
    return {"rate": rate, "sum": stream.num_anchors}


def main() -> None:
    task, program, place, count, run = sys.argv[1:]
    folder, num_records = Path(place), int(count)
    if task == "anchors":
        print(json.dumps(anchors(program, folder, num_records)))
        return
    if program == "streaming":
        # The package imports image and text libraries for data sets that are not read here.
        for name in ("torchvision", "transformers"):
            _absent(name)
    name = program.removesuffix(" 2 threads").replace(".", "_")
    is_row_wise = program in ("tensorflow", "tfrecord", "webdataset", "streaming")
    batch = records(num_records).slice(0, NUM_SLOW if is_row_wise else num_records)
    own_format = program in ("webdataset", "streaming")
    path = folder / f"{task}-{name}-{run}-{len(batch)}"
    write = globals()[f"write_{name}" if task == "write" or own_format else "write_scrollpast"]
    if task == "write":
        few = batch.slice(0, 100)
        rate, _ = timed(lambda: write(batch, path), len(batch), lambda: write(few, folder / "warm"))
        content = path.read_bytes()
        found = decode_frames(
            content, index_frames(content, str(path)), record_schema(()), str(path), stop=SUMMED
        )
        print(json.dumps({"rate": rate, "sum": sum_of(found)}))
        return
    write(batch, path)
    read = globals()[f"read_{name}"]
    rate, total = timed(lambda: read(path), len(batch), lambda: read(path))
    print(json.dumps({"rate": rate, "sum": total}))


def _absent(name: str) -> None:
    class Absent(types.ModuleType):
        __path__: ClassVar[list[str]] = []

        def __getattr__(self, attribute: str) -> Any:
            if attribute.startswith("__"):
                raise AttributeError(attribute)
            return type(attribute, (), {})

    for module in (name, *(f"{name}.{rest}" for rest in _SUBMODULES[name])):
        sys.modules[module] = Absent(module)


_SUBMODULES = {
    "torchvision": ("datasets", "transforms", "transforms.functional"),
    "transformers": (
        "feature_extraction_utils", "tokenization_utils_base", "models", "models.auto", "models.auto.tokenization_auto",
    ),
}  # fmt: skip


if __name__ == "__main__":
    main()
