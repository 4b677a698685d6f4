"""The alias table draws what it says, and a step's draws are known by its number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrollpast.training.negatives.catalogue import AliasTable, Catalogue


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
