"""The draws behind a simulated log follow the laws that they claim."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scrollpast.simulation.behaviour import draw_conversion_delay_s
from scrollpast.simulation.draws import alias_table, draw, draw_lognormal, key_of


def stream(seed: int) -> np.ndarray:
    return np.array([key_of(seed, 0, 0)], np.uint64)


@settings(deadline=None)  # the first example waits for the compiler
@given(arrays.arrays(np.float64, st.integers(1, 50), elements=st.floats(0.001, 1000)))
def test_an_alias_table_gives_each_index_its_share(weights: np.ndarray) -> None:
    keep, other = alias_table(weights)
    share = keep / keep.size
    np.add.at(share, other, (1 - keep) / keep.size)
    np.testing.assert_allclose(share, weights / weights.sum(), atol=1e-9)


def test_units_are_uniform() -> None:
    state = stream(1)
    units = np.array([draw(state) for _ in range(100_000)])
    assert units.min() >= 0 and units.max() < 1
    shares = np.histogram(units, 10, (0, 1))[0] / units.size
    np.testing.assert_allclose(shares, 0.1, atol=0.005)


def test_the_median_of_a_lognormal_is_the_one_asked_for() -> None:
    state = stream(2)
    values = np.array([draw_lognormal(state, 1200.0, 0.5) for _ in range(50_000)])
    assert np.median(values) == pytest.approx(1200, rel=0.02)
    assert np.std(np.log(values)) == pytest.approx(0.5, rel=0.02)


def test_conversions_come_as_late_as_criteo_reports() -> None:
    state = stream(3)
    hours = np.array([draw_conversion_delay_s(state, 30.0) for _ in range(50_000)]) / 3600
    assert np.mean(hours <= 1) == pytest.approx(0.35, abs=0.01)
    assert np.mean(hours <= 24) == pytest.approx(0.50, abs=0.01)
    assert hours.max() <= 30 * 24


def test_keys_of_neighbours_differ_in_half_their_bits() -> None:
    keys = [int(key_of(7, stretch, number)) for stretch in range(20) for number in range(-20, 20)]
    assert len(set(keys)) == len(keys)
    flips = [(a ^ b).bit_count() for a, b in itertools.pairwise(keys)]
    assert np.mean(flips) == pytest.approx(32, abs=1)
