"""Metrics of a day: a literal case for each, and the sketch's law."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.config import FIGURES
from scrollpast.documents.health import DayMetric, Health
from scrollpast.mining.gate.day_metrics import SKETCH_SIZE, BucketSigns, hardness, smallest, with_seen_before
from scrollpast.mining.rules.attributes import AdAttributes
from scrollpast.mining.rules.ledger import Ledger
from scrollpast.mining.rules.rules import Rules
from scrollpast.outcomes import Outcome
from tests.mining.in_process import (
    DAY_START_US,
    HOUR_US,
    SECOND_US,
    engagements_of,
    impressions_of,
    mine,
    rules_of,
)

NOON_US = DAY_START_US + 12 * HOUR_US


def impression(ad: int, **columns: Any) -> dict[str, Any]:
    """An ad that user 1 looked at, at position 1 of request 7, if nothing else is said."""
    row = {"request_id": 7, "user_id": 1, "ad_id": ad, "served_at": NOON_US, "surface": "feed"}
    return {**row, "position": 1, "dwell_ms": 1000, **columns}


def click(ad: int, **columns: Any) -> dict[str, Any]:
    event = {"user_id": 1, "ad_id": ad, "kind": "click", "engaged_at": NOON_US + SECOND_US, "request_id": 7}
    return {**event, **columns}


@pytest.fixture
def health(tmp_path: Path) -> Any:
    def of(
        rows: list[dict[str, Any]],
        events: list[dict[str, Any]],
        rules: Rules | None = None,
        attributes: AdAttributes | None = None,
    ) -> Health:
        tables = [impressions_of(rows)], [engagements_of(events)]
        return mine(*tables, rules or rules_of(), tmp_path, attributes=attributes).health

    return of


def cases(figure: DayMetric) -> tuple[int, int]:
    """Numerator and denominator of a share."""
    assert figure.cases is not None
    return round(figure.value * figure.cases), figure.cases


def test_every_figure_is_explained(health: Any) -> None:
    known = AdAttributes.of([{"ad": np.array([1]), "created_at": np.array([5])}], ["created_at"])
    found = health([impression(1), impression(2)], [click(1)], attributes=known)
    found = with_seen_before(found, [found.sketch])
    assert set(found.figures) <= set(FIGURES)
    # The quarantine's share, and those of rules that nothing was left for.
    assert set(FIGURES) - set(found.figures) == set()


def test_the_engagement_rate_is_of_all_sound_impressions(health: Any) -> None:
    rows = [impression(1), impression(2), impression(3, user_id=2), impression(4, dwell_ms=-1)]
    found = health(rows, [click(1)]).figures
    assert cases(found["engagement_rate"]) == (1, 3)
    assert found["impressions"] == DayMetric(value=4.0, cases=None)


def test_an_outcomes_share_is_of_the_impressions_that_none_before_it_took(health: Any) -> None:
    rows = [
        impression(1),
        impression(2),
        impression(2),  # delivered again
        impression(3, dwell_ms=0),
        impression(4, user_id=2),
        impression(5, ad_id=None),
    ]
    found = health(rows, [click(1)]).figures
    shares = ("invalid", "unanchored", "duplicate", "bot", "positive", "not_examined", "lingered")
    assert [cases(found[f"{name}_share"]) for name in shares] == [
        (1, 6), (1, 5), (1, 4), (0, 3), (1, 3), (1, 2), (0, 1),
    ]  # fmt: skip


def test_what_is_immature_moves_no_share_behind_it(health: Any) -> None:
    rows = [impression(1), impression(2, dwell_ms=0), impression(3)]
    late = [impression(ad, request_id=8, served_at=NOON_US + 2 * HOUR_US) for ad in (4, 5, 6)]
    rules = rules_of(as_of_us=NOON_US + 25 * HOUR_US)
    before, after = (health(r, [click(1)], rules).figures for r in (rows, [*rows, *late]))
    assert before["not_examined_share"] == after["not_examined_share"]
    assert "immature_share" not in after


def test_an_engagement_matches_the_impression_that_its_request_or_else_its_user_and_ad_name(
    health: Any,
) -> None:
    rows = [impression(1), impression(2)]
    events = [
        click(1),
        click(2, request_id=None),
        click(2, request_id=99),  # another request
        click(3, request_id=None),  # an ad that was not shown
        click(1, user_id=2),  # a user who was shown nothing
        click(1, kind="hide"),  # of no positive kind
        click(1, engaged_at=NOON_US - 24 * HOUR_US),  # on the day before
    ]
    assert cases(health(rows, events).figures["matched_share"]) == (2, 5)


def test_an_engagement_is_prompt_within_a_quarter_of_an_hour(health: Any) -> None:
    rows = [impression(ad) for ad in (1, 2, 3)]
    minutes = {1: 0, 2: 15, 3: 16}
    events = [click(ad, engaged_at=NOON_US + late * 60 * SECOND_US) for ad, late in minutes.items()]
    assert cases(health(rows, events).figures["prompt_share"]) == (2, 3)


@pytest.mark.parametrize("side", [-1, 1])
def test_false_negatives_are_estimated_by_what_only_the_outer_half_of_the_guard_finds(
    health: Any, side: int
) -> None:
    guard = {"before_h": 8, "after_h": 8}
    rows = [impression(ad) for ad in (1, 2, 3, 4)] + [impression(5, dwell_ms=0), impression(6, dwell_ms=9000)]
    # Ad 2 is guarded near and far, ad 3 far; what would be no negative anyway does not count.
    hours = {2: (3, 6), 3: (6,), 5: (6,), 6: (6,)}
    events = [
        click(ad, request_id=99, engaged_at=NOON_US + side * late * HOUR_US)
        for ad, all_late in hours.items()
        for late in all_late
    ]
    found = health(rows, [click(1), *events], rules_of(guard=guard)).figures
    assert cases(found["engaged_elsewhere_share"]) == (4, 5)
    assert cases(found["false_negative_rate"]) == (1, 2)


def test_of_a_guard_window_that_is_open_yet_the_known_part_is_halved(health: Any) -> None:
    rules = rules_of(guard={"before_h": 0, "after_h": 72}, as_of_us=NOON_US + 24 * HOUR_US)
    events = [click(2, request_id=99, engaged_at=NOON_US + 13 * HOUR_US)]
    found = health([impression(1), impression(2), impression(3)], [click(1), *events], rules).figures
    assert cases(found["false_negative_rate"]) == (1, 2)


def test_new_ads_and_those_that_are_not_listed_are_counted_by_positives_and_negatives(health: Any) -> None:
    created = np.array([DAY_START_US - HOUR_US, DAY_START_US - 1000 * HOUR_US])
    known = AdAttributes.of([{"ad": np.array([1, 2]), "created_at": created}], ["created_at"])
    rows, events = [impression(ad) for ad in (1, 2, 3)], [click(1)]
    found = health(rows, events, attributes=known).figures
    assert cases(found["new_ad_share"]) == (1, 2)
    assert cases(found["unknown_ad_share"]) == (1, 3)
    untold = health(rows, events).figures
    assert "new_ad_share" not in untold and "unknown_ad_share" not in untold


def test_negatives_above_positives_are_hard() -> None:
    ledger = Ledger()
    ledger.cells.update(
        {
            (Outcome.NEGATIVE, "feed", 0): 30,
            (Outcome.POSITIVE, "feed", 0): 10,
            (Outcome.POSITIVE, "feed", 1): 30,
            (Outcome.NEGATIVE, "feed", None): 500,
            (Outcome.NEGATIVE, "search", 9): 500,
            (Outcome.NOT_EXAMINED, "feed", 9): 500,
        }
    )
    higher, num_cases = hardness(ledger)
    assert higher / num_cases == pytest.approx((30 * 30 + 30 * 10 / 2) / (30 * 40))
    assert num_cases == round(3 * 30 * 40 / 71)
    assert hardness(Ledger()) == (0.0, 0)


def test_a_day_without_a_row_of_any_user_still_counts_its_engagements(health: Any) -> None:
    found = health([impression(1, user_id=2)], [click(1, user_id=3)]).figures
    assert cases(found["matched_share"]) == (0, 1)


def test_how_long_after_its_end_a_day_is_known_counts_up_to_the_longest_reach(health: Any) -> None:
    rows, events, end_us = [impression(1)], [click(1)], DAY_START_US + 24 * HOUR_US
    lags = [
        health(rows, events, rules_of(as_of_us=end_us + late * HOUR_US)).lag_h for late in (-3, 2, 72, 500)
    ]
    assert lags == [0.0, 2.0, 72.0, 168.0]


# The sketch


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=300) | st.lists(st.integers(0, 9), max_size=300),
    st.integers(1, 20),
)
def test_the_smallest_are_the_first_of_all_in_order(values: list[int], count: int) -> None:
    found = smallest(np.array(values, np.int64), count)
    assert found.tolist() == sorted(set(values))[:count]


def sketched(values: list[int]) -> Health:
    return Health(figures={}, lag_h=72.0, sketch=tuple(smallest(np.array(values), SKETCH_SIZE).tolist()))


def test_a_days_impressions_are_recognised_on_another_day() -> None:
    random = np.random.default_rng(0)
    today, other = random.integers(-(2**63), 2**63 - 1, (2, 20_000)).tolist()
    half = today[:10_000] + other[:30_000]
    seen = [with_seen_before(sketched(today), [sketched(day).sketch]).figures["seen_before_share"].value
            for day in (today, half, other)]  # fmt: skip
    assert seen[0] == 1.0
    assert seen[1] == pytest.approx(0.5, abs=0.12)
    assert seen[2] == 0.0


def test_the_day_that_is_most_alike_tells() -> None:
    days = [sketched([1, 2, 3, 9]), sketched([4, 5, 6, 7]), sketched([1])]
    found = with_seen_before(sketched([1, 2, 3, 4]), [day.sketch for day in days])
    assert found.figures["seen_before_share"] == DayMetric(value=0.75, cases=4)
    assert with_seen_before(sketched([1]), []) == sketched([1])


def test_signs_add_up_in_any_order() -> None:
    signs = [BucketSigns(1, 2, 3, 4, 5, (7, 9)), BucketSigns(10, 20, 30, 40, 50, (8, 9)), BucketSigns(100)]
    packed = [part.packed() for part in signs]
    total = BucketSigns(111, 22, 33, 44, 55, (7, 8, 9))
    assert BucketSigns.sum(packed) == BucketSigns.sum(reversed(packed)) == total
    assert BucketSigns.sum([]) == BucketSigns()


def test_health_reads_back_from_json_as_it_was(health: Any) -> None:
    found = health([impression(ad, request_id=n) for n in range(200) for ad in (1, 2)], [click(1)])
    assert len(found.sketch) > 1
    assert Health.model_validate(json.loads(json.dumps(found.model_dump(mode="json")))) == found
