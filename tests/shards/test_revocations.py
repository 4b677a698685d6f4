"""Negatives that were revoked are left out by every reader, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.shards.conftest import PublishDay

from scrollpast.errors import CorruptShardError
from scrollpast.record_schema import NEGATIVE_FEATURES, record_schema
from scrollpast.shards.manifest import publish_manifest, read_manifest
from scrollpast.shards.reader import ShardReader
from scrollpast.shards.revocations import SCHEMA, RevokedNegatives, read_revocations, write_revocations

KEYS = ("user_id", "negative_ad_id", "negative_served_at_ms")
SMALL = st.integers(0, 4)
NEGATIVE = st.tuples(SMALL, SMALL)


def rows_of(revoked: set[tuple[int, int, int]], bucket: int = 0) -> pa.Table:
    rows = [(*key, bucket, "click", 0) for key in sorted(revoked)]
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)


def batch_of(records: list[tuple[int, list[tuple[int, int]]]]) -> pa.RecordBatch:
    """Records of (user, [(ad, served_at_ms)]); every other feature of a negative says which one it is."""
    rows = []
    number = 0
    for user, negatives in records:
        numbers = list(range(number, number + len(negatives)))
        number += len(negatives)
        lists = dict.fromkeys(NEGATIVE_FEATURES, numbers)
        lists |= {
            "negative_ad_id": [ad for ad, _ in negatives],
            "negative_served_at_ms": [at for _, at in negatives],
        }
        rows.append({"user_id": user, **lists})
    return pa.RecordBatch.from_pylist(rows, record_schema())


@given(
    st.lists(st.tuples(SMALL, st.lists(NEGATIVE, max_size=5)), min_size=1, max_size=6),
    st.sets(st.tuples(SMALL, SMALL, SMALL), min_size=1),
)
def test_exactly_the_revoked_negatives_are_dropped(
    records: list[tuple[int, list[tuple[int, int]]]], revoked: set[tuple[int, int, int]]
) -> None:
    batch = batch_of(records)
    dropped = RevokedNegatives.of(rows_of(revoked)).drop(batch)
    assert dropped.schema == batch.schema
    for before, after in zip(batch.to_pylist(), dropped.to_pylist(), strict=True):
        pairs = zip(before["negative_ad_id"], before["negative_served_at_ms"], strict=True)
        kept = [number for number, key in enumerate(pairs) if (before["user_id"], *key) not in revoked]
        wanted = {name: [before[name][number] for number in kept] for name in NEGATIVE_FEATURES}
        assert after == before | wanted


@pytest.fixture
def day(tmp_path: Path, publish_day: PublishDay) -> str:
    """Records of 5 + 3 users; of the first five, three have negatives: 1 has 1; 2 has 2 and 3; 4 has 4."""
    uri = str(tmp_path / "ds=2026-11-21")
    publish_day(uri, "2026-11-21", (5, 3))
    return uri


def revoke(day: str, *negatives: tuple[int, int, int]) -> None:
    path = write_revocations(rows_of(set(negatives)), day)
    publish_manifest(day, replace(read_manifest(day), revocation_file=path), replace=True)


def negatives(day: str, **options: object) -> list[list[int]]:
    reader = ShardReader([day], features=["negative_ad_id"], **options)  # type: ignore[arg-type]
    return [ads for batch in reader for ads in batch["negative_ad_id"].to_pylist()]


def test_readers_leave_out_what_was_revoked_also_where_they_read_one_feature(day: str) -> None:
    before = negatives(day)
    revoke(day, (2, 3, 3), (4, 4, 4), (7, 7, 7))
    assert before[:5] == [[], [1], [2, 3], [], [4]]
    assert negatives(day) == [[], [1], [2], [], [], *before[5:]]
    assert negatives(day, batch_records=2, verify=False) == negatives(day)


def test_what_was_revoked_in_a_bucket_concerns_no_other(day: str) -> None:
    before = negatives(day)
    table = rows_of({(2, 3, 3)}, bucket=1)
    publish_manifest(
        day, replace(read_manifest(day), revocation_file=write_revocations(table, day)), replace=True
    )
    assert negatives(day) == before


def test_a_position_is_not_one_in_the_day_before_it_was_revoked_from(day: str) -> None:
    state = ShardReader([day]).state()
    revoke(day, (2, 3, 3))
    assert ShardReader([day]).state() != state


def test_revocations_are_named_by_content_in_any_order(day: str) -> None:
    table = rows_of({(2, 3, 3), (1, 1, 1)})
    path = write_revocations(table, day)
    assert write_revocations(table.take([1, 0]), day) == path
    assert read_revocations(day, path).equals(table)
    assert read_revocations(day, None).num_rows == 0


def test_revocations_that_are_gone_or_broken_are_told(day: str) -> None:
    revoke(day, (2, 3, 3))
    path = Path(day) / str(read_manifest(day).revocation_file)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptShardError, match="expected the content of its name"):
        ShardReader([day])
    path.unlink()
    with pytest.raises(
        CorruptShardError, match="expected the revocations that the manifest names, found no such file"
    ):
        ShardReader([day])


def test_a_file_without_revocations_leaves_every_negative(day: str) -> None:
    before = list(ShardReader([day]))
    publish_manifest(
        day,
        replace(read_manifest(day), revocation_file=write_revocations(SCHEMA.empty_table(), day)),
        replace=True,
    )
    assert [batch.to_pylist() for batch in ShardReader([day])] == [batch.to_pylist() for batch in before]
