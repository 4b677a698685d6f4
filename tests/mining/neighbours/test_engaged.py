"""Engaged ads of users, gathered from records of several days and compared with sets of pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.mining.neighbours.engaged import ENGAGED_FEATURES, EngagedAds, engaged_schema
from scrollpast.record_schema import record_schema

CLICK, HIDE, SERVED, NEIGHBOUR = 1, 11, 0, 100
SCHEMA = pa.schema([record_schema().field(name) for name in ENGAGED_FEATURES])


def batch(*rows: tuple[int, Any, Any]) -> pa.RecordBatch:
    """Records of (user, positive ads, (ad, kind) of negatives); None for a list that is absent."""
    columns = {
        "user_id": [user for user, _, _ in rows],
        "positive_ad_id": [positives for _, positives, _ in rows],
        "negative_ad_id": [None if pairs is None else [ad for ad, _ in pairs] for _, _, pairs in rows],
        "negative_kind": [None if pairs is None else [kind for _, kind in pairs] for _, _, pairs in rows],
    }
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


def ads_of(engaged: EngagedAds) -> list[list[int]]:
    return [part.tolist() for part in np.split(engaged.ads, engaged.offsets[1:-1])]


def test_positives_hides_and_reports_are_engagements_and_served_ads_and_neighbours_are_not() -> None:
    records = batch((5, [3, 1, 3], [(7, SERVED), (8, HIDE), (9, NEIGHBOUR), (1, 12)]))
    assert ads_of(EngagedAds.of(np.array([5]), [records])) == [[1, 3, 8]]


def test_all_days_count_and_other_users_do_not() -> None:
    first, second = batch((5, [3], []), (6, [4], [])), batch((4, [9], []), (6, [2], [(1, HIDE)]))
    assert ads_of(EngagedAds.of(np.array([6, 5]), [first, second])) == [[1, 2, 4], [3]]


def test_ads_of_the_history_before_the_log_count() -> None:
    schema = engaged_schema(record_schema(("age",), has_history=True))
    assert schema.names == [*ENGAGED_FEATURES, "history_ad_id"]
    assert engaged_schema(record_schema(("age",))) == SCHEMA
    own = batch((5, [3], []), (6, [4], []))
    columns = [*own.columns, pa.array([[9, 3, 9], None], pa.list_(pa.int64()))]
    records = pa.RecordBatch.from_arrays(columns, schema=schema)
    assert ads_of(EngagedAds.of(np.array([5, 6]), [records])) == [[3, 9], [4]]


def test_a_record_may_lack_its_lists() -> None:
    assert ads_of(EngagedAds.of(np.array([1, 2]), [batch((1, None, None), (2, [], []))])) == [[], []]


def test_no_users_engaged_with_nothing() -> None:
    engaged = EngagedAds.of(np.zeros(0, np.int64), [batch((1, [2], []))])
    assert (engaged.offsets.tolist(), engaged.ads.tolist()) == ([0], [])


ADS = st.integers(0, 12)
ROWS = st.lists(
    st.tuples(
        st.integers(0, 8),
        st.lists(ADS, max_size=4),
        st.lists(st.tuples(ADS, st.sampled_from([SERVED, HIDE, NEIGHBOUR])), max_size=4),
    ),
    max_size=8,
)


@given(st.lists(ROWS, max_size=3), st.permutations(range(9)), st.integers(0, 9))
def test_it_holds_exactly_the_pairs_of_the_records(days: Any, users: list[int], count: int) -> None:
    asked = np.array(users[:count], np.int64)
    engaged = EngagedAds.of(asked, [batch(*rows) for rows in days])
    pairs = {(user, ad) for rows in days for user, positives, _ in rows for ad in positives}
    pairs |= {
        (user, ad) for rows in days for user, _, negatives in rows for ad, kind in negatives if kind == HIDE
    }
    numbers, ads = np.divmod(np.arange(count * 14), 14)
    expected = [(asked[number], ad) in pairs for number, ad in zip(numbers, ads, strict=True)]
    assert engaged.holds(numbers, ads).tolist() == expected
    middle = count // 2
    if middle:
        some = engaged.of_some(middle, count)
        is_of_some = numbers >= middle
        found = some.holds(numbers[is_of_some] - middle, ads[is_of_some]).tolist()
        assert found == [held for held, of_some in zip(expected, is_of_some, strict=True) if of_some]
