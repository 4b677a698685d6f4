"""Any bytes at all: decoded or refused with one clear error, without a read beyond the buffer."""

from __future__ import annotations

import ctypes
import mmap
import random
import sys
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.shards.record_strategies import batches

from scrollpast.errors import CorruptShardError
from scrollpast.shards.codec import decode_frames, decode_records, encode_records
from scrollpast.shards.framing import Frames, frame, unframe

SCHEMA = pa.schema(
    [
        pa.field("count", pa.int64()),
        pa.field("ids", pa.list_(pa.int64())),
        pa.field("name", pa.string()),
        pa.field("tags", pa.list_(pa.binary())),
        pa.field("weights", pa.list_(pa.float32())),
    ]
)
RECORDS = pa.RecordBatch.from_pylist(
    [
        {
            "count": -1,
            "ids": [1, 300, -5, 2**40, 2**62],
            "name": "é",
            "tags": [b"x", b""],
            "weights": [0.5, 2.0],
        },
        {"count": 10**9, "ids": list(range(100, 160)), "name": None, "tags": [], "weights": []},
        {"count": None, "ids": None, "name": "", "tags": [b"y" * 130], "weights": None},
    ],
    schema=SCHEMA,
)


@pytest.fixture(scope="module")
def fenced() -> Iterator[Fence]:
    if not sys.platform.startswith("linux"):
        pytest.skip("fences memory with Linux's mprotect")
    fence = Fence()
    yield fence
    fence.close()


class Fence:
    """Memory that ends where no byte may be read: a read beyond a buffer placed there kills the process."""

    def __init__(self) -> None:
        self._size = 64 * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, self._size + mmap.PAGESIZE)
        self._protect(0)

    def place(self, content: bytes) -> memoryview:
        start = self._size - len(content)
        self._memory[start : self._size] = content
        return memoryview(self._memory)[start : self._size]

    def close(self) -> None:
        self._protect(mmap.PROT_READ | mmap.PROT_WRITE)

    def _protect(self, rights: int) -> None:
        view = (ctypes.c_char * len(self._memory)).from_buffer(self._memory)
        mprotect = ctypes.CDLL(None, use_errno=True).mprotect
        last_page = ctypes.c_void_p(ctypes.addressof(view) + self._size)
        assert mprotect(last_page, ctypes.c_size_t(mmap.PAGESIZE), rights) == 0


def decode_or_refuse(content: memoryview | bytes, schema: pa.Schema = SCHEMA) -> bool:
    """True if the file's bytes could be decoded; a decoded batch must be valid."""
    try:
        batch = decode_records(content, schema, "mutated.tfrecord")
    except CorruptShardError:
        return False
    batch.validate(full=True)
    return True


def parse_or_refuse(payload: memoryview) -> bool:
    """True if the bytes could be decoded as one message without a frame."""
    alone = Frames(np.zeros(1, np.int64), np.array([len(payload)]))
    try:
        batch = decode_frames(payload, alone, SCHEMA, "mutated.tfrecord")
    except CorruptShardError:
        return False
    batch.validate(full=True)
    return True


def mutated(content: bytes, generator: random.Random) -> bytes:
    """One to four changes: a byte or bit changed, a stretch removed, repeated, replaced or overwritten."""
    changed = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(changed) + 1)
        stretch = generator.randrange(1, 12)
        match generator.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << generator.randrange(8)
            case 1:
                changed[at : at + 1] = bytes([generator.choice([0, 1, 0x0A, 0x12, 0x1A, 0x7F, 0x80, 0xFF])])
            case 2:
                del changed[at : at + stretch]
            case 3:
                changed[at:at] = changed[at : at + stretch]
            case 4:
                changed[at:at] = generator.randbytes(stretch)
            case _:
                changed[at : at + stretch] = b"\xff" * stretch
    return bytes(changed)


def test_mutated_files_are_refused_or_read_but_never_beyond_their_end(fenced: Fence) -> None:
    generator = random.Random(20261121)
    content = bytes(encode_records(RECORDS))
    outcomes = [decode_or_refuse(fenced.place(mutated(content, generator))) for _ in range(3000)]
    assert not all(outcomes)


def test_mutated_messages_are_refused_or_read_but_never_beyond_their_end(fenced: Fence) -> None:
    """No CRC stands between the parser of messages and the mutation, nor between the message and the fence."""
    generator = random.Random(20261122)
    payloads = unframe(bytes(encode_records(RECORDS)), "encoded")
    outcomes = [parse_or_refuse(fenced.place(mutated(payloads[turn % 3], generator))) for turn in range(8000)]
    assert 0.05 < sum(outcomes) / len(outcomes) < 0.95


def test_a_message_cut_at_any_byte_is_refused(fenced: Fence) -> None:
    for payload in unframe(bytes(encode_records(RECORDS)), "encoded"):
        outcomes = [parse_or_refuse(fenced.place(payload[:size])) for size in range(len(payload))]
        assert outcomes == [True] + [False] * (len(payload) - 1)  # no bytes are a record without features


@given(st.binary(max_size=300))
def test_arbitrary_bytes_as_a_message(content: bytes) -> None:
    decode_or_refuse(frame(content))


@given(batches(max_rows=3), st.randoms(use_true_random=False))
def test_mutations_of_any_batch(batch: pa.RecordBatch, generator: random.Random) -> None:
    content = bytes(encode_records(batch))
    decode_or_refuse(mutated(content, generator), batch.schema)
    for payload in unframe(content, "encoded"):
        decode_or_refuse(frame(mutated(payload, generator)), batch.schema)


def test_a_declared_length_takes_no_memory_before_it_is_believed() -> None:
    import tracemalloc

    # A feature of 2**31 - 1 bytes, says the length; there are three.
    content = frame(b"\x0a\x0e\x0a\x0c\x0a\x03ids\x12\xff\xff\xff\xff\x07\x1a\x01")
    tracemalloc.start()
    decode_or_refuse(content)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 1_000_000
