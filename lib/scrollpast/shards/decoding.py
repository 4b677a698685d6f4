"""Framed ``tf.train.Example`` records → Arrow batch, in compiled loops; see `encoding` for the wire format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from scrollpast.errors import CorruptShardError, UserError
from scrollpast.shards.columns import BYTES_LIST, INT64_LIST, FeatureType, feature_type
from scrollpast.shards.compiled import as_bytes_array, frozen
from scrollpast.shards.faults import WRITE_AGAIN, fault_error, no_fault
from scrollpast.shards.framing import Frames, index_frames
from scrollpast.shards.parsing import count_values, locate_features, read_bytes, read_numbers

_ROWS_PER_BLOCK = 2048
_MAX_LIST_VALUES = 2**31 - 1  # Arrow's offsets are int32


def decode_records(
    buffer: Any, schema: pa.Schema, place: str, *, verify: bool = True, remedy: str = WRITE_AGAIN
) -> pa.RecordBatch:
    """All records of a TFRecord file's bytes as one batch of ``schema``.

    Features may come in any order and packed or not; unknown ones are ignored; an absent one is null. Beside
    the result this takes 8 bytes a feature and record; an int64 takes 8 bytes where its varint took 1 to 10.

    Args:
        buffer: anything with the buffer protocol.
        schema: names and types of the wanted features, as for `encode_records`; a field that is not nullable
            must be in every record.
        place: the file's name for messages.
        verify: check the CRCs of payloads (those of lengths are checked always).
        remedy: what an error's message advises.

    Raises:
        CorruptShardError: a frame, CRC or message is broken, or a feature has another type than the schema's.
        UserError: the schema holds a type that no feature has, or the batch would exceed Arrow's 2**31 values.
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
    """Records ``first`` to ``stop`` (exclusive) of a buffer that `index_frames` has checked; see `decode_records`."""
    data = as_bytes_array(buffer)
    payloads = _Payloads(
        data=data,
        starts=frozen(frames.starts[first:stop], np.int64),
        lengths=frozen(frames.lengths[first:stop], np.int64),
        first_record=first,
        place=place,
        remedy=remedy,
    )
    names = [field.name.encode() for field in schema]
    spans = _locate(payloads, names)
    arrays = [_decode_column(payloads, spans, column, field) for column, field in enumerate(schema)]
    if not arrays:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * len(payloads), pa.struct([])))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


@dataclass(frozen=True)
class _Payloads:
    """The payloads of n records in a file's bytes, and how errors call the file."""

    data: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    first_record: int
    place: str
    remedy: str

    def __len__(self) -> int:
        return int(self.starts.size)

    def blocks(self) -> list[slice]:
        return [
            slice(first, min(first + _ROWS_PER_BLOCK, len(self)))
            for first in range(0, len(self), _ROWS_PER_BLOCK)
        ]

    def check(self, fault: np.ndarray, rows: slice, feature: str = "") -> None:
        if fault[0]:
            fault[1] += self.first_record + rows.start
            raise fault_error(fault, self.place, self.remedy, feature)


@dataclass(frozen=True)
class _Spans:
    """Where each wanted feature's message lies: int32 [columns, rows], relative to the payload; bytes -1: absent."""

    starts: np.ndarray
    bytes: np.ndarray


def _locate(payloads: _Payloads, names: list[bytes]) -> _Spans:
    shape = (len(names), len(payloads))
    spans = _Spans(np.zeros(shape, np.int32), np.empty(shape, np.int32))
    offsets = frozen(np.cumsum([0, *map(len, names)]), np.int64)
    joined = as_bytes_array(b"".join(names))
    fault = no_fault()
    for rows in payloads.blocks():
        locate_features(
            payloads.data,
            payloads.starts[rows],
            payloads.lengths[rows],
            joined,
            offsets,
            spans.starts[:, rows],
            spans.bytes[:, rows],
            fault,
        )
        payloads.check(fault, rows)
    return spans


def _decode_column(payloads: _Payloads, spans: _Spans, column: int, field: pa.Field) -> pa.Array:
    form = feature_type(field)
    starts, sizes = spans.starts[column], spans.bytes[column]
    counts = np.empty(len(payloads), np.int64)
    fault = no_fault()
    num_bytes = 0
    for rows in payloads.blocks():
        num_bytes += count_values(
            payloads.data,
            payloads.starts[rows],
            starts[rows],
            sizes[rows],
            form.kind,
            form.is_scalar,
            field.nullable,
            counts[rows],
            fault,
        )
        payloads.check(fault, rows, field.name)
    present = counts >= 0
    # A scalar keeps one slot a row, absent or not; a list has none for an absent row.
    slots = np.ones_like(counts) if form.is_scalar else np.maximum(counts, 0)
    offsets = np.zeros(len(payloads) + 1, np.int64)
    np.cumsum(slots, out=offsets[1:])
    if max(int(offsets[-1]), num_bytes) > _MAX_LIST_VALUES:
        raise UserError(
            f"{payloads.place}, feature {field.name}",
            expected=f"at most {_MAX_LIST_VALUES:,} values or bytes in one batch",
            found=f"{max(int(offsets[-1]), num_bytes):,}",
            remedy="read fewer records at once",
        )
    if form.kind == BYTES_LIST:
        values = _read_bytes(payloads, starts, sizes, offsets, num_bytes, present if form.is_scalar else None)
    else:
        values = _read_numbers(payloads, starts, sizes, offsets, form, field, present)
    return _as_field(payloads, values, offsets, present, form, field)


def _read_numbers(
    payloads: _Payloads,
    starts: np.ndarray,
    sizes: np.ndarray,
    offsets: np.ndarray,
    form: FeatureType,
    field: pa.Field,
    present: np.ndarray,
) -> pa.Array:
    is_integer = form.kind == INT64_LIST
    values = np.zeros(int(offsets[-1]), np.int64 if is_integer else np.uint32)
    fault = no_fault()
    for rows in payloads.blocks():
        read_numbers(
            payloads.data,
            payloads.starts[rows],
            starts[rows],
            sizes[rows],
            form.kind,
            offsets[rows.start : rows.stop + 1],
            values,
            fault,
        )
        payloads.check(fault, rows, field.name)
    bitmap = _bitmap(present) if form.is_scalar else None
    value_type = pa.int64() if is_integer else pa.float32()
    return pa.Array.from_buffers(value_type, values.size, [bitmap, pa.py_buffer(values)])


def _read_bytes(
    payloads: _Payloads,
    starts: np.ndarray,
    sizes: np.ndarray,
    offsets: np.ndarray,
    num_bytes: int,
    scalar_present: np.ndarray | None,
) -> pa.Array:
    num_values = int(offsets[-1])
    content = np.empty(num_bytes, np.uint8)
    value_offsets = np.zeros(num_values + 1, np.int32)
    written = 0
    for rows in payloads.blocks():
        written = read_bytes(
            payloads.data,
            payloads.starts[rows],
            starts[rows],
            sizes[rows],
            offsets[rows.start : rows.stop + 1],
            written,
            value_offsets,
            content,
        )
    # An absent scalar left its slot's offset at 0: it begins and ends where the one before it ends.
    np.maximum.accumulate(value_offsets, out=value_offsets)
    bitmap = None if scalar_present is None else _bitmap(scalar_present)
    buffers = [bitmap, pa.py_buffer(value_offsets), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.binary(), num_values, buffers)


def _as_field(
    payloads: _Payloads,
    values: pa.Array,
    offsets: np.ndarray,
    present: np.ndarray,
    form: FeatureType,
    field: pa.Field,
) -> pa.Array:
    array = values
    if not form.is_scalar:
        buffers = [_bitmap(present), pa.py_buffer(offsets.astype(np.int32))]
        array = pa.Array.from_buffers(pa.list_(values.type), present.size, buffers, children=[values])
    if array.type == field.type:
        return array
    try:
        return array.cast(field.type)
    except pa.ArrowInvalid as error:  # a string column whose bytes are not UTF-8
        raise CorruptShardError(
            f"{payloads.place}, feature {field.name}",
            expected=f"values of type {field.type}",
            found=str(error).splitlines()[0],
            remedy=payloads.remedy,
        ) from error


def _bitmap(present: np.ndarray) -> pa.Buffer | None:
    return None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))
