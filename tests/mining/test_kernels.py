"""The small kernels behind the rules: parcels, groups, the anchored users, the ad cap, the ledger."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from scrollpast.errors import ScrollpastError, UserError
from scrollpast.mining.examination.table import read_examination
from scrollpast.mining.rules.ad_cap import (
    AdLimits,
    count_by_bin,
    find_over_ad_cap,
    find_suspects,
    suspect_share,
)
from scrollpast.mining.rules.groups import (
    ByUser,
    has_between,
    is_first_of_code,
    last_at_or_before,
    order_by_user,
    rank_in_group,
)
from scrollpast.mining.rules.ledger import Ledger, count_cells
from scrollpast.mining.rules.user_filter import UserBloomFilter
from scrollpast.mining.spark.packed_columns import pack, split_by_bucket, unpack
from scrollpast.outcomes import Outcome
from tests.mining.in_process import rules_of

INT64S = st.integers(-(2**63), 2**63 - 1)
SMALL = st.integers(0, 5)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        nps.arrays(st.sampled_from(["<i8", "<i4", "<i2", "|i1", "<f4", "<f8"]), st.integers(0, 20)),
        max_size=4,
    ),
    st.lists(st.text(), max_size=3),
)
def test_a_parcel_unpacks_to_what_was_packed(columns: dict[str, np.ndarray], names: list[str]) -> None:
    found, words = unpack(pack(columns, names=names))
    assert words == {"names": names}
    assert list(found) == list(columns)
    for name, column in columns.items():
        assert found[name].dtype == column.dtype
        assert found[name].tobytes() == column.tobytes()


@given(st.lists(SMALL, max_size=30))
def test_splitting_by_bucket_keeps_every_row_and_its_order(buckets: list[int]) -> None:
    rows = np.arange(len(buckets))
    parts = list(split_by_bucket({"row": rows}, np.array(buckets, np.int32)))
    assert [bucket for bucket, _ in parts] == sorted(set(buckets))
    for bucket, columns in parts:
        assert columns["row"].tolist() == [row for row, b in enumerate(buckets) if b == bucket]


@given(st.lists(INT64S, max_size=200), st.lists(INT64S, max_size=200))
def test_no_anchored_user_is_missed(members: list[int], others: list[int]) -> None:
    parts = [np.array(members[::2], np.int64), np.array(members[1::2], np.int64)]
    users = UserBloomFilter.of(parts)
    assert users.may_contain(np.array(members, np.int64)).all()
    assert len(users.may_contain(np.array(others, np.int64))) == len(others)


def test_few_other_users_pass_the_filter() -> None:
    chance = np.random.default_rng(7)
    members, others = chance.integers(-(2**63), 2**63, (2, 100_000))
    assert UserBloomFilter.of([members]).may_contain(others).mean() < 0.02


@given(st.lists(st.tuples(SMALL, SMALL), max_size=30), st.lists(st.tuples(SMALL, SMALL), max_size=10))
def test_the_last_row_at_or_before_a_moment(
    rows: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    rows = sorted(rows, key=lambda row: row[1])
    key, time = np.array(rows, np.int64).reshape(-1, 2).T
    question_key, moment = np.array(asked, np.int64).reshape(-1, 2).T
    found = last_at_or_before(key, time, 6, question_key - 1, moment)
    for (wanted, until), row in zip(asked, found.tolist(), strict=True):
        fitting = [(t, n) for n, (k, t) in enumerate(rows) if k == wanted - 1 and t <= until]
        assert row == (max(fitting)[1] if fitting else -1)


@given(st.lists(st.tuples(SMALL, SMALL), max_size=20), st.lists(st.tuples(SMALL, SMALL, SMALL), max_size=10))
def test_whether_an_event_lies_between(
    events: list[tuple[int, int]], asked: list[tuple[int, int, int]]
) -> None:
    events = sorted(events, key=lambda event: event[1])
    key, time = np.array(events, np.int64).reshape(-1, 2).T
    question_key, start, length = np.array(asked, np.int64).reshape(-1, 3).T
    found = has_between(key, time, 6, question_key, start, start + length)
    for (wanted, begin, span), answer in zip(asked, found.tolist(), strict=True):
        assert answer == any(k == wanted and begin <= t <= begin + span for k, t in events)


@given(
    st.lists(st.tuples(st.sampled_from([-(2**63), -1, 0, 7, 2**63 - 1]), SMALL, SMALL, SMALL), max_size=150)
)
def test_rows_are_ordered_user_by_user(rows: list[tuple[int, int, int, int]]) -> None:
    users, starts, order = order_by_user(*np.array(rows, np.int64).reshape(-1, 4).T)
    assert order.tolist() == sorted(range(len(rows)), key=lambda n: rows[n])
    assert users.tolist() == sorted({user for user, *_ in rows})
    for number, user in enumerate(users.tolist()):
        assert {rows[n][0] for n in order[starts[number] : starts[number + 1]]} == {user}


def test_many_users_are_told_apart() -> None:
    user = np.random.default_rng(1).integers(-(2**63), 2**63, 40_000).repeat(3)
    none = np.zeros(len(user), np.int64)
    users, starts, order = order_by_user(user, np.tile([2, 0, 1], 40_000), none, none)
    assert (users == np.unique(user)).all()
    assert (np.diff(starts) == 3).all()
    assert (order.reshape(-1, 3) % 3 == [1, 2, 0]).all()


@given(
    st.lists(st.tuples(SMALL, SMALL, INT64S | SMALL), max_size=60),
    st.lists(st.tuples(SMALL, SMALL, INT64S | SMALL), max_size=20),
)
def test_pairs_are_numbered_within_their_user(
    rows: list[tuple[int, int, int]], events: list[tuple[int, int, int]]
) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    users = sorted({user for user, *_ in rows})
    events = sorted((event for event in events if event[0] in users), key=lambda event: event[0])
    bounds = [
        np.searchsorted([user for user, *_ in part], [*users, 99]).astype(np.int64) for part in (rows, events)
    ]
    by_user = ByUser(np.array(users, np.int64), *bounds)
    (_, first, second), (_, event_first, event_second) = (
        np.array(part, np.int64).reshape(-1, 3).T for part in (rows, events)
    )
    codes, event_codes, count = by_user.pair_codes(first, second, event_first, event_second)
    numbers: dict[tuple[int, int, int], int] = {}
    assert codes.tolist() == [numbers.setdefault(row, len(numbers)) for row in rows]
    assert event_codes.tolist() == [numbers.get(event, -1) for event in events]
    assert count == len(numbers)
    seen: set[int] = set()
    for code, is_first in zip(codes.tolist(), is_first_of_code(codes).tolist(), strict=True):
        assert is_first == (code not in seen)
        seen.add(code)


@given(st.lists(st.tuples(SMALL, SMALL), max_size=30))
def test_ranks_count_what_comes_before_in_the_group(rows: list[tuple[int, int]]) -> None:
    group, order = np.array(rows, np.int64).reshape(-1, 2).T
    ranks = rank_in_group(group, order, np.arange(len(rows)))
    for n, (g, o) in enumerate(rows):
        assert ranks[n] == sum((x, m) < (o, n) for m, (h, x) in enumerate(rows) if h == g)


@settings(deadline=None)
@given(
    st.integers(0, 2**31),
    st.lists(st.integers(1, 400), min_size=1, max_size=40),
    st.floats(0.01, 0.6),
    st.integers(1, 4),
)
def test_no_ad_has_more_than_its_share_of_the_negatives_that_are_left(
    seed: int, sizes: list[int], share: float, num_buckets: int
) -> None:
    rules = rules_of(max_ad_share=share)
    random = np.random.default_rng(seed)
    ads = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = {
        "ad": ads,
        "user": random.integers(0, 2**62, len(ads)),
        "request": random.integers(0, 2**62, len(ads)),
    }
    bucket = random.integers(0, num_buckets, len(ads))
    tables = [{name: column[bucket == b] for name, column in rows.items()} for b in range(num_buckets)]

    def count(suspects: np.ndarray) -> list[tuple[int, int, int]]:
        histogram: dict[tuple[int, int], int] = {}
        for table in tables:
            part = count_by_bin(table, suspects, rules)
            for ad, at, n in zip(*(part[name].tolist() for name in ("ad", "bin", "count")), strict=True):
                histogram[ad, at] = histogram.get((ad, at), 0) + n
        return [(ad, at, n) for (ad, at), n in histogram.items()]

    def find_above(least: float) -> np.ndarray:
        return np.unique(np.concatenate([find_suspects(table["ad"], least) for table in tables]))

    limits = AdLimits.find(find_above(suspect_share(rules)), len(ads), rules, count, find_above)
    left = rows["ad"][~find_over_ad_cap(rows, limits, rules)]
    after, before = (np.bincount(found, minlength=len(sizes)) for found in (left, ads))
    largest = after.max() / len(left)
    if limits.excess_share is None:
        assert largest <= share
        assert (after[before <= after.max()] == before[before <= after.max()]).all()
    else:
        assert limits.excess_share == largest > share
        # A bin of the hash holds few of these rows: a cap that leaves so many more than it must would have been found.
        left_by = (np.minimum(before, cap).sum() - 6 * len(sizes) for cap in range(1, int(before.max()) + 1))
        assert not any(cap <= share * left for cap, left in enumerate(left_by, 1))


def test_deep_positions_are_counted_like_any_other() -> None:
    position = np.array([-1, 0, 4094, 4095, 4096, 100_000, 100_000], np.int32)
    zeros = np.zeros(len(position))
    ledger = Ledger()
    ledger.add(count_cells(zeros.astype(np.int8), zeros.astype(np.int16), position), ["feed"])
    found = {position: count for (_, _, position), count in ledger.cells.items()}
    assert found == {None: 1, 0: 1, 4094: 1, 4095: 1, 4096: 1, 100_000: 2}


def test_a_ledger_that_does_not_add_up_says_by_how_much() -> None:
    ledger = Ledger()
    ledger.cells[Outcome.NEGATIVE, "feed", 0] = 9
    with pytest.raises(ScrollpastError, match=r"ledger: expected 10 impressions.*found 9 \(-1\)") as caught:
        ledger.check(10)
    assert caught.value.exit_code == 1


def test_an_examination_table_fills_its_gaps_and_refuses_what_is_no_probability(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "examination.parquet"

    def write(probability: list[float]) -> str:
        columns = {"surface": ["feed"] * 2, "position": [0, 3], "probability": probability}
        pa.parquet.write_table(pa.table(columns), path)
        return str(path)

    assert read_examination(None) == {}
    assert read_examination(write([1.0, 0.25]))["feed"].tolist() == [1.0, 1.0, 1.0, 0.25]
    with pytest.raises(UserError, match=r"expected probabilities in \[0, 1\], found 1.5 at feed, position 3"):
        read_examination(write([1.0, 1.5]))
    with pytest.raises(UserError, match="expected a readable Parquet table"):
        read_examination(str(tmp_path / "nothing.parquet"))
