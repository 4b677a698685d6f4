import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.shards.record_strategies import batches

from scrollpast.errors import CorruptShardError, UserError
from scrollpast.shards.codec import decode_records, encode_records
from scrollpast.shards.framing import frame

INT64_LIST = pa.list_(pa.int64())


def message(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field, for contents under 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def example(*entries: bytes) -> bytes:
    return frame(message(1, b"".join(message(1, entry) for entry in entries)))


def entry(name: str, feature: bytes) -> bytes:
    return message(1, name.encode()) + message(2, feature)


def decoded(content: bytes, kind: pa.DataType, *, nullable: bool = True) -> list[object]:
    schema = pa.schema([pa.field("n", kind, nullable=nullable)])
    return decode_records(content, schema, "part-5f.tfrecord").column(0).to_pylist()


@given(batches())
def test_decode_is_the_inverse_of_encode(batch: pa.RecordBatch) -> None:
    again = decode_records(encode_records(batch), batch.schema, "round trip")
    again.validate(full=True)
    assert again.schema == batch.schema
    assert again.to_pylist() == batch.to_pylist()


@given(batches(), st.randoms())
def test_a_part_of_the_features_in_any_order_can_be_read(batch: pa.RecordBatch, random: object) -> None:
    names = list(batch.schema.names)
    random.shuffle(names)  # type: ignore[attr-defined]
    wanted = batch.select(names[: len(names) // 2 + 1])
    again = decode_records(encode_records(batch), wanted.schema, "part")
    assert again.to_pylist() == wanted.to_pylist()


def test_an_absent_feature_is_null() -> None:
    assert decoded(example(), INT64_LIST) == [None]
    assert decoded(frame(b""), pa.int64()) == [None]
    assert decoded(example(entry("n", b"")), INT64_LIST) == [None]  # a Feature without any list


def test_a_feature_that_must_be_there_is_missed() -> None:
    with pytest.raises(
        CorruptShardError, match="record 0, byte 12, feature n: expected a value in every record"
    ):
        decoded(example(), pa.int64(), nullable=False)


def test_lists_that_are_not_packed_are_read() -> None:
    assert decoded(example(entry("n", message(3, bytes([8, 1, 8, 0xAC, 2])))), INT64_LIST) == [[1, 300]]
    one_and_a_half = b"\x00\x00\xc0\x3f"
    unpacked = message(2, b"\x0d" + one_and_a_half + message(1, one_and_a_half * 2))
    assert decoded(example(entry("n", unpacked)), pa.list_(pa.float32())) == [[1.5, 1.5, 1.5]]


def test_key_and_value_may_come_in_any_order_and_the_last_entry_of_a_name_counts() -> None:
    first = message(2, message(3, b"\x08\x05")) + message(1, b"n")
    assert decoded(example(first), INT64_LIST) == [[5]]
    assert decoded(example(first, entry("n", message(3, b"\x08\x06"))), INT64_LIST) == [[6]]


def test_of_several_lists_in_one_feature_the_last_kind_counts_and_adds_up() -> None:
    ints, floats = message(3, b"\x08\x01"), message(2, b"\x0d\0\0\0\0")
    assert decoded(example(entry("n", ints + ints)), INT64_LIST) == [[1, 1]]
    assert decoded(example(entry("n", ints + floats + ints)), INT64_LIST) == [[1]]
    texts = message(1, message(1, b"ab"))
    assert decoded(example(entry("n", texts + ints + texts + texts)), pa.list_(pa.binary())) == [
        [b"ab", b"ab"]
    ]


def test_unknown_features_and_fields_are_passed_over() -> None:
    unknown = b"\x28\x01" + message(7, b"xyz") + b"\x4d\0\0\0\0" + b"\x51" + bytes(8)
    feature = unknown + message(3, unknown + b"\x08\x09") + unknown
    content = frame(unknown + message(1, unknown + message(1, unknown + entry("n", feature))))
    assert decoded(content, INT64_LIST) == [[9]]
    assert decoded(example(entry("other", b""), entry("n", message(3, b"\x08\x09"))), INT64_LIST) == [[9]]


@pytest.mark.parametrize(
    ("feature", "kind", "expectation"),
    [
        (message(2, b""), INT64_LIST, "feature n: expected int64_list, found float_list"),
        (message(3, b""), pa.list_(pa.binary()), "feature n: expected bytes_list, found int64_list"),
        (message(3, b""), pa.int64(), "feature n: expected exactly 1 value, found 0"),
        (message(3, b"\x08\x01\x08\x02"), pa.int64(), "feature n: expected exactly 1 value, found 2"),
        (message(3, b"\x0a\x01\x80"), INT64_LIST, "feature n: expected a protobuf field"),
        (
            message(3, b"\x0a" + bytes([11]) + b"\x80" * 10 + b"\0"),
            INT64_LIST,
            "feature n: expected integers of 64 bits",
        ),
        (
            message(3, b"\x0a" + bytes([10]) + b"\xff" * 9 + b"\x02"),
            INT64_LIST,
            "feature n: expected integers of 64 bits",
        ),
        (message(2, b"\x0a\x03abc"), pa.list_(pa.float32()), "feature n: expected a protobuf field"),
        (message(3, b"\x0a\x05\x01"), INT64_LIST, "feature n: expected a protobuf field"),
        (b"\x1b", INT64_LIST, "feature n: expected a protobuf field"),  # a group
        (b"\x02", INT64_LIST, "feature n: expected a protobuf field"),  # field number 0
        (message(1, message(1, b"\xff")), pa.string(), "feature n: expected values of type string"),
    ],
)
def test_a_feature_that_is_not_what_it_should_be_is_refused(
    feature: bytes, kind: pa.DataType, expectation: str
) -> None:
    with pytest.raises(CorruptShardError, match=expectation) as caught:
        decoded(example(entry("n", feature)), kind)
    assert caught.value.place.startswith("part-5f.tfrecord")


def test_the_error_names_the_record_and_the_byte_of_the_file() -> None:
    good = example(entry("n", message(3, b"\x08\x09")))
    bad = frame(b"\x0a\x05\x0a")
    with pytest.raises(
        CorruptShardError,
        match=f"^part-5f.tfrecord, record 3000, byte {3000 * len(good) + 12:,}: ".replace("3000,", "3,000,"),
    ):
        decoded(good * 3000 + bad, INT64_LIST)


def test_a_type_that_no_feature_has_is_refused() -> None:
    with pytest.raises(UserError, match="column n: expected int64"):
        decoded(example(), pa.int32())
