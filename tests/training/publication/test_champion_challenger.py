"""A new model beside the one in use: shown to be worse, unproven, or fine."""

from __future__ import annotations

import numpy as np
import pytest

from scrollpast.training.publication.champion_challenger import Contest, Measured

USERS = 400


def measured(recall: float, *, users: range = range(USERS), noise: float = 0.02, seed: int = 1) -> Measured:
    """Users around this recall; the same seed gives them the same luck."""
    luck = np.random.Generator(np.random.Philox(7)).normal(0, 0.2, 10_000)[users.start : users.stop]
    own = np.random.Generator(np.random.Philox(seed)).normal(0, noise, len(users))
    return Measured(np.array(users), {"recall@100": recall + luck + own, "auc": 0.5 + luck})


def test_the_first_model_has_nothing_to_be_worse_than() -> None:
    contest = Contest.of(measured(0.01), None)
    assert contest.why_not(0.0) is None
    assert contest.to_json()["recall@100"]["difference"] is None


def test_a_model_that_is_shown_to_be_worse_is_kept_out_however_little_it_loses() -> None:
    contest = Contest.of(measured(0.297, seed=2), measured(0.300))
    assert contest.to_json()["recall@100"]["difference"]["verdict"] == "worse"
    assert "recall@100 is worse by 0.00" in str(contest.why_not(0.5))


def test_a_loss_that_is_not_shown_passes_up_to_a_part_of_the_metric() -> None:
    contest = Contest.of(measured(0.27, noise=1.0, seed=3), measured(0.30))
    difference = contest.to_json()["recall@100"]["difference"]
    assert difference["verdict"] == "no difference shown"
    lost = -difference["value"] / measured(0.30).numbers["recall@100"].mean()
    assert 0 < lost < 1
    assert contest.why_not(lost * 1.01) is None
    assert "more than" in str(contest.why_not(lost * 0.99))


@pytest.mark.parametrize("gain", [0.0, 0.01])
def test_a_model_that_is_as_good_or_better_may_take_the_place(gain: float) -> None:
    assert Contest.of(measured(0.30 + gain), measured(0.30)).why_not(0.0) is None


def test_only_users_that_both_were_asked_about_count() -> None:
    contest = Contest.of(measured(0.3, users=range(100)), measured(0.3, users=range(50, 150)))
    assert contest.num_users == 50
    assert contest.to_json()["recall@100"]["num_users"] == 50


def test_few_users_show_nothing_and_the_table_says_so() -> None:
    few = range(10)
    contest = Contest.of(measured(0.1, users=few), measured(0.9, users=few))
    assert contest.to_json()["recall@100"]["difference"]["verdict"] == "no difference shown"
    assert "loses" in str(contest.why_not(0.05))
    assert "fewer than 30 users" in contest.table()
