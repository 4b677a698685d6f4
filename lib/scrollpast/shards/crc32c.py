"""CRC-32C (Castagnoli, RFC 3720 appendix B.4) and the mask that TFRecord applies to it.

Slicing by 16: sixteen table look-ups a step of sixteen bytes instead of sixteen dependent ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scrollpast.shards.compiled import as_bytes_array, compiled

_REVERSED_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_ALL_ONES = 0xFFFFFFFF


def _slicing_tables(num_slices: int) -> np.ndarray:
    """uint32 [num_slices, 256]: row s is the CRC of a byte that s zero bytes follow."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_REVERSED_POLYNOMIAL), table >> 1)
    rows = [table]
    for _ in range(num_slices - 1):
        rows.append((rows[-1] >> 8) ^ table[rows[-1] & 0xFF])
    return np.stack(rows).astype(np.uint32)


_TABLES = _slicing_tables(16)
(_T0, _T1, _T2, _T3, _T4, _T5, _T6, _T7, _T8, _T9, _T10, _T11, _T12, _T13, _T14, _T15) = (
    np.ascontiguousarray(row) for row in _TABLES
)


@compiled
def crc32c_between(data: np.ndarray, start: int, stop: int) -> int:
    """CRC-32C of ``data[start:stop]`` (uint8 [n]); the caller guarantees 0 <= start <= stop <= n."""
    crc = np.uint32(_ALL_ONES)
    at = start
    while stop - at >= 16:
        head = crc ^ np.uint32(
            np.uint32(data[at])
            | np.uint32(data[at + 1]) << np.uint32(8)
            | np.uint32(data[at + 2]) << np.uint32(16)
            | np.uint32(data[at + 3]) << np.uint32(24)
        )
        crc = np.uint32(
            _T15[np.uint8(head)]
            ^ _T14[np.uint8(head >> np.uint32(8))]
            ^ _T13[np.uint8(head >> np.uint32(16))]
            ^ _T12[np.uint8(head >> np.uint32(24))]
            ^ _T11[data[at + 4]]
            ^ _T10[data[at + 5]]
            ^ _T9[data[at + 6]]
            ^ _T8[data[at + 7]]
            ^ _T7[data[at + 8]]
            ^ _T6[data[at + 9]]
            ^ _T5[data[at + 10]]
            ^ _T4[data[at + 11]]
            ^ _T3[data[at + 12]]
            ^ _T2[data[at + 13]]
            ^ _T1[data[at + 14]]
            ^ _T0[data[at + 15]]
        )
        at += 16
    while at < stop:
        crc = np.uint32(_T0[np.uint8(crc) ^ data[at]] ^ (crc >> np.uint32(8)))
        at += 1
    return np.int64(crc ^ np.uint32(_ALL_ONES))


@compiled
def masked_between(data: np.ndarray, start: int, stop: int) -> int:
    """The masked CRC-32C of ``data[start:stop]``: rotated right by 15 bits, plus a constant."""
    crc = crc32c_between(data, start, stop)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _ALL_ONES


def crc32c(buffer: Any) -> int:
    """CRC-32C of the bytes of ``buffer`` (anything with the buffer protocol), in [0, 2**32)."""
    data = as_bytes_array(buffer)
    return int(crc32c_between(data, 0, data.size))


def masked_crc32c(buffer: Any) -> int:
    """The CRC as TFRecord stores it: ``rotate_right(crc, 15) + 0xa282ead8`` modulo 2**32."""
    data = as_bytes_array(buffer)
    return int(masked_between(data, 0, data.size))
