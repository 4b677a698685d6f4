"""Varints written and read in compiled loops, held against protobuf's rule spelt out."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from scrollpast.compiled import compiled
from scrollpast.shards.memory import address_of, signed
from scrollpast.shards.varint import MAX_VARINT_BYTES, OVERRUN_BYTES, get_varint, put_varint, varint_bytes

INT64 = st.integers(-(2**63), 2**63 - 1)
# Uniform ones are nine bytes long nearly always: as many of every length.
ANY_LENGTH = st.integers(0, 63).flatmap(lambda bits: st.integers(0, 2**bits - 1))


def expected_of(value: int) -> bytes:
    rest, content = value % 2**64, bytearray()
    while rest >= 0x80:
        content.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*content, rest])


@compiled
def write(out: int, at: int, value: int) -> int:
    return put_varint(out, at, value)


@compiled
def size_of(value: int) -> int:
    return varint_bytes(value)


@compiled
def read(data: int, stop: int) -> tuple[int, int]:
    value, behind = get_varint(data, 0, stop)
    return signed(value), behind


@given(INT64 | ANY_LENGTH)
@example(0)
@example(-1)
@example(2**56 - 1)
@example(2**56)
@example(2**63 - 1)
def test_a_varint_is_protobufs_and_leaves_what_is_further_away_alone(value: int) -> None:
    out = np.full(4 + MAX_VARINT_BYTES + OVERRUN_BYTES + 1, 0xEE, np.uint8)
    behind = write(address_of(out), 4, value)
    expected = expected_of(value)
    assert out[4:behind].tobytes() == expected
    assert size_of(value) == len(expected)
    assert (out[:4] == 0xEE).all() and (out[behind + OVERRUN_BYTES :] == 0xEE).all()
    assert read(address_of(out[4:]), len(expected)) == (value, len(expected))


def test_lengths_on_both_sides_of_every_power_of_two() -> None:
    for power in range(63):
        for value in (2**power - 1, 2**power):
            assert size_of(value) == len(expected_of(value))
