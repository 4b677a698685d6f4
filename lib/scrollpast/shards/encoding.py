"""Arrow batch → framed ``tf.train.Example`` records, in compiled loops over columns.

Wire format (protobuf encoding specification; field numbers of tensorflow/core/example/{example,feature}.proto)::

    Example  { Features features = 1 }            0a <len>
    Features { map<string, Feature> feature = 1 } 0a <len>  { key = 1: 0a <len> …, value = 2: 12 <len> … }
    Feature  { bytes_list = 1 | float_list = 2 | int64_list = 3 }   0a | 12 | 1a <len>
    …List    { value = 1 }                        0a <len> packed numbers; bytes repeat 0a <len> …

Two passes: measure every list, then write every record to its place in one buffer. Columns are written one after
another in blocks of rows that stay in the processor's cache.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from scrollpast.compiled import as_bytes_array, compiled
from scrollpast.errors import UserError
from scrollpast.shards.columns import BYTES_LIST, FLOAT_LIST, INT64_LIST, FeatureColumn, feature_columns
from scrollpast.shards.crc32c import masked_between
from scrollpast.shards.framing import FOOTER_BYTES, HEADER_BYTES
from scrollpast.shards.memory import address_of, load_uint64, signed, store_byte, store_uint32, store_uint64
from scrollpast.shards.varint import OVERRUN_BYTES, put_varint, varint_bytes

_TAG_1 = 0x0A  # field 1, length-delimited
_TAG_2 = 0x12  # field 2, length-delimited
_ROWS_PER_BLOCK = 2048
_MAX_RECORD_BYTES = 2**31 - 1  # protobuf's limit of one message


def encode_records(batch: pa.RecordBatch) -> memoryview:
    """Encode the rows of ``batch`` as framed records: the content of a TFRecord file.

    Column types: int64, float32, binary, string (one value a row), or a list of these. A null is an absent feature, an
    empty list a feature without values. Features are sorted by the bytes of their names, so that equal rows give equal
    bytes. The bytes equal those of TensorFlow's deterministic serialisation in Python, with one exception: protobuf for
    Python puts a name before the names that it begins with.

    Raises:
        UserError: an unsupported column type, a null inside a list, or a record of 2 GiB and more.
    """
    columns = feature_columns(batch)
    num_rows = batch.num_rows
    list_bytes = np.zeros((len(columns), num_rows), np.int64)
    features_bytes = np.zeros(num_rows, np.int64)
    for column, sizes in zip(columns, list_bytes, strict=True):
        _measure_column(column, sizes)
        _add_entries(sizes, column.present, _key_field(column.name)[1], features_bytes)
    starts = np.zeros(num_rows + 1, np.int64)
    _place_records(features_bytes, starts)
    _refuse_oversize(features_bytes)
    num_bytes = int(starts[-1])
    content = np.empty(num_bytes + OVERRUN_BYTES, np.uint8)
    out = address_of(content)
    cursors = np.empty(num_rows, np.int64)
    for first in range(0, num_rows, _ROWS_PER_BLOCK):
        rows = slice(first, min(first + _ROWS_PER_BLOCK, num_rows))
        _open_records(out, starts[rows], features_bytes[rows], cursors[rows])
        for column, sizes in zip(columns, list_bytes, strict=True):
            _write_column(column, rows, sizes[rows], out, cursors[rows])
        _seal_records(out, starts[rows], cursors[rows])
    return content.data[:num_bytes]


def _measure_column(column: FeatureColumn, sizes: np.ndarray) -> None:
    if column.kind == INT64_LIST:
        _measure_int64(column.values, column.offsets, column.present, sizes)
    elif column.kind == FLOAT_LIST:
        _measure_float(column.offsets, column.present, sizes)
    else:
        _measure_bytes(column.value_offsets, column.offsets, column.present, sizes)


def _write_column(
    column: FeatureColumn, rows: slice, sizes: np.ndarray, out: int, cursors: np.ndarray
) -> None:
    key, key_bytes = _key_field(column.name)
    offsets = column.offsets[rows.start : rows.stop + 1]
    present = column.present[rows]
    if column.kind == INT64_LIST:
        _write_int64(column.values, offsets, present, address_of(key), key_bytes, sizes, out, cursors)
    elif column.kind == FLOAT_LIST:
        _write_float(
            column.values.view(np.uint32), offsets, present, address_of(key), key_bytes, sizes, out, cursors
        )
    else:
        _write_bytes(
            column.values,
            column.value_offsets,
            offsets,
            present,
            address_of(key),
            key_bytes,
            sizes,
            out,
            cursors,
        )


def _key_field(name: str) -> tuple[np.ndarray, int]:
    """Key field of a map entry, tag and length included: uint8 [k + OVERRUN_BYTES], and k."""
    encoded = name.encode()
    length, rest = bytearray(), len(encoded)
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    field = bytes([_TAG_1, *length, rest]) + encoded
    return as_bytes_array(field + bytes(OVERRUN_BYTES)), len(field)


def _refuse_oversize(features_bytes: np.ndarray) -> None:
    if features_bytes.size and features_bytes.max() > _MAX_RECORD_BYTES - 6:
        row = int(features_bytes.argmax())
        raise UserError(
            f"row {row:,} of a batch of records",
            expected="less than 2 GiB, protobuf's limit of one message",
            found=f"{int(features_bytes[row]):,} bytes",
            remedy="cap the number of values of one user",
        )


@compiled
def _measure_int64(values: np.ndarray, offsets: np.ndarray, present: np.ndarray, sizes: np.ndarray) -> None:
    """``sizes[i]`` = bytes of row i's Int64List message."""
    for row in range(sizes.size):
        if not present[row]:
            continue
        packed = 0
        for index in range(offsets[row], offsets[row + 1]):
            packed += varint_bytes(values[index])
        sizes[row] = packed + 1 + varint_bytes(packed) if packed else 0


@compiled
def _measure_float(offsets: np.ndarray, present: np.ndarray, sizes: np.ndarray) -> None:
    """``sizes[i]`` = bytes of row i's FloatList message."""
    for row in range(sizes.size):
        if present[row]:
            packed = 4 * (offsets[row + 1] - offsets[row])
            sizes[row] = packed + 1 + varint_bytes(packed) if packed else 0


@compiled
def _measure_bytes(
    value_offsets: np.ndarray, offsets: np.ndarray, present: np.ndarray, sizes: np.ndarray
) -> None:
    """``sizes[i]`` = bytes of row i's BytesList message."""
    for row in range(sizes.size):
        if present[row]:
            for index in range(offsets[row], offsets[row + 1]):
                length = value_offsets[index + 1] - value_offsets[index]
                sizes[row] += 1 + varint_bytes(length) + length


@compiled
def _add_entries(sizes: np.ndarray, present: np.ndarray, key_bytes: int, features_bytes: np.ndarray) -> None:
    """Add the bytes of the column's map entries to ``features_bytes`` (int64 [rows])."""
    for row in range(sizes.size):
        if present[row]:
            feature = 1 + varint_bytes(sizes[row]) + sizes[row]
            entry = key_bytes + 1 + varint_bytes(feature) + feature
            features_bytes[row] += 1 + varint_bytes(entry) + entry


@compiled
def _place_records(features_bytes: np.ndarray, starts: np.ndarray) -> None:
    """Fill ``starts`` int64 [rows + 1]: the start of each framed record, and the end of the last record."""
    for row in range(features_bytes.size):
        payload = 1 + varint_bytes(features_bytes[row]) + features_bytes[row]
        starts[row + 1] = starts[row] + HEADER_BYTES + payload + FOOTER_BYTES


@compiled
def _open_records(out: int, starts: np.ndarray, features_bytes: np.ndarray, cursors: np.ndarray) -> None:
    """Write the tag and length of each Example; ``cursors[i]`` is the position of row i's first map entry."""
    for row in range(cursors.size):
        at = starts[row] + HEADER_BYTES
        store_byte(out, at, _TAG_1)
        cursors[row] = put_varint(out, at + 1, features_bytes[row])


@compiled
def _open_entry(out: int, at: int, key: int, key_bytes: int, kind: int, list_bytes: int) -> int:
    """Write a map entry up to the start of its list's message; returns that position."""
    feature = 1 + varint_bytes(list_bytes) + list_bytes
    store_byte(out, at, _TAG_1)
    at = put_varint(out, at + 1, key_bytes + 1 + varint_bytes(feature) + feature)
    for index in range(0, key_bytes, 8):
        # Writes up to 7 bytes too many: at least 4 bytes of this entry and 4 of the last CRC are written later.
        store_uint64(out, at + index, signed(load_uint64(key, index)))
    at += key_bytes
    store_byte(out, at, _TAG_2)
    at = put_varint(out, at + 1, feature)
    store_byte(out, at, kind << 3 | 2)
    return put_varint(out, at + 1, list_bytes)


@compiled
def _packed_bytes(list_bytes: int) -> int:
    """Bytes of the packed numbers inside a list message of ``list_bytes`` > 0 bytes (tag and length included)."""
    for length_bytes in range(1, 10):
        packed = list_bytes - 1 - length_bytes
        if varint_bytes(packed) == length_bytes:
            return packed
    return 0


@compiled
def _write_int64(
    values: np.ndarray,
    offsets: np.ndarray,
    present: np.ndarray,
    key: int,
    key_bytes: int,
    sizes: np.ndarray,
    out: int,
    cursors: np.ndarray,
) -> None:
    for row in range(cursors.size):
        if not present[row]:
            continue
        at = _open_entry(out, cursors[row], key, key_bytes, INT64_LIST, sizes[row])
        if sizes[row]:
            store_byte(out, at, _TAG_1)
            at = put_varint(out, at + 1, _packed_bytes(sizes[row]))
            for index in range(offsets[row], offsets[row + 1]):
                at = put_varint(out, at, values[index])
        cursors[row] = at


@compiled
def _write_float(
    bits: np.ndarray,
    offsets: np.ndarray,
    present: np.ndarray,
    key: int,
    key_bytes: int,
    sizes: np.ndarray,
    out: int,
    cursors: np.ndarray,
) -> None:
    for row in range(cursors.size):
        if not present[row]:
            continue
        at = _open_entry(out, cursors[row], key, key_bytes, FLOAT_LIST, sizes[row])
        if sizes[row]:
            store_byte(out, at, _TAG_1)
            at = put_varint(out, at + 1, _packed_bytes(sizes[row]))
            for index in range(offsets[row], offsets[row + 1]):
                store_uint32(out, at, signed(bits[index]))
                at += 4
        cursors[row] = at


@compiled
def _write_bytes(
    data: np.ndarray,
    value_offsets: np.ndarray,
    offsets: np.ndarray,
    present: np.ndarray,
    key: int,
    key_bytes: int,
    sizes: np.ndarray,
    out: int,
    cursors: np.ndarray,
) -> None:
    for row in range(cursors.size):
        if not present[row]:
            continue
        at = _open_entry(out, cursors[row], key, key_bytes, BYTES_LIST, sizes[row])
        for index in range(offsets[row], offsets[row + 1]):
            start, stop = value_offsets[index], value_offsets[index + 1]
            store_byte(out, at, _TAG_1)
            at = put_varint(out, at + 1, stop - start)
            for position in range(start, stop):
                store_byte(out, at, signed(data[np.uint64(position)]))
                at += 1
        cursors[row] = at


@compiled
def _seal_records(out: int, starts: np.ndarray, cursors: np.ndarray) -> None:
    """Write the frames: each record's length and both masked CRCs; ``cursors`` are the payloads' ends."""
    for row in range(cursors.size):
        start = starts[row]
        payload = start + HEADER_BYTES
        length = cursors[row] - payload
        store_uint64(out, start, length)
        store_uint32(out, start + 8, masked_between(out, start, start + 8))
        store_uint32(out, cursors[row], masked_between(out, payload, cursors[row]))
