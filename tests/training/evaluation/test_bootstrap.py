"""Intervals: they cover as often as they say, and know what they were computed from."""

from __future__ import annotations

import numpy as np
import pytest

from scrollpast.training.evaluation import bootstrap
from scrollpast.training.evaluation.bootstrap import estimates


def test_an_interval_covers_the_truth_about_95_times_of_100() -> None:
    generator = np.random.Generator(np.random.Philox(1))
    covered = 0
    for seed in range(300):
        found = estimates({"x": generator.exponential(1.0, 200)}, seed=seed, num_resamples=400)["x"]
        assert found is not None
        covered += found.low <= 1.0 <= found.high
    # Three standard deviations of a binomial count around 95 %, and a little for the skew of these numbers.
    assert 0.90 <= covered / 300 <= 0.99


def test_it_is_as_wide_as_the_normal_approximation_for_many_users() -> None:
    values = np.random.Generator(np.random.Philox(2)).normal(5.0, 2.0, 5000)
    found = estimates({"x": values})["x"]
    assert found is not None
    assert found.mean == pytest.approx(values.mean())
    assert (found.high - found.low) / (2 * 1.96 * 2.0 / 5000**0.5) == pytest.approx(1.0, abs=0.1)


def test_users_without_the_number_are_left_out() -> None:
    values = np.array([1.0, np.nan, 3.0, np.nan])
    found = estimates({"some": values, "none": np.full(4, np.nan), "all": np.ones(4)})
    assert found["none"] is None
    assert (found["some"].mean, found["some"].num_users) == (2.0, 2)  # type: ignore[union-attr]
    assert (found["all"].low, found["all"].high) == (1.0, 1.0)  # type: ignore[union-attr]


def test_the_same_seed_gives_the_same_interval_in_any_number_of_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {"x": np.random.Generator(np.random.Philox(3)).normal(size=100)}
    at_once = estimates(values, seed=4)
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 700)
    assert estimates(values, seed=4) == at_once
    assert estimates(values, seed=5) != at_once


def test_a_paired_difference_is_surer_than_two_means() -> None:
    generator = np.random.Generator(np.random.Philox(5))
    first = generator.normal(size=500)
    second = first + 0.05 + generator.normal(0, 0.05, 500)
    found = estimates({"first": first, "second": second, "difference": second - first})
    assert found["difference"] is not None and found["first"] is not None
    assert found["difference"].low > 0.04
    assert found["first"].high - found["first"].low > 0.1
