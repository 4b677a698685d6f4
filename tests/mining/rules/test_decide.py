"""One rule, one case: literal impressions in, outcomes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scrollpast.mining.rules import decide as decide_module
from scrollpast.mining.rules.attributes import AdAttributes
from scrollpast.mining.rules.decide import OUTCOME_RULES
from scrollpast.mining.rules.rules import Rules
from scrollpast.outcomes import Outcome
from scrollpast.record_schema import record_schema
from scrollpast.shards.codec import decode_records
from tests.mining.in_process import (
    DAY_START_US,
    HOUR_US,
    SECOND_US,
    Mined,
    engagements_of,
    impressions_of,
    mine,
    rules_of,
)

NOON_US = DAY_START_US + 12 * HOUR_US


def impression(
    ad: int, *, user: int = 1, request: int = 7, at_us: int = NOON_US, **columns: Any
) -> dict[str, Any]:
    """An ad that was examined for a second at position 1, if nothing else is said."""
    row = {"request_id": request, "user_id": user, "ad_id": ad, "served_at": at_us, "surface": "feed"}
    return {**row, "position": 1, "dwell_ms": 1000, **columns}


def engagement(
    ad: int,
    kind: str = "click",
    *,
    user: int = 1,
    request: int | None = 7,
    at_us: int = NOON_US + 5 * SECOND_US,
) -> dict[str, Any]:
    return {"user_id": user, "ad_id": ad, "kind": kind, "engaged_at": at_us, "request_id": request}


CLICKED = 500
"""An ad that anchors user 1: shown far down, in a request of its own."""
ANCHOR = impression(CLICKED, request=1, position=30)
CLICK = engagement(CLICKED, request=1)


@pytest.fixture
def outcome(tmp_path: Path) -> Any:
    """The outcomes of the impressions beside the anchor, in ascending order of the enumeration."""

    def of(
        rows: list[dict[str, Any]],
        events: list[dict[str, Any]] | None = None,
        rules: Rules | None = None,
        attributes: AdAttributes | None = None,
    ) -> list[str]:
        mined = run(rows, events or [], rules or rules_of(), tmp_path, attributes)
        found = [o.label for o, count in sorted(mined.ledger.totals().items()) for _ in range(count)]
        if "positive" in found:
            found.remove("positive")  # the anchor's
        return found

    return of


def run(
    rows: list[dict[str, Any]],
    events: list[dict[str, Any]],
    rules: Rules,
    day: Path,
    attributes: AdAttributes | None = None,
) -> Mined:
    tables = [impressions_of([ANCHOR, *rows])], [engagements_of([CLICK, *events])]
    return mine(*tables, rules, day, attributes=attributes)


def records(mined: Mined, day: Path, features: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for entry in mined.shards:
        content = (day / entry.path).read_bytes()
        found += decode_records(content, record_schema(features), entry.path).to_pylist()
    return sorted(found, key=lambda record: record["user_id"])


def test_an_ad_seen_for_a_second_and_left_is_a_negative(outcome: Any) -> None:
    assert outcome([impression(10)]) == ["negative"]


@pytest.mark.parametrize("column", ["request_id", "user_id", "ad_id", "served_at"])
def test_an_impression_without_a_key_or_time_is_invalid(outcome: Any, column: str) -> None:
    assert outcome([{**impression(10), column: None}]) == ["invalid"]


@pytest.mark.parametrize("column", ["position", "dwell_ms"])
def test_a_negative_position_or_dwell_is_invalid(outcome: Any, column: str) -> None:
    assert outcome([impression(10, **{column: -1})]) == ["invalid"]


def test_an_invalid_impression_is_kept_aside_with_the_reason(tmp_path: Path) -> None:
    mined = run([impression(10, position=-3)], [], rules_of(), tmp_path)
    (path,) = mined.quarantine_files
    (row,) = pa.parquet.read_table(tmp_path / path).to_pylist()
    assert (row["ad_id"], row["position"], row["reason"]) == (10, -3, "position is negative")


def test_an_impression_outside_the_window_is_not_input(outcome: Any) -> None:
    before, after = DAY_START_US - 1, DAY_START_US + 24 * HOUR_US
    assert outcome([impression(10, at_us=before), impression(11, at_us=after)]) == []


def test_a_user_without_a_positive_has_nothing_to_contrast_with(outcome: Any) -> None:
    assert outcome([impression(10, user=2)]) == ["unanchored"]


def test_a_user_whose_click_fits_no_impression_is_unanchored(outcome: Any) -> None:
    assert outcome([impression(10, user=2)], [engagement(99, user=2, request=None)]) == ["unanchored"]


def test_unanchored_users_can_be_kept(outcome: Any) -> None:
    assert outcome([impression(10, user=2)], rules=rules_of(users_without_positive="keep")) == ["negative"]


def test_a_second_delivery_of_the_same_impression_is_a_duplicate(outcome: Any) -> None:
    again = impression(10, at_us=NOON_US + SECOND_US)
    assert outcome([impression(10), again]) == ["duplicate", "negative"]


def test_the_same_ad_in_another_request_is_no_duplicate_but_a_repeat(outcome: Any) -> None:
    assert outcome([impression(10), impression(10, request=8)]) == ["repeat", "negative"]


def test_a_user_above_the_cap_of_a_day_is_a_bot(outcome: Any) -> None:
    rows = [impression(ad) for ad in (10, 11, 12)]
    assert outcome(rows, rules=rules_of(max_impressions_per_user_day=3)) == ["bot"] * 4
    assert outcome(rows, rules=rules_of(max_impressions_per_user_day=4)) == ["negative"] * 3


def test_the_cap_of_bots_is_a_cap_of_single_days(tmp_path: Path) -> None:
    rows = [impression(ad, at_us=NOON_US - 24 * HOUR_US, request=9) for ad in (10, 11)] + [impression(12)]
    rules = rules_of(num_days=2, max_impressions_per_user_day=2)
    assert run(rows, [], rules, tmp_path).ledger.totals()[Outcome.BOT] == 0


def test_duplicates_do_not_make_a_bot(outcome: Any) -> None:
    rows = [impression(10), impression(10)]
    assert outcome(rows, rules=rules_of(max_impressions_per_user_day=2)) == ["duplicate", "negative"]


def test_a_clicked_impression_is_a_positive(outcome: Any) -> None:
    assert outcome([impression(10)], [engagement(10)]) == ["positive"]


def test_an_engagement_without_a_request_goes_to_the_latest_impression_before_it(tmp_path: Path) -> None:
    first, second = impression(10, request=7), impression(10, request=8, at_us=NOON_US + HOUR_US)
    third = impression(10, request=9, at_us=NOON_US + 3 * HOUR_US)
    bought = engagement(10, "conversion", request=None, at_us=NOON_US + 2 * HOUR_US)
    mined = run([first, second, third], [bought], rules_of(), tmp_path)
    (record,) = records(mined, tmp_path)
    assert record["positive_served_at_ms"] == [NOON_US // 1000, (NOON_US + HOUR_US) // 1000]
    assert mined.ledger.totals()[Outcome.ENGAGED_ELSEWHERE] == 2


def test_an_engagement_after_the_attribution_window_makes_no_positive_but_still_guards(outcome: Any) -> None:
    late = engagement(10, at_us=NOON_US + 3 * HOUR_US)
    rules = rules_of(kinds={"click": {"attribution_h": 2}})
    assert outcome([impression(10)], [late], rules) == ["engaged_elsewhere"]


def test_an_engagement_may_precede_its_request_by_the_clocks_skew(outcome: Any) -> None:
    early = engagement(10, at_us=NOON_US - 30 * SECOND_US)
    assert outcome([impression(10)], [early]) == ["positive"]
    assert outcome([impression(10)], [early], rules_of(clock_skew_s=10)) == ["engaged_elsewhere"]


def test_of_two_kinds_the_higher_code_is_recorded(tmp_path: Path) -> None:
    events = [engagement(10, "conversion"), engagement(10, "click")]
    (record,) = records(run([impression(10)], events, rules_of(), tmp_path), tmp_path)
    assert record["positive_ad_id"] == [CLICKED, 10] or record["positive_ad_id"] == [10, CLICKED]
    assert sorted(record["positive_kind"]) == [1, 4]


def test_what_is_engaged_after_as_of_is_not_known(outcome: Any) -> None:
    later = engagement(10, at_us=NOON_US + 30 * HOUR_US)
    rules = rules_of(as_of_us=NOON_US + 29 * HOUR_US)
    assert outcome([impression(10)], [later], rules) == ["negative"]


def test_a_hidden_ad_is_an_explicit_negative_and_is_kept(tmp_path: Path) -> None:
    mined = run([impression(10, dwell_ms=100)], [engagement(10, "hide")], rules_of(), tmp_path)
    (record,) = records(mined, tmp_path)
    assert mined.ledger.totals()[Outcome.EXPLICIT_NEGATIVE] == 1
    assert (record["negative_ad_id"], record["negative_kind"], record["negative_weight"]) == (
        [10],
        [11],
        [1.0],
    )


def test_an_impression_whose_window_is_open_is_immature(outcome: Any) -> None:
    assert outcome([impression(10)], rules=rules_of(as_of_us=NOON_US + 24 * HOUR_US - 1)) == ["immature"]
    assert outcome([impression(10)], rules=rules_of(as_of_us=NOON_US + 24 * HOUR_US)) == ["negative"]


def test_an_ad_that_the_user_clicked_elsewhere_is_a_false_negative(outcome: Any) -> None:
    day_before = engagement(10, request=None, at_us=NOON_US - 24 * HOUR_US)
    assert outcome([impression(10)], [day_before]) == ["engaged_elsewhere"]


def test_the_guard_ends_with_its_window(outcome: Any) -> None:
    rules = rules_of(guard={"before_h": 1, "after_h": 1})
    for hours, expected in (
        (-1, "engaged_elsewhere"),
        (-2, "negative"),
        (1, "engaged_elsewhere"),
        (2, "negative"),
    ):
        other = engagement(10, request=99, at_us=NOON_US + hours * HOUR_US)
        assert outcome([impression(10)], [other], rules) == [expected], hours


def test_the_guard_can_cover_every_ad_of_an_advertiser(outcome: Any) -> None:
    attributes = AdAttributes.of(
        [{"ad": np.array([10, 11, 12]), "advertiser_id": np.array([5, 5, 6])}], ["advertiser_id"]
    )
    rows, events = [impression(10), impression(12)], [engagement(11, request=None)]
    assert outcome(rows, events, rules_of(), attributes) == ["negative", "negative"]
    keyed = rules_of(guard={"keys": ["advertiser_id"]})
    assert outcome(rows, events, keyed, attributes) == ["engaged_elsewhere", "negative"]


def test_an_ad_seen_for_less_than_a_fixation_is_not_examined(outcome: Any) -> None:
    assert outcome([impression(10, dwell_ms=249)]) == ["not_examined"]
    assert outcome([impression(10, dwell_ms=250)]) == ["negative"]


def test_an_ad_seen_under_500_ms_is_not_examined_where_that_is_the_threshold(outcome: Any) -> None:
    rules = rules_of(examined={"min_dwell_ms": 500})
    assert outcome([impression(10, dwell_ms=499)], rules=rules) == ["not_examined"]
    assert outcome([impression(10, dwell_ms=500)], rules=rules) == ["negative"]


def test_an_ad_below_the_deepest_position_is_not_examined(outcome: Any) -> None:
    rules = rules_of(examined={"max_position": 4})
    assert outcome([impression(10, position=5)], rules=rules) == ["not_examined"]
    assert outcome([impression(10, position=4)], rules=rules) == ["negative"]


def test_an_ad_above_a_click_of_the_same_slate_was_examined(outcome: Any) -> None:
    above, below = impression(10, position=0, dwell_ms=0), impression(12, position=3, dwell_ms=0)
    clicked = impression(11, position=2)
    assert outcome([above, clicked, below], [engagement(11)]) == ["positive", "not_examined", "negative"]


def test_a_surface_can_have_thresholds_of_its_own(outcome: Any) -> None:
    rules = rules_of(examined={"surfaces": {"search": {"min_dwell_ms": 1500}}})
    rows = [impression(10), impression(11, surface="search")]
    assert outcome(rows, rules=rules) == ["not_examined", "negative"]


def test_unknown_position_and_dwell_are_kept_or_dropped_as_configured(outcome: Any) -> None:
    row = impression(10, position=None, dwell_ms=None)
    assert outcome([row]) == ["negative"]
    assert outcome([row], rules=rules_of(examined={"unknown": "drop"})) == ["not_examined"]


def test_a_long_look_without_a_click_is_neither(outcome: Any) -> None:
    assert outcome([impression(10, dwell_ms=4001)]) == ["lingered"]
    assert outcome([impression(10, dwell_ms=4000)]) == ["negative"]


def test_a_long_look_rules_out_the_ad_or_only_that_impression(outcome: Any) -> None:
    rows = [impression(10, dwell_ms=9000), impression(10, request=8)]
    assert outcome(rows) == ["lingered", "lingered"]
    assert outcome(rows, rules=rules_of(examined={"long_dwell_excludes": "impression"})) == [
        "lingered",
        "negative",
    ]


CREATED = AdAttributes.of(
    [{"ad": np.array([10, 11]), "created_at": np.array([NOON_US - 2 * HOUR_US, NOON_US - 3 * HOUR_US])}],
    ["created_at"],
)
"""Two ads of two and three hours; how old others are is not known."""
QUARANTINED = rules_of(exposure={"new_ad_quarantine_h": 3})


def test_a_new_ad_is_no_negative_before_its_quarantine_is_over(outcome: Any) -> None:
    rows = [impression(10), impression(11), impression(12)]
    assert outcome(rows, rules=QUARANTINED, attributes=CREATED) == ["too_new", "negative", "negative"]
    assert outcome(rows, attributes=CREATED) == ["negative", "negative", "negative"]


def test_a_new_ad_may_be_engaged_with_hidden_or_not_looked_at(outcome: Any) -> None:
    rows = [impression(10), impression(10, request=8), impression(10, request=9, dwell_ms=0)]
    assert outcome(rows[:1], [engagement(10)], QUARANTINED, CREATED) == ["positive"]
    assert outcome(rows[:1], [engagement(10, "hide")], QUARANTINED, CREATED) == ["explicit_negative"]
    assert outcome(rows, rules=QUARANTINED, attributes=CREATED) == ["not_examined", "too_new", "too_new"]


def test_of_several_exposures_the_latest_is_kept(tmp_path: Path) -> None:
    early, late = impression(10, request=7), impression(10, request=8, at_us=NOON_US + HOUR_US)
    (record,) = records(run([late, early], [], rules_of(), tmp_path), tmp_path)
    assert record["negative_served_at_ms"] == [(NOON_US + HOUR_US) // 1000]


def test_no_ad_has_more_than_its_share_of_the_negatives(tmp_path: Path) -> None:
    users = range(2, 42)
    rows = [impression(ad, user=u, request=u * 10) for u in users for ad in (10, 100 + u, 200 + u)]
    rows += [impression(CLICKED, user=u, request=u * 10 + 1) for u in users]
    events = [engagement(CLICKED, user=u, request=u * 10 + 1) for u in users]
    mined = run(rows, events, rules_of(max_ad_share=0.1), tmp_path)
    ads = [ad for record in records(mined, tmp_path) for ad in record["negative_ad_id"]]
    assert ads.count(10) == 8 == int(0.1 * (2 * len(users) + 8))
    assert mined.ledger.totals()[Outcome.OVER_CAP] == 32


def test_a_weight_is_the_position_s_where_the_dwell_is_short_or_unknown_and_the_dwell_s_where_it_is_long(
    tmp_path: Path,
) -> None:
    import dataclasses

    rules = dataclasses.replace(
        rules_of(), examination={"feed": np.array([1.0, 0.5, 0.3])}
    )  # 0.6 in the mean
    rows = [
        impression(10, position=2, dwell_ms=1500),
        impression(11, position=9, dwell_ms=250),
        impression(12, position=0, dwell_ms=250),
        impression(13, position=1, dwell_ms=None),
        impression(14, position=None, dwell_ms=250),
    ]
    (record,) = records(run(rows, [], rules, tmp_path), tmp_path)
    weights = dict(zip(record["negative_ad_id"], record["negative_weight"], strict=True))
    # Odds of 1 : 3 by the dwell alone, times those of the position (3 : 7), over those of the mean (6 : 4).
    odds = (1 / 3) * (3 / 7) / (6 / 4)
    expected = {10: 1.0, 11: odds / (1 + odds), 12: 1.0, 13: 0.5 * 0.5, 14: 0.25}
    assert weights == pytest.approx(expected, rel=1e-6)


def test_a_record_holds_the_latest_value_of_a_user_feature(tmp_path: Path) -> None:
    rules = rules_of(user_features=["age"])
    rows = [
        {**ANCHOR, "age": 30},
        {**impression(10), "age": 31},
        {**impression(11, at_us=NOON_US + SECOND_US), "age": 32},
    ]
    table = impressions_of(rows).append_column("age", pa.array([row["age"] for row in rows]))
    mined = mine([table], [engagements_of([CLICK])], rules, tmp_path)
    assert [record["user_age"] for record in records(mined, tmp_path, ("age",))] == [32]


def test_a_rule_from_outside_decides_at_its_place(outcome: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules are a list: one more is one more entry."""
    rows = [impression(10, position=1), impression(11, position=2)]
    assert outcome(rows) == ["negative", "negative"]
    own = (Outcome.NOT_EXAMINED, lambda judged: judged.rows["position"] == 2)
    at = next(place for place, (found, _) in enumerate(OUTCOME_RULES) if found == Outcome.LINGERED)
    monkeypatch.setattr(decide_module, "OUTCOME_RULES", [*OUTCOME_RULES[:at], own, *OUTCOME_RULES[at:]])
    assert outcome(rows) == ["not_examined", "negative"]


def test_rules_stand_in_the_order_of_the_outcomes() -> None:
    decided = [found for found, _ in OUTCOME_RULES]
    assert decided == sorted(decided)
    assert set(Outcome) - set(decided) == {Outcome.INVALID, Outcome.SUPPRESSED}
