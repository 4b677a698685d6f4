"""Selection of neighbours from candidates, rule by rule, and the laws that hold for any candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scrollpast.mining.neighbours.outcomes import CandidateOutcome
from scrollpast.mining.neighbours.selection import (
    ABSENT,
    draw_chances,
    margin_bounds,
    select,
    user_chances,
)

ENGAGED, ABOVE, NOT_DRAWN, KEPT = CandidateOutcome


def bounds_of(*users: list[float], margin: float = 0.05, margin_from: Any = "lowest") -> list[float]:
    scores = np.array([score for positives in users for score in positives], np.float32)
    offsets = np.cumsum([0, *map(len, users)])
    return margin_bounds(scores, offsets, margin, margin_from).tolist()


def outcomes_of(
    scores: list[float], bound: float, *, engaged: Any = (), absent: Any = (), most: int = 9
) -> Any:
    """Of one user's candidates; the later ones have the smaller chances."""
    count = len(scores)
    numbers = np.arange(count)
    return select(
        ~np.isin(numbers, absent)[None],
        np.isin(numbers, engaged)[None],
        np.array([scores], np.float32),
        np.array([bound]),
        -numbers[None],
        most,
    )[0].tolist()


# The margin


def test_a_neighbour_may_score_19_twentieths_of_the_positive() -> None:
    assert bounds_of([0.8], [0.4]) == pytest.approx([0.76, 0.38])


def test_of_several_positives_the_lowest_is_taken_or_as_configured() -> None:
    users = ([0.5, 0.9, 0.1], [0.2])
    assert bounds_of(*users) == pytest.approx([0.095, 0.19])
    assert bounds_of(*users, margin_from="mean") == pytest.approx([0.475, 0.19])
    assert bounds_of(*users, margin_from="highest") == pytest.approx([0.855, 0.19])


def test_below_a_positive_of_a_negative_score_there_is_a_margin_too() -> None:
    assert bounds_of([-0.4]) == pytest.approx([-0.42])
    assert bounds_of([0.0]) == [0.0]
    assert bounds_of([1e-9]) == pytest.approx([0.95e-9])


def test_without_a_positive_nothing_is_below_the_margin() -> None:
    assert bounds_of([], [0.5], [], margin=0.0) == [-np.inf, 0.5, -np.inf]
    assert bounds_of() == []
    assert bounds_of([], margin_from="mean") == [-np.inf]


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=9),
    st.floats(0, 0.99),
    st.sampled_from(["lowest", "mean", "highest"]),
)
def test_the_bound_is_never_above_the_score_it_is_taken_from(
    scores: list[float], margin: float, margin_from: Any
) -> None:
    (bound,) = bounds_of(scores, margin=margin, margin_from=margin_from)
    (score,) = bounds_of(scores, margin=0.0, margin_from=margin_from)
    assert bound <= score
    assert bound < score or score == 0 or margin < 1e-6
    (lowest,) = bounds_of(scores, margin=margin)
    assert lowest <= bound + 1e-12, "below the lowest, the margin holds to every positive"


# Outcomes


def test_the_first_rule_that_applies_decides() -> None:
    assert outcomes_of([0.9, 0.9, 0.5, 0.5], 0.8, engaged=[0, 2]) == [ENGAGED, ABOVE, ENGAGED, KEPT]


def test_a_score_on_the_bound_is_kept() -> None:
    assert outcomes_of([0.5, 0.25], 0.25) == [ABOVE, KEPT]


def test_of_those_that_qualify_the_ones_with_the_smallest_chances_are_kept() -> None:
    found = outcomes_of([0.9, 0.1, 0.2, 0.3, 0.4], 0.5, engaged=[4], most=2)
    assert found == [ABOVE, NOT_DRAWN, KEPT, KEPT, ENGAGED]


def test_a_rank_without_an_ad_has_no_outcome() -> None:
    assert outcomes_of([0.1, 0.9, 0.1], 0.5, engaged=[1], absent=[1, 2]) == [KEPT, ABSENT, ABSENT]


def test_the_chance_of_an_ad_depends_on_user_ad_and_seed_alone() -> None:
    users, ads = np.array([1, 1, 2, 2]), np.array([5, 6, 5, 6])
    chances = draw_chances(7, users, ads)
    assert len(set(chances.tolist())) == 4
    assert draw_chances(7, users[::-1], ads[::-1]).tolist() == chances[::-1].tolist()
    assert not (draw_chances(8, users, ads) == chances).any()
    assert user_chances(7, users).tolist() == [*user_chances(7, users[:2]), *user_chances(7, users[2:])]


SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 20))


@given(st.data(), SHAPES, st.integers(1, 25))
def test_every_candidate_has_one_outcome_and_each_rule_holds(
    data: st.DataObject, shape: tuple[int, int], most: int
) -> None:
    def drawn(kind: Any, elements: Any, size: Any = shape) -> Any:
        return data.draw(arrays.arrays(kind, size, elements=elements))

    is_candidate, is_engaged = drawn(np.bool_, st.booleans()), drawn(np.bool_, st.booleans())
    scores = drawn(np.float32, st.floats(-1, 1, width=32))
    bounds = drawn(np.float64, st.floats(-1, 1), shape[0])
    chances = drawn(np.int64, st.integers(-5, 5))
    outcome = select(is_candidate, is_engaged, scores, bounds, chances, most)
    assert ((outcome == ABSENT) == ~is_candidate).all()
    assert ((outcome == ENGAGED) == (is_candidate & is_engaged)).all()
    above = scores > bounds[:, None]
    assert ((outcome == ABOVE) == (is_candidate & ~is_engaged & above)).all()
    for row, chance in zip(outcome, chances, strict=True):
        kept, left = chance[row == KEPT], chance[row == NOT_DRAWN]
        assert len(kept) == min(most, len(kept) + len(left))
        assert not len(left) or kept.max() <= left.min()
