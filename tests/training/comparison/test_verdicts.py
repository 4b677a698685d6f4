"""Verdicts: what is planted is found, what is not is not, and nobody's order matters."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrollpast.training.comparison.verdicts import (
    Difference,
    Judged,
    Key,
    Numbers,
    judge,
)
from scrollpast.training.evaluation.bootstrap import BETTER, FEWEST_USERS, NOT_SHOWN, WORSE, estimates


def drawn(seed: int, **effects: float) -> dict[Key, Numbers]:
    """Arms as they differ from ``base``, in one metric: 3 seeds, 400 users that differ by much more than arms do."""
    generator = np.random.Generator(np.random.Philox(seed))
    users = generator.exponential(0.3, 400)
    return {
        (arm, "recall"): users
        + effect
        + generator.normal(0, 0.002, (3, 1))
        + generator.normal(0, 0.05, (3, 400))
        for arm, effect in {"base": 0.0, **effects}.items()
    }


def difference(found: Mapping[Key, Judged | None], arm: str, metric: str = "recall") -> Difference:
    judged = found[arm, metric]
    assert judged is not None and judged.difference is not None
    return judged.difference


def test_an_arm_that_is_the_baseline_again_is_shown_to_be_neither() -> None:
    numbers = drawn(1)
    numbers["same", "recall"] = numbers["base", "recall"]
    found = difference(judge(numbers, "base"), "same")
    assert (found.value, found.verdict) == (0.0, NOT_SHOWN)
    assert found.joint_interval.low <= 0 <= found.joint_interval.high


def test_a_planted_difference_is_found_for_what_it_is() -> None:
    found = judge(drawn(2, good=0.03, bad=-0.03, none=0.0), "base")
    assert [difference(found, arm).verdict for arm in ("good", "bad", "none")] == [BETTER, WORSE, NOT_SHOWN]
    assert difference(found, "good").value == pytest.approx(0.03, abs=0.01)
    base = found["base", "recall"]
    assert base is not None and base.difference is None


def test_where_less_is_good_less_is_better() -> None:
    found = judge(drawn(2, up=0.03, down=-0.03), "base", frozenset({"recall"}))
    assert [difference(found, arm).verdict for arm in ("up", "down")] == [WORSE, BETTER]


def test_what_a_seed_does_to_one_arm_is_no_difference_between_arms() -> None:
    generator = np.random.Generator(np.random.Philox(3))
    users = generator.normal(0, 0.001, 400)
    # Surely better for these users with these seeds; but a seed moves an arm by as much.
    base = users + np.array([[0.0], [0.02], [0.04]])
    other = users + np.array([[0.03], [0.01], [0.06]])
    numbers = {("base", "recall"): base, ("other", "recall"): other}
    assert difference(judge(numbers, "base"), "other").verdict == NOT_SHOWN
    one_seed = {key: values[:1] for key, values in numbers.items()}
    assert difference(judge(one_seed, "base"), "other").verdict == BETTER


def test_an_untrained_arm_changes_no_other_verdict_and_varies_with_the_seeds_of_the_baseline() -> None:
    generator = np.random.Generator(np.random.Philox(4))
    numbers = drawn(4, good=0.01, none=0.0)
    # By its users the untrained arm is surely worse; by the seeds of the baseline it may be equal.
    wide = {key: values + np.array([[0.0], [0.3], [-0.3]]) for key, values in numbers.items()}
    counted = wide["base", "recall"].mean(axis=0) - 0.05 + generator.normal(0, 0.001, 400)
    with_count = wide | {("count", "recall"): np.tile(counted, (3, 1))}
    found = judge(with_count, "base", untrained=frozenset({"count"}))
    for arm in ("good", "none"):
        expected = difference(judge(wide, "base"), arm)
        assert difference(found, arm).verdict == expected.verdict
        assert difference(found, arm).joint_interval.low == pytest.approx(expected.joint_interval.low)
    assert difference(found, "count").value == pytest.approx(-0.05, abs=0.001)
    assert difference(found, "count").verdict == NOT_SHOWN
    steady = {key: values - values.mean(axis=1, keepdims=True) for key, values in wide.items()}
    steady["count", "recall"] = np.tile(steady["base", "recall"].mean(axis=0) - 0.05, (3, 1))
    found = judge(steady, "base", untrained=frozenset({"count"}))
    assert difference(found, "count").verdict == WORSE


def test_what_a_seed_does_to_all_arms_hides_no_difference() -> None:
    """Seeds that move every arm by ten times as much as the arms differ: the same first weights for all."""
    numbers = drawn(3, good=0.01, none=0.0)
    alike = {key: values + np.array([[0.0], [0.1], [-0.1]]) for key, values in numbers.items()}
    found = judge(alike, "base")
    expected = difference(judge(numbers, "base"), "good")
    assert [difference(found, arm).verdict for arm in ("good", "none")] == [BETTER, NOT_SHOWN]
    assert difference(found, "good").joint_interval.low == pytest.approx(expected.joint_interval.low)
    # The variance between seeds is part of an arm's uncertainty.
    base = found["base", "recall"]
    assert base is not None and base.interval.high - base.interval.low > 0.2


def test_with_one_seed_it_is_the_paired_bootstrap_of_the_evaluation() -> None:
    numbers = {key: values[:1] for key, values in drawn(4, other=0.01).items()}
    found = judge(numbers, "base", num_resamples=1000)
    expected = estimates(
        {
            "other": numbers["other", "recall"][0],
            "less": numbers["other", "recall"][0] - numbers["base", "recall"][0],
        }
    )
    other, less = expected["other"], expected["less"]
    assert other is not None and less is not None
    judged = found["other", "recall"]
    assert judged is not None and judged.seed_deviation is None
    assert (judged.value, judged.interval.low, judged.interval.high) == pytest.approx(
        (other.mean, other.low, other.high)
    )
    interval = difference(found, "other").interval
    assert (interval.low, interval.high) == pytest.approx((less.low, less.high))


def test_users_without_the_number_are_left_out() -> None:
    numbers = drawn(5, other=0.03)
    whole = judge(numbers, "base")
    for key, values in numbers.items():
        numbers[key] = np.concatenate([values, np.full((3, 100), np.nan)], axis=1)
    found = judge(numbers, "base")["other", "recall"]
    expected = whole["other", "recall"]
    assert found is not None and expected is not None
    assert (found.value, found.num_users) == (pytest.approx(expected.value), 400)
    assert difference(judge(numbers, "base"), "other").verdict == BETTER


def test_a_number_that_nobody_has_is_none() -> None:
    numbers = drawn(6, other=0.03)
    numbers |= {(arm, "auc"): np.full((3, 400), np.nan) for arm in ("base", "other")}
    found = judge(numbers, "base")
    assert (found["base", "auc"], found["other", "auc"]) == (None, None)
    assert difference(found, "other").verdict == BETTER


def test_few_users_get_no_verdict_and_widen_nobody_elses_interval() -> None:
    numbers = drawn(7, other=0.03)
    alone = difference(judge(numbers, "base"), "other")
    for arm, shift in (("base", 0.0), ("other", 1.0)):
        numbers[arm, "slice"] = np.full((3, 400), np.nan)
        numbers[arm, "slice"][:, : FEWEST_USERS - 1] = shift
    found = judge(numbers, "base")
    assert difference(found, "other", "slice").value == 1.0
    assert difference(found, "other", "slice").verdict == NOT_SHOWN
    assert difference(found, "other") == alone
    few = {key: values for key, values in numbers.items() if key[1] == "slice"}
    assert difference(judge(few, "base"), "other", "slice").verdict == NOT_SHOWN


def test_the_same_users_are_drawn_for_all_metrics() -> None:
    numbers = {key: values[:1] for key, values in drawn(8, other=0.01).items()}
    numbers |= {(arm, "twice"): 2 * values for (arm, _), values in list(numbers.items())}
    found = judge(numbers, "base")
    once, twice = difference(found, "other"), difference(found, "other", "twice")
    assert (twice.interval.low, twice.interval.high) == pytest.approx(
        (2 * once.interval.low, 2 * once.interval.high)
    )
    # A metric that says nothing new costs nothing: the interval for all is that for one.
    one = difference(judge({key: v for key, v in numbers.items() if key[1] == "recall"}, "base"), "other")
    assert once.joint_interval.low == pytest.approx(one.joint_interval.low)


@settings(max_examples=20)
@given(st.randoms(use_true_random=False), st.integers(0, 1000))
def test_no_order_of_arms_metrics_or_seeds_changes_anything(random: Random, seed: int) -> None:
    numbers = drawn(seed, good=0.02, bad=-0.01)
    numbers |= {(arm, "auc"): values**2 for (arm, _), values in list(numbers.items())}
    expected = judge(numbers, "base", num_resamples=100)
    keys = list(numbers)
    random.shuffle(keys)
    seeds = random.sample(range(3), 3)
    shuffled = {key: numbers[key][seeds] for key in keys}
    assert judge(shuffled, "base", num_resamples=100) == expected


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), num_arms=st.integers(1, 4), num_seeds=st.integers(1, 4))
def test_a_verdict_is_its_joint_interval_on_one_side_of_0(seed: int, num_arms: int, num_seeds: int) -> None:
    generator = np.random.Generator(np.random.Philox(seed))
    numbers = {
        (f"arm {arm}", metric): generator.normal(0.05 * arm, 0.3, (num_seeds, 60))
        for arm in range(num_arms + 1)
        for metric in ("recall", "auc")
    }
    for (arm, metric), judged in judge(numbers, "arm 0", num_resamples=300).items():
        if arm == "arm 0":
            continue
        assert judged is not None and judged.difference is not None, metric
        found, joint = judged.difference, judged.difference.joint_interval
        expected = BETTER if joint.low > 0 else WORSE if joint.high < 0 else NOT_SHOWN
        assert found.verdict == expected
        assert joint.low <= found.value <= joint.high
        assert found.value - joint.low == pytest.approx(joint.high - found.value)


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_arms_that_change_nothing_are_rarely_given_any_verdict(num_seeds: int) -> None:
    num_tables, num_verdicts, num_missed = 150, 0, 0
    for at in range(num_tables):
        generator = np.random.Generator(np.random.Philox(at))
        users = generator.exponential(1.0, 150)
        seed_deviation = 0.1 if num_seeds > 1 else 0.0
        numbers = {
            (f"arm {arm}", metric): users
            + generator.normal(0, seed_deviation, (num_seeds, 1))
            + generator.normal(0, 0.5, (num_seeds, 150))
            for arm in range(6)
            for metric in ("recall", "auc")
        }
        found = judge(numbers, "arm 0", num_resamples=400)
        told = [
            judged.difference
            for judged in found.values()
            if judged is not None and judged.difference is not None
        ]
        assert len(told) == 10
        num_verdicts += any(one.verdict != NOT_SHOWN for one in told)
        num_missed += sum(not one.interval.low <= 0 <= one.interval.high for one in told)
    # A table without any effect has a verdict in 5 of 100 cases at most; three standard deviations on top.
    assert num_verdicts / num_tables <= 0.05 + 3 * (0.05 * 0.95 / num_tables) ** 0.5
    # Taken alone, each interval misses the truth about as often as it says: they are not simply very wide.
    assert 0.005 <= num_missed / (10 * num_tables) <= 0.08
