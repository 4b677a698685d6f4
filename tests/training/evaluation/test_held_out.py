"""Users of an evaluation, the data used about them, and the data that must not be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scrollpast.config.training_options import TrainingData
from scrollpast.errors import UserError
from scrollpast.training.evaluation.held_out import HeldOut, Ragged, read_held_out
from tests.training.evaluation.toy import day, row, ten_ads


def lists(ragged: Ragged) -> list[list[int]]:
    return [part.tolist() for part in np.split(ragged.rows, ragged.offsets[1:-1])]


def days(folder: Path, before: list[Any], after: list[Any]) -> tuple[list[str], list[str]]:
    first = day(folder, "2026-11-21", "2026-11-20T00:00:00Z", "2026-11-22T00:00:00Z", before)
    second = day(folder, "2026-11-22", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z", after)
    return [first], [second]


def test_a_user_is_asked_about_with_all_that_came_before(tmp_path: Path) -> None:
    before = [row(7, {3: 5, 1: 2, 11: 4}, [5]), row(8, {2: 1}, [])]
    after = [
        row(7, {3: 60, 4: 50, 12: 51, 13: 52}, [4, 6, 1, 6, 14, 9], kinds=[0, 0, 0, 11, 0, 100]),
        row(9, {2: 50}, [3]),
        row(5, {}, [3]),
    ]
    found = read_held_out(*days(tmp_path, before, after), ten_ads())
    assert found.user_id.tolist() == [7, 9]
    assert lists(found.history) == [[1, 0, 3], []]
    assert lists(found.known) == [[1, 3], []]
    # Ad 3 is known; 12 and 13 are two ads without a row.
    assert sorted(lists(found.targets)[0]) == [0, 0, 4]
    assert lists(found.targets)[1] == [2]
    # 4 is a target, 1 is known, 14 has no row, 9 is a neighbour and was never served.
    assert lists(found.served) == [[6], [3]]
    assert found.num_known_targets == 1
    assert found.is_new.tolist() == [False, True]
    assert found.user_row.tolist() == ten_ads().user_rows(np.array([7, 9])).tolist()
    assert set(found.user_features) == {"age"}


def test_a_user_all_of_whose_positives_are_known_is_not_asked_about(tmp_path: Path) -> None:
    found = read_held_out(
        *days(tmp_path, [row(7, {3: 5}, [])], [row(7, {3: 60}, []), row(8, {3: 61}, [])]), ten_ads()
    )
    assert (found.user_id.tolist(), found.num_known_targets) == ([8], 1)


def test_the_latest_of_a_long_history_stay(tmp_path: Path) -> None:
    before = [row(7, {ad: 9 - ad for ad in range(1, 9)}, [])]
    found = read_held_out(
        *days(tmp_path, before, [row(7, {9: 60}, [])]), ten_ads(), data=TrainingData(max_history=3)
    )
    assert lists(found.history) == [[3, 2, 1]]
    assert lists(found.known) == [[1, 2, 3, 4, 5, 6, 7, 8]]


def test_lists_hold_an_ad_once_where_repeats_are_merged(tmp_path: Path) -> None:
    first = row(7, {3: 1, 2: 2, 5: 8}, [4, 6, 4, 9], kinds=[0, 0, 0, 100])
    second = row(7, {3: 20}, [6])
    arguments = days(tmp_path, [first, second], [row(7, {8: 60}, [])])
    plain = read_held_out(*arguments, ten_ads(), data=TrainingData(max_passed=8))
    assert lists(plain.history) == [[3, 2, 5, 3]]
    assert sorted(lists(plain.passed)[0]) == [4, 4, 6, 6]
    merged = read_held_out(*arguments, ten_ads(), data=TrainingData(max_passed=8, merge_repeats=True))
    assert lists(merged.history) == [[2, 5, 3]]
    assert sorted(lists(merged.passed)[0]) == [4, 6]
    assert lists(read_held_out(*arguments, ten_ads()).passed) == [[]]


def test_some_users_stand_for_all_the_same_ones_every_time(tmp_path: Path) -> None:
    arguments = days(tmp_path, [], [row(user, {1: 50}, []) for user in range(100)])
    whole = read_held_out(*arguments, ten_ads())
    some = read_held_out(*arguments, ten_ads(), max_users=10, seed=1)
    fewer = read_held_out(*arguments, ten_ads(), max_users=5, seed=1)
    assert (len(whole), len(some), len(fewer)) == (100, 10, 5)
    assert set(fewer.user_id) < set(some.user_id)
    assert set(read_held_out(*arguments, ten_ads(), max_users=10, seed=2).user_id) != set(some.user_id)


def test_the_features_of_a_user_are_those_of_its_latest_record(tmp_path: Path) -> None:
    first, last = row(7, {1: 50}, []), row(7, {2: 80}, [])
    first["user_age"], last["user_age"] = 20, 30
    evaluated = [
        day(tmp_path, "2026-11-22", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z", [first]),
        day(tmp_path, "2026-11-23", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z", [last]),
    ]
    found = read_held_out([], evaluated, ten_ads())
    assert found.user_features["age"].tolist() == [2]
    assert lists(found.targets) == [[1, 2]]


def test_the_history_before_the_log_precedes_the_positives_and_is_known(tmp_path: Path) -> None:
    before = [row(7, {3: 5}, []) | {"history_ad_id": [9, 2, 12, 3]}]
    after = [
        row(7, {2: 50, 4: 51}, [9, 6]) | {"history_ad_id": [5]},  # the record of the days before counts
        row(8, {3: 50}, []) | {"history_ad_id": [6, 6]},
    ]
    arguments = days(tmp_path, before, after)
    found = read_held_out(*arguments, ten_ads())
    assert lists(found.history) == [[9, 2, 3, 3], [6, 6]]
    assert lists(found.known) == [[2, 3, 9], [6]]
    assert lists(found.targets) == [[4], [3]]
    assert lists(found.served) == [[6], []]
    merged = read_held_out(*arguments, ten_ads(), data=TrainingData(merge_repeats=True, max_history=2))
    assert lists(merged.history) == [[2, 3], [6]]
    unread = read_held_out(*arguments, ten_ads(), data=TrainingData(read_user_history=False))
    assert lists(unread.history) == [[3], []]
    assert (lists(unread.known), lists(unread.targets)) == (lists(found.known), lists(found.targets))


def test_a_user_has_the_history_of_the_first_evaluated_record(tmp_path: Path) -> None:
    evaluated = [
        day(
            tmp_path,
            f"2026-11-{number}",
            f"2026-11-{number}T00:00:00Z",
            f"2026-11-{number + 1}T00:00:00Z",
            [row(7, {ad: 24 * number}, []) | {"history_ad_id": [8 - ad]}],
        )
        for ad, number in ((1, 22), (2, 23))
    ]
    assert lists(read_held_out([], evaluated, ten_ads()).history) == [[7]]


# Leaks


def test_days_that_are_not_later_are_refused(tmp_path: Path) -> None:
    before, after = days(tmp_path, [row(7, {1: 1}, [])], [row(7, {2: 50}, [])])
    with pytest.raises(UserError, match="evaluate on later days") as caught:
        read_held_out(after, before, ten_ads())
    assert "expected a window that begins at 2026-11-23T00:00:00Z or later" in str(caught.value)
    with pytest.raises(UserError, match="evaluate on later days"):
        read_held_out(before, before, ten_ads())


def test_a_vocabulary_that_counted_the_evaluated_day_is_refused(tmp_path: Path) -> None:
    before, after = days(tmp_path, [row(7, {1: 1}, [])], [row(7, {2: 50}, [])])
    with pytest.raises(UserError, match="built from 2026-11-21, 2026-11-22"):
        read_held_out(before, after, ten_ads(days=("2026-11-21", "2026-11-22")))


def test_days_without_a_positive_say_so(tmp_path: Path) -> None:
    before, after = days(tmp_path, [row(7, {1: 1}, [])], [row(7, {1: 50}, [2])])
    with pytest.raises(UserError, match="users with a positive on an ad without an earlier positive"):
        read_held_out(before, after, ten_ads())


# The law: the same as plain loops over the records


pools = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.dictionaries(st.integers(1, 13), st.integers(0, 40), max_size=5),
        st.lists(st.integers(1, 13), max_size=5),
    ),
    max_size=6,
    unique_by=lambda item: item[0],
)


@settings(deadline=None, max_examples=40)
@example(before=[(0, {}, [])], after=[(0, {}, [])])
@given(before=pools, after=pools)
def test_it_is_what_plain_loops_find(before: Any, after: Any, tmp_path_factory: Any) -> None:
    arguments = days(
        tmp_path_factory.mktemp("days"),
        [row(user, positives, negatives) for user, positives, negatives in sorted(before)],
        [row(user, positives, negatives) for user, positives, negatives in sorted(after)],
    )
    past = {user: positives for user, positives, _ in before}
    expected = {}
    for user, positives, negatives in sorted(after):
        known = {ad for ad in past.get(user, {}) if ad < 10}
        targets = sorted(ad if ad < 10 else 0 for ad in positives if ad not in known)
        served = sorted({ad for ad in negatives if ad < 10 and ad not in positives and ad not in known})
        if targets:
            expected[user] = (targets, served, sorted(known))
    if not expected:
        with pytest.raises(UserError):
            read_held_out(*arguments, ten_ads())
        return
    found: HeldOut = read_held_out(*arguments, ten_ads())
    assert found.user_id.tolist() == list(expected)
    parts = zip(lists(found.targets), lists(found.served), lists(found.known), strict=True)
    assert [(sorted(targets), served, known) for targets, served, known in parts] == list(expected.values())
