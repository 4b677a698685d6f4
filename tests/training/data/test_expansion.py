"""Batches against plain loops over the records, and draws against the chances they state."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrollpast.errors import UserError
from scrollpast.training.data.stream import AnchorStream
from tests.training.data.days import (
    DAY_MS,
    KINDS,
    NUM_ADS,
    START_MS,
    reading,
    record,
    records,
    vocabulary,
    write_day,
)
from tests.training.data.reference import (
    anchors_in,
    check_draws,
    expected_of,
    neighbours_of,
    pool_of,
    rows_of,
)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    num_hard=st.integers(0, 5),
    num_neighbours=st.integers(0, 3),
    explicit_boost=st.sampled_from([0.0, 1.0, 3.0]),
    max_history=st.integers(0, 4),
    max_passed=st.integers(0, 4),
    merge_repeats=st.booleans(),
    kind_weights=st.sampled_from([{}, {"save": 2.5}, {"click": 0.5, "save": 0.25}]),
    num_workers=st.integers(0, 2),
    longest_earlier=st.integers(0, 6),
    read_user_history=st.booleans(),
)
def test_every_anchor_is_what_a_plain_loop_over_its_record_says(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    num_hard: int,
    num_neighbours: int,
    explicit_boost: float,
    max_history: int,
    max_passed: int,
    merge_repeats: bool,
    kind_weights: dict[str, float],
    num_workers: int,
    longest_earlier: int,
    read_user_history: bool,
) -> None:
    random = np.random.Generator(np.random.Philox(seed))
    shards = [records(random, 1000 * shard, 12) for shard in range(2)]
    shards[0].append(record(random, 7, 2, 3))
    for row in (row for rows in shards for row in rows if longest_earlier):
        # Few ads, so that earlier ads repeat and are the positives' own.
        pool = np.append(row["positive_ad_id"], [1, 2, NUM_ADS + 1]).astype(int)
        row["history_ad_id"] = random.choice(pool, random.integers(longest_earlier)).tolist()
    words = vocabulary()
    options = reading(
        batch_size=8,
        num_hard=num_hard,
        num_neighbours=num_neighbours,
        explicit_boost=explicit_boost,
        max_history=max_history,
        max_passed=max_passed,
        merge_repeats=merge_repeats,
        kind_weights=kind_weights,
        num_workers=num_workers,
        read_user_history=read_user_history,
        block_records=5,
    )
    stream = AnchorStream([write_day(tmp_path_factory.mktemp("day"), shards)], words, *options)
    seen = []
    for batch in stream:
        for row in rows_of(batch):
            shard, number = row.pop("origin")
            source = _as_stored(shards[shard][number])
            at = source["positive_request_hash"].index(row["request"])
            check_draws(row.pop("hard"), source, pool_of(source, at, explicit_boost), words)
            check_draws(row.pop("neighbours"), source, neighbours_of(source), words)
            assert row.pop("user_row") == words.user_rows(np.array([row["user_id"]]))[0]
            expected = expected_of(
                source,
                at,
                words,
                max_history=max_history,
                max_passed=max_passed,
                merge_repeats=merge_repeats,
                kind_weights={KINDS[name]: weight for name, weight in kind_weights.items()},
                read_user_history=read_user_history,
            )
            if row["weight"] == 0:  # fills up the last batch
                expected["weight"] = 0
            else:
                seen.append((shard, number, at))
            assert row == expected
    assert sorted(seen) == [
        (shard, number, at)
        for shard, rows in enumerate(shards)
        for number, source in enumerate(rows)
        for at in anchors_in(source, merge_repeats)
    ]


def _as_stored(row: dict[str, Any]) -> dict[str, Any]:
    """Weights as float32 keeps them."""
    rounded = {
        name: [float(np.float32(weight)) for weight in row[name]]
        for name in ("positive_weight", "negative_weight")
    }
    return row | rounded


def _one_anchor(negatives: dict[str, list[Any]]) -> dict[str, Any]:
    count = len(negatives["ad_id"])
    defaults: dict[str, list[Any]] = {
        "kind": [0] * count,
        "served_at_ms": [START_MS + 500] * count,
        "request_hash": list(range(100, 100 + count)),
        "position": [-1] * count,
        "dwell_ms": [-1] * count,
        "weight": [0.5] * count,
    }
    return {
        "user_id": 1,
        "user_age": 20,
        "positive_ad_id": [1],
        "positive_kind": [1],
        "positive_served_at_ms": [START_MS + 1000],
        "positive_request_hash": [50],
        "positive_weight": [1.0],
        **{f"negative_{name}": values for name, values in (defaults | negatives).items()},
    }


def _drawn(
    folder: Path, row: dict[str, Any], *, source: str = "hard", **options: Any
) -> list[tuple[int, ...]]:
    """The ads drawn from a source for the anchor of a record, epoch by epoch."""
    num_epochs = options.pop("num_epochs", 1)
    stream = AnchorStream(
        [write_day(folder, [[row]])],
        vocabulary(),
        *reading(batch_size=1, num_workers=0, verify=False, **options),
    )
    draws = []
    for _ in range(num_epochs):
        (batch,) = stream
        of_source = getattr(batch, source)
        rows = of_source.row[0][of_source.weight[0] > 0]
        draws.append(tuple(vocabulary().ad_ids[rows.numpy()].tolist()))
    return draws


def test_a_negative_served_after_the_end_of_the_anchors_day_is_not_drawn(tmp_path: Path) -> None:
    midnight = START_MS + DAY_MS
    row = _one_anchor({"ad_id": [2, 3, 4], "served_at_ms": [START_MS, midnight - 1, midnight]})
    (draws,) = _drawn(tmp_path, row, num_hard=3)
    assert sorted(draws) == [2, 3]


def test_an_ad_that_is_a_positive_of_the_user_is_not_drawn(tmp_path: Path) -> None:
    assert _drawn(tmp_path, _one_anchor({"ad_id": [1, 2, 1]}), num_hard=3) == [(2,)]


def test_a_nearest_neighbour_is_not_drawn_as_a_hard_negative(tmp_path: Path) -> None:
    assert _drawn(tmp_path, _one_anchor({"ad_id": [2, 3], "kind": [100, 0]}), num_hard=2) == [(3,)]


def test_only_nearest_neighbours_are_drawn_as_neighbours_and_a_boost_is_not_for_them(tmp_path: Path) -> None:
    row = _one_anchor({"ad_id": [2, 3, 4, 5], "kind": [100, 0, 11, 100]})
    (draws,) = _drawn(tmp_path, row, source="neighbour", num_neighbours=3, explicit_boost=0.0)
    assert sorted(draws) == [2, 5]


def test_a_neighbour_has_no_impression_and_so_no_day_that_ends(tmp_path: Path) -> None:
    moments = [-1, START_MS, START_MS + 5 * DAY_MS]
    row = _one_anchor({"ad_id": [2, 3, 4], "kind": [100] * 3, "served_at_ms": moments})
    (draws,) = _drawn(tmp_path, row, source="neighbour", num_neighbours=3)
    assert sorted(draws) == [2, 3, 4]


def test_a_neighbour_that_is_a_positive_of_the_user_or_has_no_weight_is_not_drawn(tmp_path: Path) -> None:
    row = _one_anchor({"ad_id": [1, 2, 3], "kind": [100] * 3, "weight": [0.5, 0.5, 0.0]})
    assert _drawn(tmp_path, row, source="neighbour", num_neighbours=3) == [(2,)]


def test_neighbours_do_not_change_the_draws_of_hard_negatives(tmp_path: Path) -> None:
    row = _one_anchor({"ad_id": list(range(2, 30)), "kind": [0, 100] * 14})
    without = _drawn(tmp_path / "a", row, num_hard=2, num_epochs=20)
    with_neighbours = _drawn(tmp_path / "b", row, num_hard=2, num_neighbours=5, num_epochs=20)
    assert with_neighbours == without


def test_neighbours_are_drawn_by_chances_of_their_own(tmp_path: Path) -> None:
    # The same weights in the same order: were the random numbers shared, the places drawn would always agree.
    row = _one_anchor({"ad_id": [2, 3, 4, 12, 13, 14], "kind": [0, 0, 0, 100, 100, 100]})
    row["negative_weight"] = [0.1, 0.3, 0.6] * 2
    options = {"num_hard": 1, "num_neighbours": 1, "num_epochs": 4000}
    hard = _drawn(tmp_path / "a", row, **options)
    neighbours = _drawn(tmp_path / "b", row, source="neighbour", **options)
    chances = {2: 0.1, 3: 0.3, 4: 0.6}
    for pair, seen in Counter(zip(hard, neighbours, strict=True)).items():
        ((own,), (near,)) = pair
        chance = chances[own] * chances[near - 10]
        assert abs(seen / 4000 - chance) < 4 * math.sqrt(chance * (1 - chance) / 4000)


# Drawn before neighbours were a source: what was trained on once can be trained on again.
DIGITS = [(26, 12), (19, 3), (27, 20), (10, 20), (27, 20)]


def test_the_draws_of_a_seed_stay_what_they_are(tmp_path: Path) -> None:
    row = _one_anchor({"ad_id": list(range(2, 30)), "kind": [0, 0, 11, 100] * 7})
    assert _drawn(tmp_path, row, num_hard=2, num_epochs=5, seed=3, explicit_boost=2.0) == DIGITS


def test_a_boost_of_0_draws_no_hide(tmp_path: Path) -> None:
    row = _one_anchor({"ad_id": [2, 3], "kind": [11, 0]})
    assert _drawn(tmp_path, row, num_hard=2, explicit_boost=0.0) == [(3,)]


def test_the_draws_of_an_anchor_differ_from_epoch_to_epoch_and_come_again_with_the_seed(
    tmp_path: Path,
) -> None:
    row = _one_anchor({"ad_id": list(range(2, 30))})
    once = _drawn(tmp_path / "a", row, num_hard=2, num_epochs=20, seed=3)
    again = _drawn(tmp_path / "b", row, num_hard=2, num_epochs=20, seed=3)
    other = _drawn(tmp_path / "c", row, num_hard=2, num_epochs=20, seed=4)
    assert once == again
    assert len(set(once)) > 10
    assert once != other


def test_draws_have_the_chances_that_their_weights_give(tmp_path: Path) -> None:
    # A hide at weight 0.2 with a boost of 3 is drawn like 0.6.
    row = _one_anchor({"ad_id": [2, 3, 4], "weight": [0.1, 0.3, 0.2], "kind": [0, 0, 11]})
    draws = _drawn(tmp_path, row, num_hard=2, num_epochs=4000, explicit_boost=3.0)
    chances = {2: 0.1, 3: 0.3, 4: 0.6}
    for pair, seen in Counter(draws).items():
        first, second = pair
        chance = chances[first] * chances[second] / (1 - chances[first])
        assert abs(seen / 4000 - chance) < 4 * math.sqrt(chance * (1 - chance) / 4000)
    assert len(set(draws)) == 6


def test_draws_that_no_weight_decides_are_equally_likely(tmp_path: Path) -> None:
    # One that may not be drawn at all stays away; a hide with a boost is still drawn like so many others.
    row = _one_anchor({"ad_id": [2, 3, 4, 5], "weight": [0.1, 0.9, 0.0, 0.2], "kind": [0, 0, 0, 11]})
    draws = _drawn(tmp_path, row, num_hard=1, num_epochs=4000, sample_by_weight=False, explicit_boost=2.0)
    chances = {2: 0.25, 3: 0.25, 5: 0.5}
    counts = Counter(ad for (ad,) in draws)
    assert counts.keys() == chances.keys()
    for ad, chance in chances.items():
        assert abs(counts[ad] / 4000 - chance) < 4 * math.sqrt(chance * (1 - chance) / 4000)


def test_the_stated_q_makes_the_estimate_of_a_sum_over_the_pool_unbiased(tmp_path: Path) -> None:
    row = _one_anchor({"ad_id": [2, 3, 4, 5], "weight": [0.1, 0.9, 0.4, 0.6]})
    stream = AnchorStream(
        [write_day(tmp_path, [[row]])],
        vocabulary(),
        *reading(batch_size=1, num_hard=2, num_workers=0, verify=False),
    )
    value = {2: 1.0, 3: 5.0, 4: 2.0, 5: 0.5}
    by_first, by_second = [], []
    for _ in range(4000):
        (batch,) = stream
        first, second = vocabulary().ad_ids[batch.hard.row[0].numpy()].tolist()
        q_first, q_second = batch.hard.log_q[0].exp().tolist()
        by_first.append(value[first] / q_first)
        by_second.append(value[first] + value[second] / q_second)
    for estimates in (by_first, by_second):
        error = np.std(estimates) / math.sqrt(len(estimates))
        assert abs(np.mean(estimates) - sum(value.values())) < 4 * error


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), merge_repeats=st.booleans())
def test_no_list_of_an_anchor_holds_anything_later(
    tmp_path_factory: pytest.TempPathFactory, seed: int, merge_repeats: bool
) -> None:
    """Items served at or after the anchor change neither its history nor the ads that it passed over."""
    random = np.random.Generator(np.random.Philox(seed))
    source = record(random, 7, 4, 12)
    moment = source["positive_served_at_ms"][int(random.integers(4))]
    past = dict(source)
    for side, latest in (("positive", moment), ("negative", moment - 1)):
        is_kept = [served <= latest for served in source[f"{side}_served_at_ms"]]
        for name in source:
            if name.startswith(f"{side}_"):
                past[name] = [value for value, kept in zip(source[name], is_kept, strict=True) if kept]

    def lists(row: dict[str, Any]) -> list[Any]:
        options = reading(batch_size=1, num_workers=0, max_passed=9, merge_repeats=merge_repeats, num_hard=0)
        known = _one_anchor({"ad_id": [2]})
        day = write_day(tmp_path_factory.mktemp("day"), [[row, known]])
        rows = [found for batch in AnchorStream([day], vocabulary(), *options) for found in rows_of(batch)]
        own = [found for found in rows if found["user_id"] == 7 and found["weight"]]
        return [(found["history"], found["passed"]) for found in own if found["served_at_ms"] <= moment]

    assert sorted(lists(source)) == sorted(lists(past))
    assert lists(past)


def test_an_anchor_of_a_repeated_pair_is_the_first_with_the_kind_of_the_largest_weight(
    tmp_path: Path,
) -> None:
    row = _one_anchor({"ad_id": []}) | {
        "positive_ad_id": [1, 2, 1, 1],
        "positive_kind": [1, 1, 3, 1],
        "positive_served_at_ms": [START_MS + second for second in range(4)],
        "positive_request_hash": [50, 51, 52, 53],
        "positive_weight": [0.5, 1.0, 1.0, 1.0],
    }
    options = reading(
        batch_size=2, num_workers=0, shuffle=False, num_hard=0, merge_repeats=True, kind_weights={"save": 4.0}
    )
    (batch,) = AnchorStream([write_day(tmp_path, [[row]])], vocabulary(), *options)
    assert batch.request_hash.tolist() == [50, 51]
    assert (batch.kind.tolist(), batch.weight.tolist()) == ([3, 1], [2.0, 1.0])
    assert batch.history_lengths.tolist() == [0, 1]


def test_a_kind_that_no_day_has_is_a_mistake(tmp_path: Path) -> None:
    day = write_day(tmp_path, [[_one_anchor({"ad_id": [2]})]])
    expected = r"training.data.kind_weights.buy: expected a kind of engagement of the days \(click, hide"
    with pytest.raises(UserError, match=expected):
        AnchorStream([day], vocabulary(), *reading(kind_weights={"buy": 2.0}))
