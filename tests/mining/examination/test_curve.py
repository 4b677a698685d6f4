"""The curve over positions: what clicks say of it, and how sure they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.mining.examination.curve import Floats, Observed, connected_positions, fit_curve

POSITIONS = np.arange(20)
CURVES = {
    "a feed": np.exp(-POSITIONS / 14),
    "a list": (1.0 + POSITIONS) ** -0.9,
    "a list that some read to its end": 0.9 * np.exp(-POSITIONS / 4) + 0.1,
}


def clicks_of(theta: Floats, wants: Floats, seed: int, num_groups: int = 40) -> Observed:
    """Clicks of users who differ in how much they click: strata [X] of wants, 30 users a group."""
    random = np.random.Generator(np.random.Philox(seed))
    shape = num_groups, len(wants), len(theta)
    # An ad's position depends on its relevance, as with a ranker.
    preference = np.exp(-np.outer(wants * 10, np.arange(len(theta))))
    exposures = random.poisson(40 * preference, shape).astype(np.float64)
    keenness = random.gamma(2.0, 0.5, (num_groups, 1, 1))
    chances = np.minimum(keenness * wants[:, None] * theta, 1.0)
    return Observed(random.binomial(exposures.astype(np.int64), chances).astype(np.float64), exposures)


@pytest.mark.parametrize("name", CURVES)
def test_clicks_as_many_as_expected_give_the_curve_back(name: str) -> None:
    theta = CURVES[name]
    exposures = np.full((40, 3, 20), 1e5)
    clicks = exposures * np.array([0.02, 0.1, 0.3])[:, None] * theta
    curve = fit_curve(Observed(clicks, exposures), POSITIONS)
    assert np.exp(curve.log_theta) == pytest.approx(theta / theta[0], rel=0.02)


def test_a_ranker_that_puts_the_wanted_first_is_seen_through() -> None:
    """The naive click rate by position falls far steeper than the examination does."""
    theta = CURVES["a feed"]
    observed = clicks_of(theta, np.array([0.01, 0.05, 0.2, 0.4]), seed=1, num_groups=400)
    naive = observed.clicks.sum(axis=(0, 1)) / observed.exposures.sum(axis=(0, 1))
    fitted = np.exp(fit_curve(observed, POSITIONS).log_theta)
    assert naive[10] / naive[0] < 0.5 * theta[10]
    assert fitted[10] == pytest.approx(theta[10], rel=0.1)


@pytest.mark.parametrize("name", CURVES)
def test_intervals_hold_the_truth_about_as_often_as_they_say(name: str) -> None:
    theta = CURVES[name]
    centre = np.eye(20) - 1 / 20
    held = []
    for seed in range(60):
        curve = fit_curve(clicks_of(theta, np.array([0.03, 0.1]), seed), POSITIONS)
        error = centre @ (curve.log_theta - np.log(theta))
        held.append(np.abs(error) <= 1.96 * curve.spread_of(centre))
    # A feed and a list are just what a smooth curve is taken to be; intervals allow for more than that.
    assert 0.9 <= np.mean(held) <= (0.995 if "to its end" in name else 1.0)


@given(st.integers(0, 2**32), st.floats(0.1, 100.0))
def test_neither_the_order_of_groups_nor_the_unit_of_exposure_moves_a_curve(seed: int, unit: float) -> None:
    observed = clicks_of(CURVES["a feed"], np.array([0.1, 0.3]), seed, num_groups=12)
    order = np.random.Generator(np.random.Philox(seed)).permutation(12)
    scaled = observed.exposures * np.array([unit, 1.0])[:, None]
    curve, again = (
        fit_curve(observed, POSITIONS),
        fit_curve(Observed(observed.clicks[order], scaled[order]), POSITIONS),
    )
    assert again.log_theta == pytest.approx(curve.log_theta, abs=1e-3)
    assert again.covariance == pytest.approx(curve.covariance, rel=0.02, abs=1e-4)


def test_positions_that_no_stratum_links_cannot_be_compared() -> None:
    clicks = np.zeros((2, 3, 5))
    clicks[:, 0, [0, 1]] = clicks[:, 1, [1, 2]] = clicks[:, 2, [3, 4]] = 1
    assert connected_positions(Observed(clicks, clicks)).tolist() == [0, 1, 2]


def test_a_stratum_without_a_click_links_nothing() -> None:
    exposures = np.ones((2, 2, 3))
    exposures[:, 0, 2] = 0
    clicks = np.zeros((2, 2, 3))
    clicks[:, 0, 0] = 1
    assert connected_positions(Observed(clicks, exposures)).tolist() == [0, 1]
