"""The alias table draws what it says, and a step's draws are known by its number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrollpast.config.training_options import Random
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.loss.sources.catalogue import AliasTable, Catalogue, catalogue_log_q


@settings(max_examples=100)
@given(weights=st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=50).filter(any))
def test_the_alias_table_holds_exactly_the_chances_it_was_given(weights: list[float]) -> None:
    given_weights = np.array(weights)
    expected = given_weights / given_weights.sum()
    np.testing.assert_allclose(AliasTable(given_weights).probabilities(), expected, rtol=1e-9, atol=1e-12)


def test_draws_come_as_often_as_their_chances_say() -> None:
    weights = np.array([0.0, 5.0, 1.0, 0.1, 3.0])
    drawn = AliasTable(weights).draw(np.random.Generator(np.random.Philox(1)), 200_000)
    observed = np.bincount(drawn, minlength=5) / 200_000
    np.testing.assert_allclose(observed, weights / weights.sum(), atol=0.005)
    assert observed[0] == 0


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0], [np.inf, 1.0]])
def test_weights_that_are_no_chances_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights must be finite"):
        AliasTable(np.array(weights))


def test_a_catalogue_never_draws_the_unknown_ad_and_repeats_itself_by_step() -> None:
    log_q = np.log(np.array([0.2, 0.7, 0.1, 0.2], np.float32))
    catalogue = Catalogue(log_q, seed=3)
    first, again, next_step = (
        catalogue.draw(7, 1000),
        Catalogue(log_q, seed=3).draw(7, 1000),
        catalogue.draw(8, 1000),
    )
    assert first.tolist() == again.tolist() != next_step.tolist()
    assert set(first.tolist()) == {1, 2, 3}
    assert Catalogue(log_q, seed=4).draw(7, 1000).tolist() != first.tolist()


COUNTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=40)


def vocabulary_of(counts: list[int]) -> Vocabulary:
    ads = np.arange(len(counts) + 1)
    return Vocabulary(ads, np.array([0, *counts]), {}, {}, num_user_rows=10)


@given(counts=COUNTS, alpha=st.floats(0, 2), tail_floor=st.floats(0, 1))
def test_no_ads_chance_is_below_the_tail_floor(counts: list[int], alpha: float, tail_floor: float) -> None:
    chances = np.exp(catalogue_log_q(vocabulary_of(counts), Random(alpha=alpha, tail_floor=tail_floor))[1:])
    np.testing.assert_allclose(chances.sum(), 1.0, rtol=1e-4)
    assert chances.min() >= tail_floor / len(counts) * (1 - 1e-4)


def test_without_a_tail_floor_popularity_alone_decides() -> None:
    known = vocabulary_of([0, 3, 1000])
    np.testing.assert_array_equal(catalogue_log_q(known, Random(alpha=1.0)), known.log_q(1.0))
    np.testing.assert_array_equal(catalogue_log_q(known, Random(alpha=1.0, tail_floor=1.0)), known.log_q(0.0))


def test_the_correction_is_the_logarithm_of_the_chance_that_ads_are_drawn_with() -> None:
    known, options = vocabulary_of([1000, 30, 0, 0, 0]), Random(alpha=1.0, tail_floor=0.3)
    log_q = catalogue_log_q(known, options)
    drawn = np.bincount(Catalogue(log_q, seed=1).draw(0, 200_000).numpy(), minlength=6)[1:] / 200_000
    np.testing.assert_allclose(np.exp(log_q[1:]), drawn, atol=0.004)
    # 0.3 of five ads' uniform chance, and what popularity gives an ad without a positive (smoothed: 1 / 1,036).
    np.testing.assert_allclose(np.exp(log_q[4]), 0.3 / 5 + 0.7 / (1001 + 31 + 3), rtol=1e-5)
