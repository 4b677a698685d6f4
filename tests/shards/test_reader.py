import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.shards.conftest import PublishDay, manifest_of

from scrollpast.errors import CorruptShardError, UserError
from scrollpast.record_schema import record_schema
from scrollpast.shards.crc32c import masked_crc32c
from scrollpast.shards.framing import frame
from scrollpast.shards.manifest import publish_manifest, read_manifest, write_shard
from scrollpast.shards.reader import ShardReader


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory, publish_day: PublishDay) -> list[str]:
    """Two days of 5 + 3 and 4 + 0 + 2 records."""
    folder = tmp_path_factory.mktemp("days")
    uris = [str(folder / "ds=2026-11-21"), str(folder / "ds=2026-11-22")]
    publish_day(uris[0], "2026-11-21", (5, 3))
    publish_day(uris[1], "2026-11-22", (4, 0, 2))
    return uris


def users(batches: Iterator[pa.RecordBatch] | ShardReader) -> list[int]:
    return [user for batch in batches for user in batch.column("user_id").to_pylist()]


EVERY_USER = [*range(5), *range(1000, 1003), *range(4), *range(2000, 2002)]


def test_every_record_is_read_once_in_manifest_order(days: list[str]) -> None:
    assert users(ShardReader(days)) == EVERY_USER
    assert users(ShardReader([f"{days[1]}/manifest.json"])) == EVERY_USER[8:]
    assert users(ShardReader([])) == []


def test_the_records_are_those_that_were_written(days: list[str]) -> None:
    (first, _) = ShardReader(days[:1])
    assert first.schema == record_schema(["age"])
    assert first.slice(2, 1).to_pylist()[0] == {
        "user_id": 2,
        "user_age": 30,
        **{f"positive_{name}": [2] for name in ("ad_id", "kind", "served_at_ms", "request_hash", "weight")},
        **{
            f"negative_{name}": [2, 3] for name in ("ad_id", "kind", "served_at_ms", "request_hash", "weight")
        },
        **{f"negative_{name}": [2, 3] for name in ("position", "dwell_ms")},
    }


def test_a_batch_never_spans_two_shards(days: list[str]) -> None:
    assert [batch.num_rows for batch in ShardReader(days, batch_records=3)] == [3, 2, 3, 3, 1, 2]


def test_only_the_wanted_features_are_read(days: list[str]) -> None:
    reader = ShardReader(days, features=["negative_ad_id", "user_id"])
    assert {tuple(batch.schema.names) for batch in reader} == {("negative_ad_id", "user_id")}


@settings(max_examples=60, deadline=None)
@given(batch_records=st.integers(1, 6), later_batch_records=st.integers(1, 6), stop=st.integers(0, 14))
def test_stopped_anywhere_and_restored_equals_never_stopping(
    days: list[str], batch_records: int, later_batch_records: int, stop: int
) -> None:
    reader = ShardReader(days, batch_records=batch_records)
    seen: list[int] = []
    for batch in reader:
        if len(seen) >= stop:
            break
        seen += batch.column("user_id").to_pylist()
        state = json.dumps(reader.state())
    else:
        state = json.dumps(reader.state())
    if not seen:
        state = json.dumps(ShardReader(days).state())
    rest = ShardReader(days, batch_records=later_batch_records, features=["user_id"], state=json.loads(state))
    assert seen + users(rest) == EVERY_USER


def test_restored_at_every_batch_the_batches_are_the_same(days: list[str]) -> None:
    reader = ShardReader(days, batch_records=2)
    states, batches = [reader.state()], []
    for batch in reader:
        batches.append(batch)
        states.append(reader.state())
    for position, state in enumerate(states):
        assert list(ShardReader(days, batch_records=2, state=state)) == batches[position:]


def test_a_reader_stays_at_the_end_until_it_is_rewound(days: list[str]) -> None:
    reader = ShardReader(days)
    assert users(reader) == EVERY_USER
    assert users(reader) == []
    assert users(ShardReader(days, state=reader.state())) == []
    reader.rewind()
    assert users(reader) == EVERY_USER


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"shards": "0"},
        {"shard_index": 6},
        {"shard_index": -1},
        {"shard_index": "0"},
        {"record": 6},
        {"record": -1},
        {"record": None},
    ],
)
def test_a_state_of_other_shards_or_outside_them_is_refused(
    days: list[str], change: dict[str, object]
) -> None:
    state = ShardReader(days).state()
    with pytest.raises(UserError, match=r"^state of the reader: expected"):
        ShardReader(days, state=state | change)


def test_a_state_does_not_outlive_another_mining_of_the_day(tmp_path: Path, publish_day: PublishDay) -> None:
    for name, sizes in (("a", (5, 3)), ("b", (3, 5))):
        publish_day(str(tmp_path / name), sizes=sizes)
    with pytest.raises(UserError, match="without a later mining run or revocation"):
        ShardReader([str(tmp_path / "b")], state=ShardReader([str(tmp_path / "a")]).state())


def test_an_unknown_feature_suggests_the_nearest(days: list[str]) -> None:
    with pytest.raises(UserError, match=r"feature negative_adid: .*did you mean negative_ad_id"):
        ShardReader(days, features=["negative_adid"])
    with pytest.raises(UserError, match="batch_records: expected 1 or more, found 0"):
        ShardReader(days, batch_records=0)


def test_days_of_other_user_features_are_read_by_named_features_only(
    days: list[str], tmp_path: Path, publish_day: PublishDay
) -> None:
    other = str(tmp_path / "ds=2026-11-23")
    publish_day(other, "2026-11-23", (1,), user_features=("country",))
    with pytest.raises(UserError, match="days 2026-11-21 and 2026-11-23: expected the same user features"):
        ShardReader([days[0], other])
    assert users(ShardReader([days[0], other], features=["user_id"])) == [*EVERY_USER[:8], 0]


def test_days_with_and_without_histories_are_read_by_named_features_only(
    days: list[str], tmp_path: Path, publish_day: PublishDay
) -> None:
    other = str(tmp_path / "ds=2026-11-23")
    manifest = publish_day(other, "2026-11-23", (1,))
    publish_manifest(other, replace(manifest, has_user_history=True), replace=True)
    with pytest.raises(UserError, match=r"found \['age'\] and \['age', 'history_ad_id'\]"):
        ShardReader([days[0], other])
    assert users(ShardReader([days[0], other], features=["user_id"])) == [*EVERY_USER[:8], 0]
    wanted = {"features": ["user_id"], "optional": ["history_ad_id"]}
    assert ShardReader(days, **wanted).schema.names == ["user_id"]
    assert ShardReader([other], **wanted).schema.names == ["user_id", "history_ad_id"]
    with pytest.raises(
        UserError, match="history_ad_id: expected in all days, or in none, found none in 2026-11-21;"
    ):
        ShardReader([days[0], other], **wanted)


def first_shard(day: str) -> Path:
    return Path(day) / read_manifest(day).shards[0].path


def test_a_shard_cut_at_any_byte_is_one_clear_error(tmp_path: Path, publish_day: PublishDay) -> None:
    day = str(tmp_path / "ds=2026-11-21")
    publish_day(day, sizes=(2,))
    shard = first_shard(day)
    content = shard.read_bytes()
    readers = [ShardReader([day]), ShardReader([day], verify=False)]
    for size in range(len(content)):
        shard.write_bytes(content[:size])
        for reader in readers:
            with pytest.raises(
                CorruptShardError, match=rf"^{shard}.*; mine ds=2026-11-21 again with --overwrite$"
            ):
                users(reader)


def test_a_flipped_bit_names_file_record_byte_and_both_crcs(day: str) -> None:
    shard = first_shard(day)
    content = bytearray(shard.read_bytes())
    starts, at = [], 0
    while at < len(content):
        starts.append(at)
        at += 16 + int.from_bytes(content[at : at + 8], "little")
    payload = slice(starts[3] + 12, starts[4] - 4)
    stored = masked_crc32c(content[payload])
    content[starts[3] + 100] ^= 4
    shard.write_bytes(content)
    message = (
        f"{shard}, record 3, byte {starts[3]:,}: expected CRC 0x{stored:08x} over the payload, "
        f"found 0x{masked_crc32c(content[payload]):08x}; mine ds=2026-11-21 again with --overwrite"
    )
    with pytest.raises(CorruptShardError, match=f"^{re.escape(message)}$"):
        users(ShardReader([day]))


def test_a_missing_shard_is_one_clear_error(day: str) -> None:
    first_shard(day).unlink()
    with pytest.raises(
        CorruptShardError, match=r"expected a file of 1,\d+ bytes, found no such file; mine ds=2026"
    ):
        users(ShardReader([day]))


def test_records_swapped_for_others_of_the_same_size_are_noticed(day: str) -> None:
    shard = first_shard(day)
    content = bytearray(shard.read_bytes())
    size = int.from_bytes(content[:8], "little")
    payload = bytearray(content[12 : 12 + size])
    payload[-1] ^= 1
    shard.write_bytes(frame(bytes(payload)) + content[16 + size :])
    with pytest.raises(CorruptShardError, match=r"expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}; mine"):
        users(ShardReader([day]))


def test_lists_of_one_side_of_different_length_are_noticed(tmp_path: Path) -> None:
    schema = record_schema()
    row = {name: [1, 2] for name in schema.names} | {"user_id": 9, "negative_dwell_ms": [1]}
    batch = pa.RecordBatch.from_pylist([row | {"negative_dwell_ms": [1, 2]}, row], schema=schema)
    day = tmp_path / "ds=2026-11-21"
    manifest = manifest_of("2026-11-21", [write_shard(str(day), 0, batch)], user_features=[])
    (day / "manifest.json").write_text(manifest.to_json())
    with pytest.raises(
        CorruptShardError,
        match="record 1, feature negative_dwell_ms: expected 2 values, as many as negative_ad_id has",
    ):
        users(ShardReader([str(day)]))
