"""TFRecord frames: ``length`` uint64 LE, its masked CRC-32C, the payload, the payload's masked CRC-32C.

Pure functions of bytes; files are elsewhere. Format: tensorflow.org/tutorials/load_data/tfrecord.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from scrollpast.compiled import as_bytes_array, compiled
from scrollpast.shards.crc32c import masked_between, masked_crc32c
from scrollpast.shards.faults import (
    HEADER_CRC,
    PAYLOAD_CRC,
    SHORT_HEADER,
    SHORT_PAYLOAD,
    WRITE_AGAIN,
    fault_error,
    no_fault,
    note,
)
from scrollpast.shards.memory import address_of, load_uint32, load_uint64, signed

HEADER_BYTES = 12
FOOTER_BYTES = 4


@dataclass(frozen=True)
class Frames:
    """Places of the payloads of a buffer: ``starts`` and ``lengths`` int64 [num_records], in bytes."""

    starts: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return int(self.starts.size)


def frame(payload: bytes) -> bytes:
    """Framed record: the payload between its length and its CRCs."""
    length = struct.pack("<Q", len(payload))
    return b"".join(
        (length, struct.pack("<I", masked_crc32c(length)), payload, struct.pack("<I", masked_crc32c(payload)))
    )


def unframe(data: bytes, place: str) -> list[bytes]:
    """Payloads of the records in ``data``, the inverse of concatenated `frame`.

    Raises:
        CorruptShardError: a frame is truncated or a CRC differs; names ``place``, the record and the byte.
    """
    frames = index_frames(data, place)
    view = memoryview(data)
    return [
        bytes(view[start : start + length])
        for start, length in zip(frames.starts.tolist(), frames.lengths.tolist(), strict=True)
    ]


def index_frames(
    buffer: Any, place: str, *, verify_payloads: bool = True, remedy: str = WRITE_AGAIN
) -> Frames:
    """Find every record of a TFRecord file's bytes and check its frame.

    Args:
        buffer: the whole content, anything with the buffer protocol.
        place: the file's name for messages.
        verify_payloads: also check each payload's CRC; lengths and their CRCs are always checked.
        remedy: remedy in the error's message.

    Raises:
        CorruptShardError: a frame is truncated, or a CRC differs.
    """
    data = as_bytes_array(buffer)
    fault = no_fault()
    num_records = _count_frames(address_of(data), data.size, fault)
    frames = Frames(np.empty(num_records, np.int64), np.empty(num_records, np.int64))
    # Payloads before the first corrupt frame are checked first, so that the error names the earliest fault.
    payload_fault = no_fault()
    _fill_frames(address_of(data), frames.starts, frames.lengths, verify_payloads, payload_fault)
    for found in (payload_fault, fault):
        if found[0]:
            raise fault_error(found, place, remedy)
    return frames


@compiled
def _count_frames(data: int, num_bytes: int, fault: np.ndarray) -> int:
    """Number of records at address ``data`` with a valid header and a complete payload, up to the first fault."""
    at = 0
    count = 0
    while at < num_bytes:
        remaining = num_bytes - at
        if remaining < HEADER_BYTES:
            note(fault, SHORT_HEADER, count, at, HEADER_BYTES, remaining)
            return count
        stored = load_uint32(data, at + 8)
        crc = masked_between(data, at, at + 8)
        if stored != crc:
            note(fault, HEADER_CRC, count, at, stored, crc)
            return count
        # Compared as unsigned: a length of 2**63 and more must not become negative.
        length = load_uint64(data, at)
        room = remaining - HEADER_BYTES
        if room < FOOTER_BYTES or length > np.uint64(room - FOOTER_BYTES):
            wanted = signed(min(length, np.uint64(1 << 62))) + FOOTER_BYTES
            note(fault, SHORT_PAYLOAD, count, at, wanted, room)
            return count
        at += HEADER_BYTES + signed(length) + FOOTER_BYTES
        count += 1
    return count


@compiled
def _fill_frames(data: int, starts: np.ndarray, lengths: np.ndarray, verify: bool, fault: np.ndarray) -> None:
    """Index the frames counted by `_count_frames`; stops at the first payload whose CRC differs."""
    at = 0
    for record in range(starts.size):
        length = signed(load_uint64(data, at))
        start = at + HEADER_BYTES
        starts[record] = start
        lengths[record] = length
        if verify:
            stored = load_uint32(data, start + length)
            crc = masked_between(data, start, start + length)
            if stored != crc:
                note(fault, PAYLOAD_CRC, record, at, stored, crc)
                return
        at = start + length + FOOTER_BYTES
