from collections.abc import Callable

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.compiled import as_bytes_array
from scrollpast.shards.crc32c import HAS_INSTRUCTION, by_instruction, by_tables, crc32c, masked_crc32c
from scrollpast.shards.memory import address_of

WAYS = [
    pytest.param(by_tables, id="tables"),
    pytest.param(
        by_instruction,
        id="instruction",
        marks=pytest.mark.skipif(not HAS_INSTRUCTION, reason="this processor has no CRC-32C of its own"),
    ),
]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # RFC 3720, appendix B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_the_published_check_values_hold(content: bytes, expected: int) -> None:
    assert crc32c(content) == expected


@given(st.binary(max_size=400), st.integers(0, 20))
def test_any_bytes_at_any_alignment_have_googles_crc(content: bytes, start: int) -> None:
    assert crc32c(content[start:]) == google_crc32c.value(content[start:])
    assert crc32c(memoryview(content)[start:]) == google_crc32c.value(content[start:])


@pytest.mark.parametrize("way", WAYS)
@given(content=st.binary(max_size=200), start=st.integers(0, 20))
def test_both_ways_have_googles_crc(way: Callable[[int, int, int], int], content: bytes, start: int) -> None:
    start = min(start, len(content))
    data = as_bytes_array(content)
    assert way(address_of(data), start, data.size) == google_crc32c.value(content[start:])


def test_a_large_buffer_has_googles_crc() -> None:
    content = np.random.default_rng(1).bytes(1_000_003)
    assert crc32c(content) == google_crc32c.value(content)


def test_the_mask_rotates_and_adds() -> None:
    crc = 0xE3069283  # of "123456789"
    assert masked_crc32c(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32
