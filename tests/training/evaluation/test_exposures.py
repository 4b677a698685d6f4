"""Weights of targets by exposure, and metrics that these weights normalise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrollpast.training.evaluation.bootstrap import resampled_means
from scrollpast.training.evaluation.exposures import (
    clipped_weights,
    counts_of,
    effective_sample_size,
    shares_of_a_ratio,
)
from scrollpast.training.evaluation.held_out import read_held_out
from scrollpast.training.evaluation.metrics import weighted_ndcg, weighted_recall
from tests.training.evaluation.test_held_out import days
from tests.training.evaluation.test_metrics import ragged
from tests.training.evaluation.toy import row, ten_ads

cases = st.integers(1, 6).flatmap(
    lambda num_users: st.tuples(
        st.lists(st.integers(1, 4), min_size=num_users, max_size=num_users), st.integers(0, 1000)
    )
)


def test_the_weight_of_a_target_is_its_inverse_exposure_cut_at_the_quantile() -> None:
    exposures = np.array([1, 2, 4, 10, 20])
    np.testing.assert_allclose(clipped_weights(exposures, 1.0), [1.0, 0.5, 0.25, 0.1, 0.05])
    # The median of the weights is 0.25.
    np.testing.assert_allclose(clipped_weights(exposures, 0.5), [0.25, 0.25, 0.25, 0.1, 0.05])
    np.testing.assert_allclose(clipped_weights(exposures, 0.0), [0.05] * 5)


def test_weighted_recall_that_can_be_followed() -> None:
    targets = ragged([[1, 2], [3]])
    ranks, weights = np.array([0, -1, 5]), np.array([0.5, 1.0, 0.1])
    # Found at 3: 0.5 of 1.6. The first user's numbers: 0.5 of 1.5; the second's: 0 of 0.1.
    value = 0.5 / 1.6
    found = weighted_recall(ranks, targets, 3, weights)
    np.testing.assert_allclose(
        found, [value + 2 * (0.5 - value * 1.5) / 1.6, value + 2 * (0.0 - value * 0.1) / 1.6]
    )
    assert found.mean() == pytest.approx(value)
    assert weighted_recall(ranks, targets, 6, weights).mean() == pytest.approx(0.6 / 1.6)


def test_weighted_ndcg_that_can_be_followed() -> None:
    targets = ragged([[1, 2], [3]])
    ranks, weights = np.array([0, 1, 2]), np.array([0.5, 1.0, 0.2])
    second, third = 1 / np.log2(3), 1 / np.log2(4)
    found = weighted_ndcg(ranks, targets, 3, weights).mean()
    assert found == pytest.approx((0.5 + 1.0 * second + 0.2 * third) / (1.0 + 0.5 * second + 0.2))
    # Of two targets a list of one ideally holds the heavier.
    assert weighted_ndcg(ranks, targets, 1, weights).mean() == pytest.approx(0.5 / (1.0 + 0.2))


@given(cases, st.floats(0.01, 1.0))
def test_equal_weights_give_the_pooled_recall_and_any_scale_of_weights_the_same(
    case: tuple[list[int], int], weight: float
) -> None:
    lengths, seed = case
    ranks = np.random.Generator(np.random.Philox(seed)).integers(-1, 6, sum(lengths))
    targets = ragged([[1] * length for length in lengths])
    found = weighted_recall(ranks, targets, 3, np.full(len(ranks), weight))
    assert found.mean() == pytest.approx(((ranks >= 0) & (ranks < 3)).mean(), abs=1e-12)
    assert effective_sample_size(np.full(len(ranks), weight)) == pytest.approx(len(ranks))


@given(st.lists(st.tuples(st.floats(0, 5), st.just(0.0) | st.floats(1e-6, 5)), min_size=1, max_size=20))
def test_the_mean_of_the_numbers_is_the_ratio_of_the_sums(pairs: list[tuple[float, float]]) -> None:
    above, below = np.array(pairs).T
    above = np.where(below > 0, above, 0.0)
    found = shares_of_a_ratio(above, below)
    np.testing.assert_array_equal(np.isnan(found), below <= 0)
    if below.sum() > 1e-3:
        assert np.nanmean(found) == pytest.approx(above.sum() / below.sum(), rel=1e-6, abs=1e-9)


def test_the_spread_of_the_mean_is_that_of_the_ratio() -> None:
    generator = np.random.Generator(np.random.Philox(5))
    below = generator.exponential(1.0, 3000)
    above = below * (generator.random(3000) < 0.3)
    drawn = resampled_means(shares_of_a_ratio(above, below)[:, None], num_resamples=2000)[:, 0]
    both = resampled_means(np.stack([above, below], axis=1), num_resamples=2000)
    assert drawn.std() == pytest.approx((both[:, 0] / both[:, 1]).std(), rel=0.05)


@given(st.lists(st.integers(-3, 3), max_size=20), st.lists(st.integers(-4, 4), max_size=9))
def test_counts_of_ads_are_those_of_a_list(ads: list[int], wanted: list[int]) -> None:
    found = counts_of(np.array(ads, np.int64), np.array(wanted, np.int64))
    assert found.tolist() == [ads.count(ad) for ad in wanted]


def test_exposures_count_all_users_and_no_neighbours(tmp_path: Path) -> None:
    after = [
        row(7, {4: 50, 12: 51}, [5, 4], kinds=[0, 100]),
        # Never asked about, as it has no positive; what it was shown counts all the same.
        row(8, {}, [4, 4, 12], kinds=[0, 11, 0]),
        row(9, {4: 50}, [3]),
    ]
    found = read_held_out(*days(tmp_path, [], after), ten_ads())
    assert found.targets.rows.tolist() == [4, 0, 4]
    assert found.exposures is not None
    # Ad 4: two positives, a served negative, and a hide; ad 12, outside the vocabulary, by its own id.
    assert found.exposures.tolist() == [4, 2, 4]
    np.testing.assert_allclose(found.weights, [0.25, 0.45, 0.25])


def test_a_target_counts_in_every_kind_that_it_was_engaged_with(tmp_path: Path) -> None:
    made = row(7, {4: 50, 5: 51}, [])
    made["positive_ad_id"], made["positive_kind"] = [4, 5, 4], [1, 3, 3]
    for name in ("positive_served_at_ms", "positive_request_hash", "positive_weight"):
        made[name] = [*made[name], made[name][-1]]
    found = read_held_out(*days(tmp_path, [], [made]), ten_ads())
    kinds = {name: has.tolist() for name, has in found.target_kinds.items()}
    assert sorted(kinds.values()) == [[True, False], [True, True]]


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_a_lower_clip_makes_weights_more_alike(exposures: list[int], one: float, other: float) -> None:
    low, high = (clipped_weights(np.array(exposures), clip) for clip in sorted((one, other)))
    assert (low <= high).all()
    assert effective_sample_size(low) >= effective_sample_size(high) - 1e-9
