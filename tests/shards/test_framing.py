import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.errors import CorruptShardError
from scrollpast.shards.crc32c import masked_crc32c
from scrollpast.shards.framing import frame, index_frames, unframe

PAYLOADS = st.lists(st.binary(max_size=60), max_size=6)


def test_a_frame_is_length_crc_payload_crc() -> None:
    assert frame(b"abc").hex(" ") == (
        "03 00 00 00 00 00 00 00 "  # length, uint64, lowest byte first
        "b0 99 49 0e "  # masked CRC-32C of the eight bytes above
        "61 62 63 "  # the payload
        "6e 57 f1 21"  # masked CRC-32C of the payload
    )


def test_no_bytes_are_no_records() -> None:
    assert unframe(b"", "empty.tfrecord") == []


@given(PAYLOADS)
def test_unframe_is_the_inverse_of_joined_frames(payloads: list[bytes]) -> None:
    assert unframe(b"".join(map(frame, payloads)), "any.tfrecord") == payloads


def test_a_file_cut_at_any_byte_is_refused_unless_it_is_cut_between_records() -> None:
    payloads = [b"first", b"", b"third record"]
    ends = [len(b"".join(map(frame, payloads[:count]))) for count in range(4)]
    content = b"".join(map(frame, payloads))
    for size in range(len(content)):
        if size in ends:
            assert unframe(content[:size], "cut.tfrecord") == payloads[: ends.index(size)]
        else:
            record = sum(end <= size for end in ends) - 1
            with pytest.raises(
                CorruptShardError, match=rf"^cut.tfrecord, record {record}, byte {ends[record]}:"
            ):
                unframe(content[:size], "cut.tfrecord")


def test_any_flipped_bit_is_noticed() -> None:
    content = frame(b"some payload") + frame(b"another one")
    for bit in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptShardError, match=rf"record {int(bit // 8 >= 28)}, byte"):
            unframe(bytes(flipped), "flipped.tfrecord")


def test_the_error_names_file_record_byte_both_crcs_and_the_remedy() -> None:
    content = bytearray(frame(b"x" * 1000) * 3)
    content[1016 * 2 + 500] ^= 1
    found = masked_crc32c(content[1016 * 2 + 12 : 1016 * 2 + 1012])
    message = (
        f"part-5f.tfrecord, record 2, byte 2,032: expected CRC 0x{masked_crc32c(b'x' * 1000):08x} over the payload, "
        f"found 0x{found:08x}; mine ds=2026-11-21 again"
    )
    with pytest.raises(CorruptShardError, match=f"^{re.escape(message)}$"):
        index_frames(content, "part-5f.tfrecord", remedy="mine ds=2026-11-21 again")


def test_the_first_of_several_faults_is_named() -> None:
    content = bytearray(frame(b"one") + frame(b"two"))
    content[13] ^= 1
    with pytest.raises(CorruptShardError, match="record 0, byte 0"):
        unframe(bytes(content[:-1]), "twice.tfrecord")


def test_payload_crcs_can_be_left_unchecked_but_not_those_of_lengths() -> None:
    content = bytearray(frame(b"one"))
    content[13] ^= 1
    assert len(index_frames(content, "payload.tfrecord", verify_payloads=False)) == 1
    content[0] ^= 1
    with pytest.raises(CorruptShardError, match="over the record's length"):
        index_frames(content, "length.tfrecord", verify_payloads=False)


@pytest.mark.parametrize("length", [2**63 - 1, 2**63, 2**64 - 1, 2**64 - 16, 2**32, 1])
def test_a_length_beyond_the_file_is_refused_even_with_a_sound_crc(length: int) -> None:
    header = struct.pack("<Q", length)
    content = header + struct.pack("<I", masked_crc32c(header)) + b"\0" * 4
    with pytest.raises(CorruptShardError, match="bytes before the end of the file"):
        unframe(content, "long.tfrecord")
