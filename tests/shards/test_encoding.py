import pyarrow as pa
import pytest

from scrollpast.errors import UserError
from scrollpast.shards.codec import encode_records
from scrollpast.shards.framing import unframe

INT64_LIST = pa.list_(pa.int64())


def payloads(batch: pa.RecordBatch) -> list[bytes]:
    return unframe(bytes(encode_records(batch)), "encoded")


def payload(**columns: pa.Array) -> str:
    """The one record of the columns, as spaced hexadecimal."""
    (only,) = payloads(pa.RecordBatch.from_pydict(columns))
    return only.hex(" ")


def test_a_record_is_what_the_protobuf_encoding_says() -> None:
    assert payload(b=pa.array([[1, 300, -1]], INT64_LIST), a=pa.array([1.5], pa.float32())) == (
        "0a 27 "  # Example.features, 39 bytes
        "0a 0d "  # a map entry, 13 bytes: "a" comes first, features are sorted by name
        "0a 01 61 "  # key "a"
        "12 08 "  # value: a Feature of 8 bytes
        "12 06 "  # float_list, 6 bytes
        "0a 04 00 00 c0 3f "  # packed: 1.5 as float32, lowest byte first
        "0a 16 "  # a map entry, 22 bytes
        "0a 01 62 "  # key "b"
        "12 11 "  # value: a Feature of 17 bytes
        "1a 0f "  # int64_list, 15 bytes
        "0a 0d "  # packed, 13 bytes:
        "01 "  # 1
        "ac 02 "  # 300 = 0b10_0101100
        "ff ff ff ff ff ff ff ff ff 01"  # -1 takes ten bytes: 64 one-bits
    )


def test_a_file_is_framed_records_one_after_the_other() -> None:
    batch = pa.RecordBatch.from_pydict({"n": pa.array([[5], None], INT64_LIST)})
    assert (
        bytes(encode_records(batch)).hex(" ")
        == (
            "0e 00 00 00 00 00 00 00 "  # the first payload's length
            "c5 e5 69 3f "  # masked CRC-32C of the length
            "0a 0c 0a 0a 0a 01 6e 12 05 1a 03 0a 01 05 "  # features, entry, key "n", Feature, int64_list, packed, 5
            "68 ed f9 22 "  # masked CRC-32C of the payload
            "02 00 00 00 00 00 00 00 "  # the second one's
            "78 27 0b 34 "
            "0a 00 "  # no feature at all
            "39 81 8b ab"
        )
    )


def test_bytes_are_not_packed() -> None:
    assert payload(s=pa.array([[b"hi", b""]], pa.list_(pa.binary()))) == (
        "0a 0f 0a 0d 0a 01 73 12 08 0a 06 "  # features, entry, key "s", Feature, bytes_list of 6 bytes
        "0a 02 68 69 "  # "hi"
        "0a 00"  # ""
    )


def test_a_scalar_is_a_list_of_one() -> None:
    assert payload(n=pa.array([7], pa.int64())) == payload(n=pa.array([[7]], INT64_LIST))
    assert payload(n=pa.array(["é"])) == payload(n=pa.array([["é".encode()]], pa.list_(pa.binary())))


def test_a_null_is_an_absent_feature_and_an_empty_list_a_present_one() -> None:
    assert payload(n=pa.array([None], INT64_LIST)) == "0a 00"
    assert payload(n=pa.array([None], pa.int64())) == "0a 00"
    # As TensorFlow writes Feature(int64_list=Int64List()): the list is there and has no bytes.
    assert payload(n=pa.array([[]], INT64_LIST)) == "0a 09 0a 07 0a 01 6e 12 02 1a 00"
    assert payload(n=pa.array([[]], pa.list_(pa.float32()))) == "0a 09 0a 07 0a 01 6e 12 02 12 00"


def test_no_rows_are_no_bytes() -> None:
    assert bytes(encode_records(pa.RecordBatch.from_pydict({"n": pa.array([], pa.int64())}))) == b""


def test_a_slice_is_encoded_like_its_copy() -> None:
    whole = pa.RecordBatch.from_pydict(
        {
            "n": pa.array([[1], None, [2, 3], [], [4]], INT64_LIST),
            "f": pa.array([None, 1, 2, None, 3], pa.float32()),
            "s": pa.array(["a", None, "bc", "", "d"]),
            "l": pa.array([[b"x"], [b"y", b"z"], None, [], [b""]], pa.list_(pa.binary())),
        }
    )
    for start in range(5):
        part = whole.slice(start, 2)
        assert payloads(part) == payloads(whole)[start : start + 2]
        assert payloads(part) == payloads(pa.RecordBatch.from_pylist(part.to_pylist(), schema=whole.schema))


def test_records_beyond_one_block_of_rows_are_the_same_as_one_by_one() -> None:
    batch = pa.RecordBatch.from_pydict({"n": pa.array([list(range(i % 5)) for i in range(5000)], INT64_LIST)})
    every = payloads(batch)
    assert len(every) == 5000
    assert [payloads(batch.slice(i, 1))[0] for i in (0, 2047, 2048, 4999)] == [
        every[i] for i in (0, 2047, 2048, 4999)
    ]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1], pa.int32()), "column n: expected int64, float32, binary, string .* found int32; cast"),
        (
            pa.array([[1, None]], INT64_LIST),
            "column n: expected lists without nulls.* found 1 nulls inside lists",
        ),
        (pa.array([1.0], pa.float64()), "found double"),
    ],
)
def test_what_no_feature_can_hold_is_refused(column: pa.Array, message: str) -> None:
    with pytest.raises(UserError, match=message):
        encode_records(pa.RecordBatch.from_pydict({"n": column}))


def test_two_columns_of_one_name_are_refused() -> None:
    twice = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"])
    with pytest.raises(UserError, match="column n: expected distinct column names, found several"):
        encode_records(twice)


def test_nulls_below_a_null_list_do_no_harm() -> None:
    values = pa.array([1, None, 3], pa.int64())
    hidden = pa.ListArray.from_arrays(
        pa.array([0, 1, 2, 3], pa.int32()), values, mask=pa.array([False, True, False])
    )
    assert payloads(pa.RecordBatch.from_pydict({"n": hidden})) == payloads(
        pa.RecordBatch.from_pydict({"n": pa.array([[1], None, [3]], INT64_LIST)})
    )
