"""Bands and bounds: what a figure is held against, and what days the gate stops."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.config import GateOptions
from scrollpast.documents.health import Band, Breach, DayMetric, GateVerdict, Health, shown
from scrollpast.mining.gate.bands import band_of, judge, spell_days

GATE = GateOptions()
RATE, CASES = 0.01, 100_000


def health(cases: int | None = CASES, **values: float) -> Health:
    """The health of a day with these figures, every share one of so many cases."""
    figures = {
        name: DayMetric(value=value, cases=None if name == "impressions" else cases)
        for name, value in values.items()
    }
    return Health(figures=figures, lag_h=72.0, sketch=())


def trailing(num_days: int, **values: float) -> dict[str, Health]:
    """Days that were all alike."""
    return {f"2026-11-{day:02d}": health(**values) for day in range(1, num_days + 1)}


def band(
    values: list[float], cases: int | None = CASES, name: str = "engagement_rate", **options: Any
) -> Band:
    return band_of(
        name, [DayMetric(value=value, cases=cases) for value in values], cases, GateOptions(**options)
    )


# Bands


def test_a_band_lies_around_the_median_whatever_single_days_were() -> None:
    calm = band([0.0098, 0.0099, 0.01, 0.01, 0.0101, 0.0102, 0.0103] * 4)
    upset = band([0.0098, 0.0099, 0.01, 0.01, 0.0101, 0.0102, 0.0103] * 4 + [0.9, 0.00001])
    assert calm.median == upset.median == 0.01
    assert upset.low == pytest.approx(calm.low, rel=0.05)
    assert upset.high == pytest.approx(calm.high, rel=0.05)


def test_days_that_were_all_alike_leave_a_band_all_the_same() -> None:
    found = band([RATE] * 28, cases=10**9)
    assert found.low == pytest.approx(RATE * np.exp(-5 * 0.05), rel=0.03)
    assert found.high == pytest.approx(RATE * np.exp(5 * 0.05), rel=0.03)
    assert band([RATE] * 28, cases=10**9, least_deviation=0.2).low < 0.4 * RATE


def test_days_that_differ_widen_the_band() -> None:
    steady, restless = band([0.009, 0.01, 0.011] * 9), band([0.005, 0.01, 0.02] * 9)
    assert restless.low < steady.low < steady.high < restless.high


def test_what_comes_every_week_is_usual() -> None:
    weekly = band(([0.02] * 5 + [0.01] * 2) * 4)
    assert weekly.low <= 0.01
    assert weekly.median == 0.02


def test_few_cases_widen_the_band_by_what_chance_may_do() -> None:
    wide = band([RATE] * 28, cases=400)
    assert wide.low == 0.0
    assert wide.high > 0.03
    assert band([RATE] * 28, cases=10**6).high < 0.013


def test_few_days_make_wide_bands() -> None:
    values = [0.008, 0.009, 0.0095, 0.01, 0.0105, 0.011, 0.012]
    few, many = band(values), band(values * 4)
    assert few.low < many.low < many.high < few.high


def test_a_share_may_move_by_the_least_difference_but_the_engagement_rate_may_not() -> None:
    shares = [0.001] * 28
    assert band(shares, name="duplicate_share").high == pytest.approx(0.011)
    assert band(shares, name="engagement_rate").high < 0.002
    assert band(shares, name="duplicate_share", least_difference=0.1).high == pytest.approx(0.101)


def test_impressions_have_a_band_of_their_own_width() -> None:
    found = band([1e6] * 28, cases=None, name="impressions")
    assert (found.low, found.high) == (pytest.approx(1e6 * np.exp(-0.5)), pytest.approx(1e6 * np.exp(0.5)))


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(1, 10**9), st.floats(0.1, 100),
    st.sampled_from(["engagement_rate", "bot_share"]),
)  # fmt: skip
def test_a_band_of_shares_holds_its_median_and_stays_between_0_and_1(
    values: list[float], cases: int, deviations: float, name: str
) -> None:
    found = band(values, cases=cases, name=name, deviations=deviations)
    assert 0 <= found.low <= found.median <= found.high <= 1


def test_normal_days_are_rarely_out_of_their_band() -> None:
    """Of 20,000 days with differences from day to day and chance, the first band included: about one in 3,000."""
    random = np.random.Generator(np.random.Philox(4))
    num_out = num_halved = 0
    for _ in range(400):
        logit = np.log(RATE) + 0.05 * random.standard_normal(20)
        counts = random.binomial(CASES, 1 / (1 + np.exp(-logit)))
        found = band((counts[:-1] / CASES).tolist())
        num_out += not found.low <= counts[-1] / CASES <= found.high
        num_halved += counts[-1] / CASES / 2 < found.low
    assert num_out == 0
    assert num_halved > 395


# Judging


def test_a_day_like_the_others_may_pass() -> None:
    verdict = judge(health(engagement_rate=RATE), trailing(28, engagement_rate=RATE), GATE)
    assert verdict.breaches == ()
    assert len(verdict.trailing_days) == 28


def test_a_figure_out_of_its_band_is_a_breach_with_the_band_and_the_median() -> None:
    verdict = judge(health(engagement_rate=RATE / 2), trailing(28, engagement_rate=RATE), GATE)
    (breach,) = verdict.breaches
    assert (breach.figure, breach.value, breach.median) == ("engagement_rate", RATE / 2, RATE)
    assert breach.low is not None and RATE / 2 < breach.low < RATE


def test_a_verdict_keeps_the_bands_that_figures_were_held_against() -> None:
    verdict = judge(health(engagement_rate=RATE), trailing(28, engagement_rate=RATE), GATE)
    assert verdict.bands["engagement_rate"] == band([RATE] * 28)


def test_too_few_trailing_days_make_no_band() -> None:
    verdict = judge(health(engagement_rate=RATE / 2), trailing(6, engagement_rate=RATE), GATE)
    assert verdict == GateVerdict()


def test_bounds_hold_without_trailing_days() -> None:
    day = health(engagement_rate=0.000001, duplicate_share=0.4, matched_share=0.01, prompt_share=0.0)
    assert judge(day, {}, GATE) == GateVerdict(
        breaches=(
            Breach(figure="engagement_rate", value=0.000001, low=0.00001, high=0.9),
            Breach(figure="duplicate_share", value=0.4, low=None, high=0.3),
            Breach(figure="matched_share", value=0.01, low=0.1, high=None),
        )
    )


def test_a_day_that_may_be_without_engagements_has_no_lower_bound_of_them() -> None:
    assert judge(health(engagement_rate=0.0), {}, GATE, engagements_required=False) == GateVerdict()


def test_a_figure_out_of_bounds_and_band_is_told_once() -> None:
    day, others = health(duplicate_share=0.5), trailing(10, duplicate_share=0.01)
    (breach,) = judge(day, others, GATE).breaches
    assert breach.median is None


def test_a_share_of_few_cases_is_not_judged() -> None:
    assert judge(health(99, duplicate_share=0.9), trailing(28, duplicate_share=0.01), GATE).breaches == ()
    assert len(judge(health(100, duplicate_share=0.9), {}, GATE).breaches) == 1


def test_a_figure_that_the_trailing_days_lack_has_no_band() -> None:
    day = health(engagement_rate=RATE, new_ad_share=0.9)
    assert judge(day, trailing(28, engagement_rate=RATE), GATE).breaches == ()


def test_impressions_that_came_before_have_a_bound_and_no_band() -> None:
    day, others = health(seen_before_share=0.05), trailing(28, seen_before_share=0.0)
    assert judge(day, others, GATE).breaches == ()
    (breach,) = judge(health(seen_before_share=0.5), {}, GATE).breaches
    assert breach.figure == "seen_before_share"


# In words


def test_a_breach_is_told_with_what_was_expected() -> None:
    def text(figure: str, value: float, low: float | None, high: float | None) -> str:
        return str(Breach(figure=figure, value=value, low=low, high=high))

    assert text("bot_share", 0.6, None, 0.5) == "bot_share 60.000% (at most 50.000%)"
    assert text("matched_share", 0.01, 0.1, None) == "matched_share 1.000% (at least 10.000%)"
    assert text("impressions", 5000, 8000.4, 12000.0) == "impressions 5,000 (8,000 to 12,000)"
    assert shown("engagement_rate", 0.00456789) == "0.457%"


def test_days_are_spelt_as_runs() -> None:
    days = ["2026-11-30", "2026-12-01", "2026-11-29", "2026-11-27"]
    assert spell_days(days) == "2026-11-27, 2026-11-29 to 2026-12-01"
    assert spell_days([]) == ""


def test_a_verdict_is_json() -> None:
    verdict = judge(health(engagement_rate=RATE / 2), trailing(7, engagement_rate=RATE), GATE)
    content = json.loads(json.dumps(verdict.model_dump(mode="json"), allow_nan=False))
    assert content["trailing_days"] == [f"2026-11-0{day}" for day in range(1, 8)]
    assert content["breaches"][0]["figure"] == "engagement_rate"
