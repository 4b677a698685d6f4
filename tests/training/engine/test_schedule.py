"""Easy first, then hard: the weight of a source over the steps."""

from __future__ import annotations

from scrollpast.training.engine.schedule import Ramp, warm_up


def test_a_source_without_a_schedule_has_its_full_weight_from_the_first_step() -> None:
    assert [Ramp().at(step) for step in (0, 1, 10**9)] == [1.0, 1.0, 1.0]


def test_hard_negatives_are_mixed_in_after_easy_ones() -> None:
    ramp = Ramp(initial=0.0, start_step=10, ramp_steps=4)
    assert [ramp.at(step) for step in (0, 9, 10, 11, 13, 14)] == [0.0, 0.0, 0.0, 0.25, 0.75, 1.0]


def test_a_source_can_fade_as_well() -> None:
    assert [Ramp(initial=3.0, ramp_steps=2).at(step) for step in (0, 1, 2)] == [3.0, 2.0, 1.0]


def test_the_learning_rate_grows_over_the_warm_up() -> None:
    assert [warm_up(step, 2) for step in (0, 1, 2)] == [0.5, 1.0, 1.0]
    assert warm_up(0, 0) == 1.0
