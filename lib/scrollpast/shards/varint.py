"""Protobuf's base-128 varints, for compiled loops: seven bits a byte, the lowest first, the top bit says "more"."""

from __future__ import annotations

import numpy as np

from scrollpast.compiled import compiled, inlined
from scrollpast.shards.memory import leading_zeros, load_byte, load_uint64, signed, store_byte, store_uint64

MAX_VARINT_BYTES = 10
OVERRUN_BYTES = 7
_ONE = np.uint64(1)
_SEVEN = np.uint64(7)
_LOW_BITS = np.uint64(0x7F)
_MORE = np.uint64(0x80)
_BYTE_ONES = np.uint64(0x0101010101010101)
_TOP_BITS = np.uint64(0x8080808080808080)
_SEVENS = np.uint64(0x7F7F7F7F7F7F7F7F)
_EVEN_7, _ODD_7 = np.uint64(0x007F007F007F007F), np.uint64(0x7F007F007F007F00)
_EVEN_14, _ODD_14 = np.uint64(0x00003FFF00003FFF), np.uint64(0x3FFF00003FFF0000)
_PAIRED_7, _PAIRED_14 = np.uint64(0x3F803F803F803F80), np.uint64(0x0FFFC0000FFFC000)
_ABOVE_56_BITS = np.uint64(1 << 56)
_LOW_28, _HIGH_28 = np.uint64(0x000000000FFFFFFF), np.uint64(0x0FFFFFFF00000000)


@inlined
def varint_bytes(value: int) -> int:
    """Size in bytes of the varint of an int64: 1 to 9, or 10 for a negative number."""
    bits = 64 - leading_zeros(signed(np.uint64(value) | _ONE))
    return (bits * 9 + 64) >> 6  # ceil(bits / 7) for 1 to 64


@inlined
def put_varint(out: int, at: int, value: int) -> int:
    """Write the varint of an int64 to address ``out + at``; returns the position after it.

    May write up to `OVERRUN_BYTES` after the varint: the caller allocates these bytes too, and overwrites them later.
    """
    rest = np.uint64(value)
    while rest >= _ABOVE_56_BITS:
        # Nine or ten bytes: the first bytes are written separately.
        store_byte(out, at, signed(rest | _MORE))
        rest >>= _SEVEN
        at += 1
    # Groups of 7 bits are spread: by fours, then by pairs, then each into its byte.
    bits = (rest & _LOW_28) | (rest & ~_LOW_28) << np.uint64(4)
    bits = (bits & _EVEN_14) | (bits & _PAIRED_14) << np.uint64(2)
    bits = (bits & _EVEN_7) | (bits & _PAIRED_7) << np.uint64(1)
    last_byte_at = np.uint64(63 - leading_zeros(signed(bits | _ONE))) & ~_SEVEN
    store_uint64(out, at, signed(bits | (_TOP_BITS & ((_ONE << last_byte_at) - _ONE))))
    return at + 1 + (signed(last_byte_at) >> 3)


@inlined
def get_varint(data: int, at: int, stop: int) -> tuple[np.uint64, int]:
    """Read a varint between ``at`` and ``stop`` from the address ``data``: (value, position after it).

    The value is a uint64; the position is -1 if the varint is malformed.

    A malformed varint does not end before ``stop``, takes more than ten bytes, or exceeds 64 bits.
    """
    if stop - at >= 8:
        word = load_uint64(data, at)
        last_bits = ~word & _TOP_BITS
        if last_bits != np.uint64(0):
            # All bits up to the top bit of the varint's last byte, the lowest byte with a clear top bit.
            within = last_bits ^ (last_bits - np.uint64(1))
            size = ((within & _BYTE_ONES) * _BYTE_ONES) >> np.uint64(56)
            bits = word & within & _SEVENS
            # Close the gaps between groups of 7 bits: pairs of bytes, then of pairs, then of fours.
            bits = (bits & _EVEN_7) | (bits & _ODD_7) >> np.uint64(1)
            bits = (bits & _EVEN_14) | (bits & _ODD_14) >> np.uint64(2)
            bits = (bits & _LOW_28) | (bits & _HIGH_28) >> np.uint64(4)
            return bits, at + signed(size)
    return _get_varint_by_byte(data, at, stop)


@compiled
def _get_varint_by_byte(data: int, at: int, stop: int) -> tuple[np.uint64, int]:
    value = np.uint64(0)
    shift = np.uint64(0)
    while at < stop:
        byte = np.uint64(load_byte(data, at))
        at += 1
        if shift == np.uint64(63) and byte > np.uint64(1):
            return value, -1
        value |= (byte & _LOW_BITS) << shift
        if byte < _MORE:
            return value, at
        shift += _SEVEN
    return value, -1
