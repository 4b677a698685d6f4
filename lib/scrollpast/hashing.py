"""Spark's ``xxhash64`` over NumPy and Arrow columns, and what is derived from it.

Buckets, 63-bit ids and every seeded choice come from this hash, so that Spark and NumPy agree on them.
The algorithm is XXH64 (Y. Collet, https://github.com/Cyan4973/xxHash) with the seed that Spark uses, 42; a
64-bit integer is hashed as its eight little-endian bytes, a string as its UTF-8 bytes. Columns are chained
as Spark chains them: the hash of one is the seed of the next.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.compiled import compiled, frozen, inlined

SPARK_SEED = 42
ID_MASK = np.int64(0x7FFF_FFFF_FFFF_FFFF)

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)


def xxhash64(values: NDArray[np.int64], seed: int | NDArray[np.int64] = SPARK_SEED) -> NDArray[np.int64]:
    """Hash 64-bit integers, element by element.

    Args:
        values: int64 [N].
        seed: one seed for all, or int64 [N] (the hashes of the columns before, to chain).

    Returns:
        int64 [N], equal to Spark's ``xxhash64(values)`` when the seed is ``SPARK_SEED``.
    """
    seeds = frozen(np.atleast_1d(np.asarray(seed, np.int64)), np.int64)
    return _hash_integers(frozen(values, np.int64), seeds)


def seeded_hash(seed: int, *columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Hash of several int64 [N] columns under a seed of the user's; the source of every random choice."""
    state: int | NDArray[np.int64] = int(xxhash64(np.array([seed], np.int64))[0])
    for column in columns:
        state = xxhash64(column, state)
    return np.asarray(state)


def bucket_of(hashes: NDArray[np.int64], num_buckets: int) -> NDArray[np.int32]:
    """``pmod(hash, num_buckets)`` as int32 [N]: the bucket of a user whose ``xxhash64`` is given."""
    return np.mod(hashes, np.int64(num_buckets)).astype(np.int32)


def hash_column(column: pa.Array) -> NDArray[np.int64]:
    """``xxhash64`` of an id column, int64 or string, as int64 [N]. Nulls hash like 0 or the empty string."""
    if pa.types.is_integer(column.type):
        return xxhash64(integers(column))
    column = column.cast(pa.large_string())
    offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    data = column.buffers()[2]
    text = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    return _hash_strings(frozen(offsets, np.int64), frozen(text, np.uint8), np.uint64(SPARK_SEED))


def ids_of(column: pa.Array, hashes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The int64 ids of a column: integers as they are, strings as the low 63 bits of their ``hashes``.

    Two of n distinct strings share an id with a probability of about n² / 2⁶⁴.
    """
    return integers(column) if pa.types.is_integer(column.type) else hashes & ID_MASK


def integers(column: pa.Array, null: int = 0) -> NDArray[np.int64]:
    """An integer column as int64 [N], nulls replaced."""
    if column.null_count:
        column = column.fill_null(pa.scalar(null, column.type))
    return column.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)


@inlined
def _rotate(value: Any, bits: int) -> Any:
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


@inlined
def _round(state: Any, lane: Any) -> Any:
    return _rotate(state + lane * _P2, 31) * _P1


@inlined
def _read(text: NDArray[np.uint8], at: int, width: int) -> Any:
    value = np.uint64(0)
    for i in range(width):
        value |= np.uint64(text[at + i]) << np.uint64(8 * i)
    return value


@inlined
def _finish(state: Any) -> Any:
    state ^= state >> np.uint64(33)
    state *= _P2
    state ^= state >> np.uint64(29)
    state *= _P3
    return np.int64(state ^ (state >> np.uint64(32)))


@compiled
def _hash_integers(values: NDArray[np.int64], seeds: NDArray[np.int64]) -> NDArray[np.int64]:
    hashes = np.empty(len(values), np.int64)
    step = 1 if len(seeds) == len(values) else 0  # one seed for all, or one each
    for row in range(len(values)):
        state = np.uint64(seeds[row * step]) + _P5 + np.uint64(8)
        state = _rotate(state ^ _round(np.uint64(0), np.uint64(values[row])), 27) * _P1 + _P4
        hashes[row] = _finish(state)
    return hashes


@compiled
def _hash_strings(offsets: NDArray[np.int64], text: NDArray[np.uint8], seed: Any) -> NDArray[np.int64]:
    hashes = np.empty(len(offsets) - 1, np.int64)
    for row in range(len(hashes)):
        at, end = offsets[row], offsets[row + 1]
        length = np.uint64(end - at)
        if end - at >= 32:
            v1, v2, v3, v4 = seed + _P1 + _P2, seed + _P2, seed, seed - _P1
            while end - at >= 32:
                v1 = _round(v1, _read(text, at, 8))
                v2 = _round(v2, _read(text, at + 8, 8))
                v3 = _round(v3, _read(text, at + 16, 8))
                v4 = _round(v4, _read(text, at + 24, 8))
                at += 32
            state = _rotate(v1, 1) + _rotate(v2, 7) + _rotate(v3, 12) + _rotate(v4, 18)
            for lane in (v1, v2, v3, v4):
                state = (state ^ _round(np.uint64(0), lane)) * _P1 + _P4
        else:
            state = seed + _P5
        state += length
        while end - at >= 8:
            state = _rotate(state ^ _round(np.uint64(0), _read(text, at, 8)), 27) * _P1 + _P4
            at += 8
        if end - at >= 4:
            state = _rotate(state ^ (_read(text, at, 4) * _P1), 23) * _P2 + _P3
            at += 4
        while at < end:
            state = _rotate(state ^ (np.uint64(text[at]) * _P5), 11) * _P1
            at += 1
        hashes[row] = _finish(state)
    return hashes
