"""Packed columns: the bytes that tasks exchange through Spark's shuffle.

A message holds named NumPy arrays and a little metadata. Spark moves a message as one binary value, so that the
shuffle costs the compressed bytes of the columns and no row is converted to a JVM row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.mining.rules.groups import group

Columns = dict[str, NDArray[Any]]

_CODEC = "zstd"


def pack(columns: Mapping[str, NDArray[Any]], **metadata: Any) -> bytes:
    """Columns (1-d arrays of any lengths) and JSON-able metadata as bytes; :func:`unpack` is the inverse."""
    header = json.dumps(
        {
            "columns": [[name, array.dtype.str, len(array)] for name, array in columns.items()],
            "metadata": metadata,
        }
    ).encode()
    body = b"".join(np.ascontiguousarray(array).tobytes() for array in columns.values())
    raw = len(header).to_bytes(4, "little") + header + body
    packed: bytes = pa.Codec(_CODEC, compression_level=1).compress(raw, asbytes=True)
    return len(raw).to_bytes(8, "little") + packed


def unpack(message: bytes) -> tuple[Columns, dict[str, Any]]:
    """Columns and metadata of a message of :func:`pack`. The arrays are read-only views."""
    raw = pa.decompress(message[8:], int.from_bytes(message[:8], "little"), _CODEC, asbytes=True)
    at = 4 + int.from_bytes(raw[:4], "little")
    header = json.loads(raw[4:at])
    columns: Columns = {}
    for name, dtype, length in header["columns"]:
        columns[name] = np.frombuffer(raw, np.dtype(dtype), length, at)
        at += columns[name].nbytes
    return columns, header["metadata"]


def concatenate(parts: Sequence[Columns]) -> Columns:
    """Columns of several parts, one after the other; every part has the same columns."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def take(columns: Columns, rows: NDArray[Any]) -> Columns:
    """The given rows (an index or a mask) of every column."""
    # A mask costs five times an index for every column, because of branch mispredictions.
    at = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
    return {name: array.take(at) for name, array in columns.items()}


def split_by_bucket(columns: Columns, buckets: NDArray[np.int32]) -> Iterable[tuple[int, Columns]]:
    """Split columns by bucket: every bucket with rows, in order, with its rows in their order."""
    order, starts = group(buckets, int(buckets.max(initial=-1)) + 1)
    for bucket in np.flatnonzero(np.diff(starts)).tolist():
        yield bucket, take(columns, order[starts[bucket] : starts[bucket + 1]])
