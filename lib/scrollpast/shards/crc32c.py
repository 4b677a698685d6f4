"""CRC-32C (Castagnoli, RFC 3720 appendix B.4) and the mask that TFRecord applies to it.

Computed by the processor's CRC instruction where available (x86 since SSE 4.2), eight bytes a step. Elsewhere by
slicing by 16: sixteen independent table look-ups for a step of sixteen bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from scrollpast.compiled import as_bytes_array, compiled
from scrollpast.shards.memory import address_of, load_byte, load_uint32, load_uint64, signed

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


def _has_instruction() -> bool:
    """True if numba's target CPU has x86's CRC instruction; numba may be configured to compile for another CPU."""
    told: Any = numba.config
    is_for_this_cpu = told.CPU_NAME is None and told.CPU_FEATURES is None
    return is_for_this_cpu and bool(llvmlite.binding.get_host_cpu_features().get("sse4.2"))


def _step(bits: int, bits_of_crc: int) -> Any:
    """Generated code that adds ``bits`` bits to a CRC by the instruction."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide, narrow = ir.IntType(bits_of_crc), ir.IntType(bits)
        name = f"llvm.x86.sse42.crc32.{bits_of_crc}.{bits}"
        signature = ir.FunctionType(wide, [wide, narrow])
        function = cgutils.get_or_insert_function(builder.module, signature, name)  # type: ignore[no-untyped-call]
        crc, value = arguments
        if bits == bits_of_crc:
            return builder.call(function, [crc, value])
        stepped = builder.call(function, [builder.trunc(crc, wide), builder.trunc(value, narrow)])
        return builder.zext(stepped, ir.IntType(64))

    return types.int64(types.int64, types.int64), generate


@intrinsic
def _add_byte(_typing, _crc, _value):  # type: ignore[no-untyped-def]
    """The CRC register after a byte."""
    return _step(8, 32)


@intrinsic
def _add_word(_typing, _crc, _value):  # type: ignore[no-untyped-def]
    """The CRC register after eight bytes."""
    return _step(64, 64)


_Step = Callable[[int, int], int]
add_byte, add_word = cast(_Step, _add_byte), cast(_Step, _add_word)


@compiled
def by_instruction(data: int, start: int, stop: int) -> int:
    """`crc32c_between` for processors with the CRC instruction."""
    crc = _ALL_ONES
    at = start
    while stop - at >= 8:
        crc = add_word(crc, signed(load_uint64(data, at)))
        at += 8
    while at < stop:
        crc = add_byte(crc, load_byte(data, at))
        at += 1
    return crc ^ _ALL_ONES


@compiled
def by_tables(data: int, start: int, stop: int) -> int:
    """`crc32c_between` for any processor."""
    crc = _ALL_ONES
    at = start
    while stop - at >= 16:
        head = load_uint32(data, at) ^ crc
        second = load_uint32(data, at + 4)
        third = load_uint32(data, at + 8)
        last = load_uint32(data, at + 12)
        crc = signed(
            _T15[np.uint8(head)]
            ^ _T14[np.uint8(head >> 8)]
            ^ _T13[np.uint8(head >> 16)]
            ^ _T12[np.uint8(head >> 24)]
            ^ _T11[np.uint8(second)]
            ^ _T10[np.uint8(second >> 8)]
            ^ _T9[np.uint8(second >> 16)]
            ^ _T8[np.uint8(second >> 24)]
            ^ _T7[np.uint8(third)]
            ^ _T6[np.uint8(third >> 8)]
            ^ _T5[np.uint8(third >> 16)]
            ^ _T4[np.uint8(third >> 24)]
            ^ _T3[np.uint8(last)]
            ^ _T2[np.uint8(last >> 8)]
            ^ _T1[np.uint8(last >> 16)]
            ^ _T0[np.uint8(last >> 24)]
        )
        at += 16
    while at < stop:
        crc = signed(_T0[np.uint8(crc ^ load_byte(data, at))]) ^ (crc >> 8)
        at += 1
    return crc ^ _ALL_ONES


HAS_INSTRUCTION = _has_instruction()
crc32c_between = by_instruction if HAS_INSTRUCTION else by_tables
"""CRC-32C of the bytes ``start`` to ``stop`` (exclusive) from the address ``data``; start <= stop."""


@compiled
def masked_between(data: int, start: int, stop: int) -> int:
    """Masked CRC-32C of the bytes of `crc32c_between`: rotated right by 15 bits, plus a constant."""
    crc = crc32c_between(data, start, stop)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _ALL_ONES


def crc32c(buffer: Any) -> int:
    """CRC-32C of the bytes of ``buffer`` (anything with the buffer protocol), in [0, 2**32)."""
    data = as_bytes_array(buffer)
    return int(crc32c_between(address_of(data), 0, data.size))


def masked_crc32c(buffer: Any) -> int:
    """Masked CRC of TFRecord: ``rotate_right(crc, 15) + 0xa282ead8`` modulo 2**32."""
    data = as_bytes_array(buffer)
    return int(masked_between(address_of(data), 0, data.size))
