"""The table of users: packed histories, the join by bucket, and records that any partitioning gives alike."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrollpast.config import InputTable
from scrollpast.hashing import hash_column
from scrollpast.mining.io.contracts import users_contract
from scrollpast.mining.io.normalization import Normalization
from scrollpast.mining.rules.rules import Rules
from scrollpast.mining.users import count_positives_in_history, history_lists, join_users, latest_ads
from scrollpast.record_schema import record_schema
from scrollpast.shards.codec import decode_records
from tests.mining.in_process import (
    DAY_START_US,
    HOUR_US,
    Mined,
    engagements_of,
    impressions_of,
    mine,
    rules_of,
)

HISTORIES = st.none() | st.lists(st.integers(-5, 2**62), max_size=9)
TABLES = st.dictionaries(st.integers(0, 11), st.tuples(HISTORIES, st.sampled_from([None, "a", "b"])))
USERS = pa.schema([("user_id", pa.int64()), ("seen", pa.list_(pa.int64())), ("level", pa.string())])
Table = dict[int, tuple[list[int] | None, str | None]]


def rules(length: int = 4, **options: Any) -> Rules:
    mining = {"user_features": ["level"], "user_history": "seen", "user_history_length": length, **options}
    return replace(rules_of(**mining), features_of_users=("level",))


def table_of(users: Table) -> pa.Table:
    rows = [{"user_id": user, "seen": seen, "level": level} for user, (seen, level) in users.items()]
    return pa.Table.from_pylist(rows, USERS)


def log(num_users: int = 8) -> tuple[pa.Table, pa.Table]:
    """A click and a skipped ad of every even user; odd users click nothing."""
    rows = [
        {
            "request_id": user, "user_id": user, "ad_id": ad, "served_at": DAY_START_US + HOUR_US,
            "surface": "feed", "position": ad, "dwell_ms": 1500,
        }
        for user in range(num_users) for ad in (0, 1)
    ]  # fmt: skip
    clicks = [
        {"user_id": user, "ad_id": 1, "kind": "click", "engaged_at": DAY_START_US + HOUR_US + 1, "request_id": user}
        for user in range(0, num_users, 2)
    ]  # fmt: skip
    return impressions_of(rows), engagements_of(clicks)


def records(mined: Mined, day: Path, *, has_history: bool = True) -> dict[int, dict[str, Any]]:
    schema = record_schema(["level"], has_history=has_history)
    found = []
    for entry in mined.shards:
        found += decode_records((day / entry.path).read_bytes(), schema, entry.path).to_pylist()
    return {record["user_id"]: record for record in found}


@settings(max_examples=60, deadline=None)
@given(users=TABLES, length=st.integers(1, 6))
def test_a_record_holds_the_last_ads_of_its_users_list(users: Table, length: int) -> None:
    impressions, engagements = log()
    with TemporaryDirectory() as day:
        mined = mine([impressions], [engagements], rules(length), Path(day), users=[table_of(users)])
        found = records(mined, Path(day))
    codes = hash_column(pa.array(["a", "b"])) & (2**63 - 1)
    level_of = dict(zip([None, "a", "b"], [-1, *codes.tolist()], strict=True))
    assert found.keys() == {0, 2, 4, 6}
    for user, record in found.items():
        seen, level = users.get(user, (None, None))
        assert record["history_ad_id"] == (seen or [])[-length:]
        assert record["user_level"] == level_of[level]
    assert mined.num_users["read"] == len(users)
    assert mined.num_users["found"] == len(found.keys() & users.keys())


@settings(max_examples=60, deadline=None)
@given(users=TABLES, seed=st.integers(0, 2**32), num_tasks=st.integers(1, 5), rows=st.integers(1, 4))
def test_any_partitioning_gives_the_same_bytes(users: Table, seed: int, num_tasks: int, rows: int) -> None:
    impressions, engagements = log()
    order = random.Random(seed)
    shuffled = list(users.items())
    order.shuffle(shuffled)
    parts = [table_of(dict(shuffled[number::num_tasks])) for number in range(num_tasks)]
    with TemporaryDirectory() as day:
        once = mine([impressions], [engagements], rules(), Path(day), users=[table_of(users)])
        again = mine(
            [impressions], [engagements], rules(), Path(day), users=parts, order=order, batch_rows=rows
        )
    assert again.shards == once.shards


def test_a_user_with_two_rows_is_counted(tmp_path: Path) -> None:
    tables = [table_of({2: ([1], "a"), 1: ([1], "a")}), table_of({2: ([1], "a"), 1: ([2], "b")})]
    mined = mine(*([table] for table in log()), rules(), tmp_path, users=tables)
    assert (mined.num_users["repeated"], mined.num_users["found"], mined.num_users["joined"]) == (1, 1, 4)


def test_a_row_without_a_user_is_counted(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"user_id": None, "seen": [1], "level": "a"}], USERS)
    mined = mine(*([table] for table in log()), rules(), tmp_path, users=[table])
    assert mined.num_users["invalid"] == 1
    assert [record["history_ad_id"] for record in records(mined, tmp_path).values()] == [[]] * 4


def test_without_a_column_of_histories_records_have_no_such_feature(tmp_path: Path) -> None:
    without = replace(rules_of(user_features=["level"]), features_of_users=("level",))
    mined = mine(*([table] for table in log()), without, tmp_path, users=[table_of({0: ([5], "a")})])
    content = b"".join((tmp_path / entry.path).read_bytes() for entry in mined.shards)
    assert b"history_ad_id" not in content
    assert records(mined, tmp_path, has_history=False)[0]["user_level"] > 0


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.large_string())])
def test_ids_of_text_are_hashed_as_ids_of_ads_are(kind: pa.DataType) -> None:
    lengths, ads = latest_ads(pa.array([["x", "y", "z"], None, []], kind), 2)
    assert lengths.tolist() == [2, 0, 0]
    assert ads.tolist() == (hash_column(pa.array(["y", "z"])) & (2**63 - 1)).tolist()


def test_a_part_of_a_larger_array_is_read_by_its_own_lists() -> None:
    lists = pa.array([[1], [2, 3], None, [4, 5, 6]])
    lengths, ads = latest_ads(lists.slice(1), 2)
    assert (lengths.tolist(), ads.tolist()) == ([2, 0, 2], [2, 3, 5, 6])


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        (pa.array([["a", "", None], None, ["none", "b"]]), [["a"], [], ["b"]]),
        (pa.array([[1, 0, None], [0], [2]], pa.large_list(pa.int32())), [[1], [], [2]]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_items_that_mean_null_are_left_out(lists: pa.Array, expected: list[list[Any] | None]) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(range(len(lists))), lists], ["user_id", "seen"])
    contract = users_contract([], "seen")
    change = Normalization.of(InputTable(), contract, batch.schema, ["", "none", "0"])
    assert not change.changes_nothing
    assert change(batch)["seen"].to_pylist() == expected


def test_users_that_the_table_lacks_are_unknown() -> None:
    joined, counts = join_users(np.array([1, 2]), [], rules())
    assert joined["feature:level"].tolist() == [-1, -1]
    assert history_lists(joined["history_length"], joined["history_ad"], np.arange(2)).to_pylist() == [[], []]
    assert counts == {"found": 0, "repeated": 0}


def test_positives_that_the_history_holds_are_counted() -> None:
    rows = [
        {"positive_ad_id": [1, 2, 1], "history_ad_id": [1, 1, 9]},
        {"positive_ad_id": [9], "history_ad_id": []},
        {"positive_ad_id": [], "history_ad_id": [2]},
    ]
    batch = pa.RecordBatch.from_pylist(rows, record_schema(has_history=True).remove(0))
    assert count_positives_in_history(batch) == 2
