"""Distribution of negatives over ads: figures compared with plain computations over the list of ads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.mining.exposure import Exposure, count_ads, num_parts, profile_of
from scrollpast.mining.rules.attributes import AdAttributes
from scrollpast.outcomes import Outcome
from tests.mining.in_process import DAY_START_US, HOUR_US, rules_of

RULES = rules_of(exposure={"new_ad_h": 24})


def rows_of(negatives: Sequence[int], positives: Sequence[int] = ()) -> dict[str, np.ndarray]:
    """Rows of records: the ads of the negatives, then those of the positives."""
    outcomes = [Outcome.NEGATIVE] * len(negatives) + [Outcome.POSITIVE] * len(positives)
    return {"ad": np.array([*negatives, *positives], np.int64), "outcome": np.array(outcomes, np.int8)}


def exposure_of(
    negatives: Sequence[int],
    positives: Sequence[int] = (),
    attributes: AdAttributes | None = None,
    parts: int = 1,
    buckets: int = 1,
) -> Exposure:
    attributes = attributes or AdAttributes.empty()
    counted: dict[int, list[Any]] = {}
    for bucket in range(buckets):
        for part, counts in count_ads(rows_of(negatives[bucket::buckets], positives[bucket::buckets]), parts):
            counted.setdefault(part, []).append(counts)
    profiles = [profile_of(counts, attributes, RULES) for counts in counted.values()]
    return Exposure.of(profiles, attributes, RULES)


def report_of(*arguments: Any, **named: Any) -> dict[str, Any]:
    return json.loads(exposure_of(*arguments, **named).to_json())  # type: ignore[no-any-return]


def listed(ads: Sequence[int], created_h: Sequence[float | None] | None = None) -> AdAttributes:
    """A table of ads, created so many hours before the day, if that is told."""
    columns = {"ad": np.array(ads)}
    if created_h is not None:
        moments = [-1 if hours is None else int(DAY_START_US - hours * HOUR_US) for hours in created_h]
        columns["created_at"] = np.array(moments)
    return AdAttributes.of([columns], [name for name in columns if name != "ad"])


def plain_gini(counts: Sequence[int]) -> float:
    """Mean difference of all pairs over twice the mean: the definition."""
    values = np.array(counts, float)
    return float(np.abs(values[:, None] - values[None]).mean() / (2 * values.mean()))


ADS = st.lists(st.integers(0, 12), min_size=1, max_size=60)


@given(negatives=ADS, positives=ADS, parts=st.integers(1, 4), buckets=st.integers(1, 4))
def test_however_ads_are_counted_the_report_is_the_same(
    negatives: list[int], positives: list[int], parts: int, buckets: int
) -> None:
    plain = exposure_of(negatives, positives, listed([0, 1, 50], [1, 99, None]))
    split = exposure_of(negatives, positives, listed([0, 1, 50], [1, 99, None]), parts, buckets)
    assert split.to_json() == plain.to_json()


@given(negatives=ADS)
def test_gini_and_curve_are_those_of_the_counts(negatives: list[int]) -> None:
    catalogue = list(range(15))
    counts = sorted(negatives.count(ad) for ad in catalogue)
    exposure = exposure_of(negatives, attributes=listed(catalogue))
    report = json.loads(exposure.to_json())
    assert report["gini"] == pytest.approx(plain_gini(counts), abs=1e-8)
    assert report["share_of_ads_with_negatives"] == pytest.approx(len(set(negatives)) / 15, abs=1e-8)
    shares = np.cumsum(counts) / len(negatives)
    ads, curve = exposure.lorenz()
    np.testing.assert_allclose(np.interp(np.arange(1, 16) / 15, ads, curve), shares)
    assert (report["lorenz"]["negatives"][0], report["lorenz"]["negatives"][-1]) == (0.0, 1.0)


def test_an_even_catalogue_has_a_gini_of_0_and_a_single_ad_nearly_1() -> None:
    assert report_of([1, 2, 3, 4])["gini"] == 0.0
    one = report_of([1] * 9, attributes=listed(range(1000)))
    assert one["gini"] == pytest.approx(0.999)
    assert one["top_1_percent_share"] == 1.0


def test_the_top_percent_of_ads_has_what_is_over_99_percent_of_the_curve() -> None:
    negatives = [0] * 101 + list(range(1, 100))
    assert report_of(negatives)["top_1_percent_share"] == pytest.approx(101 / 200)


def test_the_catalogue_is_the_table_and_what_the_records_hold_beside_it() -> None:
    report = report_of([1, 9], [2], attributes=listed([1, 2, 3, 4]))
    assert (report["catalogue"], report["num_ads"]) == ("ads", 5)
    assert report["slices"]["not_listed"]["num_ads"] == 1
    without = report_of([1, 9], [2])
    assert (without["catalogue"], without["num_ads"]) == ("records", 3)
    assert set(without["slices"]) == {"head", "tail", "without_positives"}


def test_head_ads_together_have_half_of_the_positives() -> None:
    report = report_of([1, 1, 2, 3, 4], [1] * 6 + [2] * 3 + [3] * 2 + [5])
    slices = report["slices"]
    assert slices["head"] == {
        "num_ads": 1, "num_negatives": 2, "num_positives": 6, "share_of_ads_with_negatives": 1.0,
    }  # fmt: skip
    assert slices["tail"] == {
        "num_ads": 3, "num_negatives": 2, "num_positives": 6, "share_of_ads_with_negatives": 0.666666667,
    }  # fmt: skip
    assert slices["without_positives"]["num_negatives"] == 1


def test_new_ads_are_told_by_the_table() -> None:
    ads = listed([1, 2, 3, 4], [23, 25, None, -3])
    report = report_of([1, 2, 2, 3, 9], [4], attributes=ads)
    assert {name: part["num_ads"] for name, part in report["slices"].items()} == {
        "head": 1, "tail": 0, "without_positives": 4, "old": 1, "new": 2, "not_listed": 1,
    }  # fmt: skip
    assert report["slices"]["new"]["num_negatives"] == 1
    exposure = exposure_of([1, 2, 2, 3, 9], [4], ads)
    assert (exposure.num_of_new_ads, exposure.num_of_known_ads) == (2, 4)
    assert (exposure.num_of_unknown_ads, exposure.num_items) == (1, 6)


def test_a_day_without_negatives_has_no_curve() -> None:
    report = report_of([], [1, 2])
    assert (report["gini"], report["lorenz"], report["top_1_percent_share"]) == (None, None, None)
    assert report["share_of_ads_with_negatives"] == 0.0
    assert json.loads(Exposure.of([], AdAttributes.empty(), RULES).to_json())["num_ads"] == 0


def test_hides_and_reports_are_no_exposure() -> None:
    rows = rows_of([1], [2])
    hidden = {"ad": np.array([3]), "outcome": np.array([Outcome.EXPLICIT_NEGATIVE], np.int8)}
    rows = {name: np.concatenate([rows[name], hidden[name]]) for name in rows}
    counted = [counts for _, counts in count_ads(rows, 1)]
    assert profile_of(counted, AdAttributes.empty(), RULES)["num_ads"].sum() == 2


@pytest.mark.parametrize(("num_items", "parts"), [(0, 1), (8_000_000, 1), (8_000_001, 2), (10**9, 125)])
def test_counts_of_large_days_are_merged_in_parts(num_items: int, parts: int) -> None:
    assert num_parts(num_items) == parts
