"""Loads and stores at an address, and bits of words, for compiled loops over bytes.

A kernel that passes a NumPy array to another kernel counts references atomically at every call, which took most of
the time of reading a varint. An address is a number. As with numba's arrays, bounds are not checked: the caller
compares with the length, and keeps the array alive.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

if sys.byteorder != "little":
    raise ImportError(
        "scrollpast.shards needs a little-endian machine: it reads TFRecord's numbers without conversion"
    )


def address_of(array: np.ndarray) -> int:
    """Address of the first byte of a contiguous array."""
    return int(array.__array_interface__["data"][0])


def _pointer(builder: Any, address_and_at: Any, bits: int) -> Any:
    return builder.inttoptr(builder.add(*address_and_at), ir.IntType(bits).as_pointer())


def _load(bits: int, result: types.Type) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        number = builder.load(_pointer(builder, arguments, bits), align=1)
        return number if bits == 64 else builder.zext(number, ir.IntType(64))

    return result(types.int64, types.int64), generate


def _store(bits: int) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        *address_and_at, value = arguments
        number = value if bits == 64 else builder.trunc(value, ir.IntType(bits))
        builder.store(number, _pointer(builder, address_and_at, bits), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def _load_byte(_typing, _address, _at):  # type: ignore[no-untyped-def]
    """The byte at ``address + at`` as int64."""
    return _load(8, types.int64)


@intrinsic
def _load_uint32(_typing, _address, _at):  # type: ignore[no-untyped-def]
    """Four bytes, the lowest first, as int64."""
    return _load(32, types.int64)


@intrinsic
def _load_uint64(_typing, _address, _at):  # type: ignore[no-untyped-def]
    """Eight bytes, the lowest first, as uint64."""
    return _load(64, types.uint64)


@intrinsic
def _store_byte(_typing, _address, _at, _value):  # type: ignore[no-untyped-def]
    """Write the low byte of ``value``."""
    return _store(8)


@intrinsic
def _store_uint32(_typing, _address, _at, _value):  # type: ignore[no-untyped-def]
    """Write the low four bytes of ``value``, the lowest first."""
    return _store(32)


@intrinsic
def _store_uint64(_typing, _address, _at, _value):  # type: ignore[no-untyped-def]
    """Write the eight bytes of ``value``, the lowest first."""
    return _store(64)


@intrinsic
def _leading_zeros(_typing, _value):  # type: ignore[no-untyped-def]
    """Number of leading zero bits of 64; 64 for 0."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), generate


# Typed aliases: mypy takes an intrinsic for a function of all its arguments. Compiled code resolves the aliases.
_Load: TypeAlias = Callable[[int, int], int]
_Store: TypeAlias = Callable[[int, int, int], None]
load_byte = cast(_Load, _load_byte)
load_uint32 = cast(_Load, _load_uint32)
load_uint64 = cast(Callable[[int, int], np.uint64], _load_uint64)
store_byte = cast(_Store, _store_byte)
store_uint32 = cast(_Store, _store_uint32)
store_uint64 = cast(_Store, _store_uint64)
leading_zeros = cast(Callable[[int], int], _leading_zeros)
signed = cast(Callable[[Any], int], np.int64)
