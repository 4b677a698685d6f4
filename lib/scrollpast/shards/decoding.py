"""Framed ``tf.train.Example`` records → Arrow batch, in compiled loops; see `encoding` for the wire format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from scrollpast.compiled import as_bytes_array, frozen
from scrollpast.errors import CorruptShardError, UserError
from scrollpast.shards.columns import BYTES_LIST, INT64_LIST, FeatureType, feature_type
from scrollpast.shards.faults import WRITE_AGAIN, fault_error, no_fault
from scrollpast.shards.framing import Frames, index_frames
from scrollpast.shards.memory import address_of
from scrollpast.shards.parsing import count_values, locate_features, read_bytes, read_numbers

_ROWS_PER_BLOCK = 2048
_MAX_LIST_VALUES = 2**31 - 1  # Arrow's offsets are int32


def decode_records(
    buffer: Any, schema: pa.Schema, place: str, *, verify: bool = True, remedy: str = WRITE_AGAIN
) -> pa.RecordBatch:
    """Decode all records of a TFRecord file's bytes as one batch of ``schema``.

    Features may be in any order, packed or not. Unknown features are ignored; an absent feature is null. Of two entries
    with the same name the last counts.

    Memory beside the result: about 24 bytes a record and feature. The result can exceed the buffer, because an int64
    takes 8 bytes and its varint 1 to 10. `decode_frames` reads a part of the records at a time.

    Args:
        buffer: anything with the buffer protocol.
        schema: names and types of the wanted features, as for `encode_records`; a field that is not nullable
            must be in every record.
        place: the file's name for messages.
        verify: check the CRCs of payloads (CRCs of lengths are always checked).
        remedy: remedy in an error's message.

    Raises:
        CorruptShardError: a frame, CRC or message is corrupt, or a feature has a type other than the schema's.
        UserError: the schema holds an unsupported type, or the batch would exceed Arrow's 2**31 values.
    """
    frames = index_frames(buffer, place, verify_payloads=verify, remedy=remedy)
    return decode_frames(buffer, frames, schema, place, remedy=remedy)


def decode_frames(
    buffer: Any,
    frames: Frames,
    schema: pa.Schema,
    place: str,
    *,
    first: int = 0,
    stop: int | None = None,
    remedy: str = WRITE_AGAIN,
) -> pa.RecordBatch:
    """Decode records ``first`` to ``stop`` (exclusive) of a buffer checked by `index_frames`; see `decode_records`."""
    data = as_bytes_array(buffer)
    payloads = _Payloads(
        data=data,
        starts=frozen(frames.starts[first:stop], np.int64),
        lengths=frozen(frames.lengths[first:stop], np.int64),
        first_record=first,
        place=place,
        remedy=remedy,
    )
    columns = [_Column(payloads, field) for field in schema]
    # Records hold their features sorted by name: in that order the next wanted feature is mostly the next found.
    _locate_and_count(payloads, sorted(columns, key=lambda column: column.field.name))
    for column in columns:
        column.allocate()
    for rows in payloads.blocks():
        for column in columns:
            column.read(rows)
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * len(payloads), pa.struct([])))
    return pa.RecordBatch.from_arrays([column.to_arrow() for column in columns], schema=schema)


@dataclass(frozen=True)
class _Payloads:
    """Payloads of n records in a file's bytes, and the file's name for errors."""

    data: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    first_record: int
    place: str
    remedy: str

    def __len__(self) -> int:
        return int(self.starts.size)

    @property
    def address(self) -> int:
        return address_of(self.data)

    def blocks(self) -> list[slice]:
        """Blocks of rows whose bytes stay in the processor's cache while all columns are read."""
        size = _ROWS_PER_BLOCK
        return [slice(first, min(first + size, len(self))) for first in range(0, len(self), size)]

    def check(self, fault: np.ndarray, rows: slice, feature: str = "") -> None:
        if fault[0]:
            fault[1] += self.first_record + rows.start
            raise fault_error(fault, self.place, self.remedy, feature)


def _locate_and_count(payloads: _Payloads, columns: list[_Column]) -> None:
    names = [column.field.name.encode() for column in columns]
    joined = as_bytes_array(b"".join(names))
    offsets = frozen(np.cumsum([0, *map(len, names)]), np.int64)
    span_starts = np.zeros((len(columns), _ROWS_PER_BLOCK), np.int32)
    span_bytes = np.empty((len(columns), _ROWS_PER_BLOCK), np.int32)
    fault = no_fault()
    for rows in payloads.blocks():
        locate_features(
            payloads.address,
            payloads.starts[rows],
            payloads.lengths[rows],
            address_of(joined),
            offsets,
            span_starts,
            span_bytes,
            fault,
        )
        payloads.check(fault, rows)
        for column, starts, sizes in zip(columns, span_starts, span_bytes, strict=True):
            column.count(rows, starts, sizes)


class _Column:
    """One feature being decoded to an Arrow array: values are counted, allocated, then read, block by block."""

    def __init__(self, payloads: _Payloads, field: pa.Field) -> None:
        num_rows = len(payloads)
        self.field = field
        self._payloads = payloads
        self._form: FeatureType = feature_type(field)
        # Start of the Feature message in its payload, and its length; storing both is cheaper than parsing twice.
        self._span_starts = np.empty(num_rows, np.int32)
        self._span_bytes = np.empty(num_rows, np.int32)
        self._counts = np.empty(num_rows, np.int64)
        self._num_bytes = 0
        self._fault = no_fault()

    def count(self, rows: slice, span_starts: np.ndarray, span_bytes: np.ndarray) -> None:
        num_rows = rows.stop - rows.start
        self._span_starts[rows] = span_starts[:num_rows]
        self._span_bytes[rows] = span_bytes[:num_rows]
        self._num_bytes += count_values(
            self._payloads.address,
            self._payloads.starts[rows],
            self._span_starts[rows],
            self._span_bytes[rows],
            self._form.kind,
            self._form.is_scalar,
            self.field.nullable,
            self._counts[rows],
            self._fault,
        )
        self._payloads.check(self._fault, rows, self.field.name)

    def allocate(self) -> None:
        """Allocate the counted number of values."""
        self._present = self._counts >= 0
        # A scalar has one slot for every row, absent or not; a list has no slot for an absent row.
        slots = np.ones_like(self._counts) if self._form.is_scalar else np.maximum(self._counts, 0)
        self._offsets = np.zeros(slots.size + 1, np.int64)
        np.cumsum(slots, out=self._offsets[1:])
        del self._counts
        largest = max(int(self._offsets[-1]), self._num_bytes)
        if largest > _MAX_LIST_VALUES:
            raise UserError(
                f"{self._payloads.place}, feature {self.field.name}",
                expected=f"at most {_MAX_LIST_VALUES:,} values or bytes in one batch",
                found=f"{largest:,}",
                remedy="read fewer records at once",
            )
        num_values = int(self._offsets[-1])
        if self._form.kind == BYTES_LIST:
            self._content = np.empty(self._num_bytes, np.uint8)
            self._content_used = 0
            self._value_offsets = np.zeros(num_values + 1, np.int32)
        else:
            self._numbers = np.zeros(num_values, np.int64 if self._form.kind == INT64_LIST else np.uint32)

    def read(self, rows: slice) -> None:
        where = (
            self._payloads.address,
            self._payloads.starts[rows],
            self._span_starts[rows],
            self._span_bytes[rows],
        )
        offsets = self._offsets[rows.start : rows.stop + 1]
        if self._form.kind == BYTES_LIST:
            self._content_used = read_bytes(
                *where, offsets, self._content_used, self._value_offsets, self._content
            )
        else:
            read_numbers(*where, self._form.kind, offsets, self._numbers, self._fault)
            self._payloads.check(self._fault, rows, self.field.name)

    def to_arrow(self) -> pa.Array:
        present = None if self._present.all() else pa.py_buffer(np.packbits(self._present, bitorder="little"))
        array = self._values(present if self._form.is_scalar else None)
        if not self._form.is_scalar:
            buffers = [present, pa.py_buffer(self._offsets.astype(np.int32))]
            array = pa.Array.from_buffers(pa.list_(array.type), self._present.size, buffers, children=[array])
        if array.type == self.field.type:
            return array
        try:
            return array.cast(self.field.type)
        except pa.ArrowInvalid as error:  # a string column whose bytes are not UTF-8
            raise CorruptShardError(
                f"{self._payloads.place}, feature {self.field.name}",
                expected=f"values of type {self.field.type}",
                found=str(error).splitlines()[0],
                remedy=self._payloads.remedy,
            ) from error

    def _values(self, present: pa.Buffer | None) -> pa.Array:
        num_values = int(self._offsets[-1])
        if self._form.kind == BYTES_LIST:
            # The offset of an absent scalar is still 0: set it to the end of the scalar before.
            np.maximum.accumulate(self._value_offsets, out=self._value_offsets)
            buffers = [present, pa.py_buffer(self._value_offsets), pa.py_buffer(self._content)]
            return pa.Array.from_buffers(pa.binary(), num_values, buffers)
        value_type = pa.int64() if self._form.kind == INT64_LIST else pa.float32()
        return pa.Array.from_buffers(value_type, num_values, [present, pa.py_buffer(self._numbers)])
