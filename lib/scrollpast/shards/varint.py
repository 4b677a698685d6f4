"""Protobuf's base-128 varints, for compiled loops: seven bits a byte, the lowest first, the top bit says "more"."""

from __future__ import annotations

import numpy as np

from scrollpast.shards.compiled import compiled

MAX_VARINT_BYTES = 10
_SEVEN = np.uint64(7)
_LOW_BITS = np.uint64(0x7F)
_MORE = np.uint64(0x80)


@compiled
def varint_bytes(value: int) -> int:
    """How many bytes the varint of an int64 takes: 1 to 9, or 10 for a negative number."""
    rest = np.uint64(value) >> _SEVEN
    size = 1
    while rest != np.uint64(0):
        size += 1
        rest >>= _SEVEN
    return size


@compiled
def put_varint(out: np.ndarray, at: int, value: int) -> int:
    """Write the varint of an int64 to ``out[at:]``; returns the position behind it. The caller made room."""
    rest = np.uint64(value)
    while rest >= _MORE:
        out[at] = np.uint8((rest & _LOW_BITS) | _MORE)
        rest >>= _SEVEN
        at += 1
    out[at] = np.uint8(rest)
    return at + 1


@compiled
def get_varint(data: np.ndarray, at: int, stop: int) -> tuple[np.uint64, int]:
    """Read a varint from ``data[at:stop]``: (value as uint64, position behind it), position -1 if malformed.

    Malformed: it does not end before ``stop``, takes more than ten bytes, or exceeds 64 bits.
    """
    value = np.uint64(0)
    shift = np.uint64(0)
    while at < stop:
        byte = np.uint64(data[at])
        at += 1
        if shift == np.uint64(63) and byte > np.uint64(1):
            return value, -1
        value |= (byte & _LOW_BITS) << shift
        if byte < _MORE:
            return value, at
        shift += _SEVEN
    return value, -1
