"""Compiled loops that find features in ``tf.train.Example`` payloads and read their values.

Every value is checked before use: a length against the rest of its message, a varint against ten bytes, a write
against the counted space. Arbitrary bytes are safe; the fault describes the first error.
"""

from __future__ import annotations

import numpy as np

from scrollpast.compiled import compiled, inlined
from scrollpast.shards.columns import BYTES_LIST, FLOAT_LIST, INT64_LIST
from scrollpast.shards.faults import ABSENT, BAD_VARINT, MALFORMED, NOT_ONE, TOO_LARGE, WRONG_LIST, note
from scrollpast.shards.memory import load_byte, load_uint32, load_uint64, signed
from scrollpast.shards.varint import get_varint

NO_FEATURE = -1  # count of values or length of an absent feature

_FIELD_1 = 0x0A  # field 1, length-delimited
_FIELD_2 = 0x12  # field 2, length-delimited
_VARINT_1 = 0x08  # field 1, varint: an int64 that is not packed
_FIXED32_1 = 0x0D  # field 1, four bytes: a float that is not packed
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5


@inlined
def next_field(data: int, at: int, stop: int) -> tuple[int, int, int]:
    """Field at ``data[at:stop]``: (tag, start of its content, end of its content), end -1 if malformed.

    The content of a length-delimited field excludes its length. Groups count as malformed: no message has a group.
    """
    if stop - at >= 2:
        tag = load_byte(data, at)
        length = load_byte(data, at + 1)
        if tag & 0x87 == _DELIMITED and tag > 7 and length < 0x80:
            # Most fields have a tag and a length of one byte each.
            return tag, at + 2, at + 2 + length if length <= stop - at - 2 else -1
    return _next_other_field(data, at, stop)


@compiled
def _next_other_field(data: int, at: int, stop: int) -> tuple[int, int, int]:
    value, body = get_varint(data, at, stop)
    if body < 0 or value > np.uint64(0xFFFFFFFF):
        return 0, 0, -1
    tag = signed(value)
    if tag >> 3 == 0:
        return tag, body, -1
    wire_type = tag & 7
    if wire_type == _DELIMITED:
        length, body = get_varint(data, body, stop)
        if body < 0 or length > np.uint64(stop - body):
            return tag, body, -1
        return tag, body, body + signed(length)
    if wire_type == _VARINT:
        value, end = get_varint(data, body, stop)
        return tag, body, end
    if wire_type == _FIXED32 and stop - body >= 4:
        return tag, body, body + 4
    if wire_type == _FIXED64 and stop - body >= 8:
        return tag, body, body + 8
    return tag, body, -1


@inlined
def _are_equal(left: int, left_at: int, right: int, right_at: int, length: int) -> bool:
    """Compare two ranges of ``length`` bytes, word by word: the last word overlaps the word before."""
    if length < 8:
        index = 0
        while index < length and load_byte(left, left_at + index) == load_byte(right, right_at + index):
            index += 1
        return index == length
    last = length - 8
    index = 0
    while index < last and load_uint64(left, left_at + index) == load_uint64(right, right_at + index):
        index += 8
    return index >= last and load_uint64(left, left_at + last) == load_uint64(right, right_at + last)


@compiled
def _find_name(data: int, start: int, stop: int, names: int, offsets: np.ndarray, guess: int) -> int:
    """Index of the wanted name equal to ``data[start:stop]``, or -1; tries ``guess`` first (records are sorted)."""
    num_names = offsets.size - 1
    for step in range(num_names):
        column = (guess + step) % num_names
        length = offsets[column + 1] - offsets[column]
        if length != stop - start:
            continue
        if _are_equal(names, offsets[column], data, start, length):
            return column
    return -1


@compiled
def locate_features(
    data: int,
    starts: np.ndarray,
    lengths: np.ndarray,
    names: int,
    name_offsets: np.ndarray,
    span_starts: np.ndarray,
    span_bytes: np.ndarray,
    fault: np.ndarray,
) -> None:
    """Find the Feature message of every wanted name in every record.

    Args:
        starts, lengths: int64 [rows], the payloads, inside ``data``.
        names, name_offsets: the wanted names, concatenated, and the start of each, int64 [columns + 1].
        span_starts, span_bytes: int32 [columns, rows], filled in: start of the message in its payload, and its
            length, or NO_FEATURE. Of two entries with the same name the last counts, as in any protobuf map.
    """
    num_columns = name_offsets.size - 1
    for row in range(starts.size):
        for column in range(num_columns):
            span_bytes[column, row] = NO_FEATURE
        origin = starts[row]
        end = origin + lengths[row]
        if lengths[row] > 0x7FFFFFFF:
            note(fault, TOO_LARGE, row, origin, 0, lengths[row])
            return
        guess = 0
        at = origin
        while at < end:
            tag, entry, features_end = next_field(data, at, end)
            if features_end < 0:
                note(fault, MALFORMED, row, at, 0, 0)
                return
            at = features_end
            if tag != _FIELD_1:
                continue
            while entry < features_end:
                entry_tag, field, entry_end = next_field(data, entry, features_end)
                if entry_end < 0:
                    note(fault, MALFORMED, row, entry, 0, 0)
                    return
                entry = entry_end
                if entry_tag != _FIELD_1:
                    continue
                key_start, key_end = field, field
                value_start, value_end = field, field
                while field < entry_end:
                    field_tag, body, field_end = next_field(data, field, entry_end)
                    if field_end < 0:
                        note(fault, MALFORMED, row, field, 0, 0)
                        return
                    if field_tag == _FIELD_1:
                        key_start, key_end = body, field_end
                    elif field_tag == _FIELD_2:
                        value_start, value_end = body, field_end
                    field = field_end
                column = _find_name(data, key_start, key_end, names, name_offsets, guess)
                if column >= 0:
                    span_starts[column, row] = value_start - origin
                    span_bytes[column, row] = value_end - value_start
                    guess = column + 1


@inlined
def _count_list(data: int, at: int, stop: int, kind: int) -> tuple[int, int]:
    """(number of values, bytes of all values) of a list message; the number is -1 if it is malformed."""
    num_values = 0
    num_bytes = 0
    while at < stop:
        tag, body, end = next_field(data, at, stop)
        if end < 0:
            return -1, 0
        if tag == _FIELD_1 and kind == INT64_LIST:
            # A varint ends at a byte without the top bit; the values are checked when they are read.
            for index in range(body, end):
                num_values += load_byte(data, index) < 0x80
            if end > body and load_byte(data, end - 1) >= 0x80:
                return -1, 0
        elif tag == _FIELD_1 and kind == FLOAT_LIST:
            if (end - body) % 4:
                return -1, 0
            num_values += (end - body) // 4
        elif (
            (tag == _FIELD_1 and kind == BYTES_LIST)
            or (tag == _VARINT_1 and kind == INT64_LIST)
            or (tag == _FIXED32_1 and kind == FLOAT_LIST)
        ):
            num_values += 1
            num_bytes += end - body
        at = end
    return num_values, num_bytes


@compiled
def count_values(
    data: int,
    starts: np.ndarray,
    span_starts: np.ndarray,
    span_bytes: np.ndarray,
    kind: int,
    is_scalar: bool,
    may_be_absent: bool,
    counts: np.ndarray,
    fault: np.ndarray,
) -> int:
    """Count one feature's values of every row into ``counts`` (int64 [rows]; NO_FEATURE); returns their bytes.

    Of several lists in one Feature the last kind counts, and lists of that kind add up (protobuf's oneof).
    """
    total_bytes = 0
    for row in range(starts.size):
        at = starts[row] + span_starts[row]
        stop = at + span_bytes[row]
        found = 0
        num_values = 0
        num_bytes = 0
        while at < stop:
            tag, body, end = next_field(data, at, stop)
            if end < 0:
                note(fault, MALFORMED, row, at, 0, 0)
                return 0
            if tag & 7 == _DELIMITED and BYTES_LIST <= tag >> 3 <= INT64_LIST:
                if found != tag >> 3:
                    found = tag >> 3
                    num_values = 0
                    num_bytes = 0
                if found == kind:
                    more_values, more_bytes = _count_list(data, body, end, kind)
                    if more_values < 0:
                        note(fault, MALFORMED, row, body, 0, 0)
                        return 0
                    num_values += more_values
                    num_bytes += more_bytes
            at = end
        if found == 0:
            if not may_be_absent:
                note(fault, ABSENT, row, starts[row], 0, 0)
                return 0
            counts[row] = NO_FEATURE
            continue
        if found != kind:
            note(fault, WRONG_LIST, row, starts[row] + span_starts[row], kind, found)
            return 0
        if is_scalar and num_values != 1:
            note(fault, NOT_ONE, row, starts[row] + span_starts[row], 1, num_values)
            return 0
        counts[row] = num_values
        total_bytes += num_bytes
    return total_bytes


@compiled
def read_numbers(
    data: int,
    starts: np.ndarray,
    span_starts: np.ndarray,
    span_bytes: np.ndarray,
    kind: int,
    offsets: np.ndarray,
    values: np.ndarray,
    fault: np.ndarray,
) -> None:
    """Read int64 values, or the bits of float32 values, of every row to ``values[offsets[i]:offsets[i + 1]]``."""
    list_tag = kind << 3 | _DELIMITED
    for row in range(starts.size):
        at = starts[row] + span_starts[row]
        stop = at + span_bytes[row]
        to = offsets[row]
        room = offsets[row + 1]
        while at < stop:
            tag, body, end = next_field(data, at, stop)
            if end < 0:
                note(fault, MALFORMED, row, at, 0, 0)
                return
            if tag != list_tag:
                if tag & 7 == _DELIMITED and BYTES_LIST <= tag >> 3 <= INT64_LIST:
                    to = offsets[row]  # a list of another kind replaces the values before it
                at = end
                continue
            while body < end:
                field_tag, value_at, field_end = next_field(data, body, end)
                if field_end < 0:
                    note(fault, MALFORMED, row, body, 0, 0)
                    return
                if kind == INT64_LIST and (field_tag == _FIELD_1 or field_tag == _VARINT_1):
                    while value_at < field_end and to < room:
                        value, behind = get_varint(data, value_at, field_end)
                        if behind < 0:
                            note(fault, BAD_VARINT, row, value_at, 0, 0)
                            return
                        values[to] = signed(value)
                        to += 1
                        value_at = behind
                elif kind == FLOAT_LIST and (field_tag == _FIELD_1 or field_tag == _FIXED32_1):
                    while field_end - value_at >= 4 and to < room:
                        values[to] = load_uint32(data, value_at)
                        to += 1
                        value_at += 4
                body = field_end
            at = end


@compiled
def read_bytes(
    data: int,
    starts: np.ndarray,
    span_starts: np.ndarray,
    span_bytes: np.ndarray,
    offsets: np.ndarray,
    first_byte: int,
    value_offsets: np.ndarray,
    content: np.ndarray,
) -> int:
    """Copy bytes values to ``content`` from ``first_byte`` on; value j ends at ``value_offsets[j + 1]``.

    Called on messages that `count_values` accepted; returns the position after the last byte.
    """
    list_tag = BYTES_LIST << 3 | _DELIMITED
    written = first_byte
    for row in range(starts.size):
        at = starts[row] + span_starts[row]
        stop = at + span_bytes[row]
        to = offsets[row]
        row_first = written
        while at < stop:
            tag, body, end = next_field(data, at, stop)
            if end < 0:
                return written
            if tag != list_tag:
                if tag & 7 == _DELIMITED and BYTES_LIST <= tag >> 3 <= INT64_LIST:
                    to = offsets[row]
                    written = row_first
                at = end
                continue
            while body < end:
                field_tag, value_at, field_end = next_field(data, body, end)
                if field_end < 0:
                    return written
                if field_tag == _FIELD_1 and to < offsets[row + 1]:
                    for index in range(value_at, field_end):
                        if written < content.size:
                            content[written] = load_byte(data, index)
                            written += 1
                    to += 1
                    value_offsets[to] = written
                body = field_end
            at = end
    return written
