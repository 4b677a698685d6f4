"""Arms of a comparison: their options, and the arms left out, with the reason."""

from __future__ import annotations

from itertools import permutations

import pytest

from scrollpast.config import Training, load_config
from scrollpast.errors import UserError
from scrollpast.training.comparison.arms import BUILT_IN, Cell, Planned, plan, training_of

EVERY_SET = ("filtered", "naive", "neighbours")


def planned(*overrides: str, day_sets: tuple[str, ...] = EVERY_SET) -> Planned:
    options = load_config(None, [f"comparison.{override}" for override in overrides]).comparison
    return plan(options, day_sets)


def names(found: Planned) -> list[str]:
    return [cell.name for cell in found.cells]


def of_arm(name: str, ratio: int = 2, seed: int = 0, training: Training | None = None) -> Training:
    return training_of(training or Training(), BUILT_IN[name], ratio, seed)


@pytest.mark.parametrize(
    ("arm", "sources"),
    [
        ("in_batch", {"in_batch"}),
        ("random", {"in_batch", "random"}),
        ("naive", {"in_batch", "random", "hard"}),
        ("filtered", {"in_batch", "random", "hard"}),
        ("weighted", {"in_batch", "random", "hard"}),
        ("neighbours", {"in_batch", "random", "neighbour"}),
        ("all", {"in_batch", "random", "hard", "neighbour"}),
    ],
)
def test_an_arm_has_these_sources(arm: str, sources: set[str]) -> None:
    negatives = of_arm(arm).negatives
    found = {name for name in ("in_batch", "random", "hard", "neighbour") if getattr(negatives, name).enabled}
    assert found == sources


def test_weights_count_in_the_weighted_arms_alone() -> None:
    hard = {name: of_arm(name).negatives.hard for name in ("naive", "filtered", "weighted", "all")}
    assert {name: source.is_weighted for name, source in hard.items()} == {
        "naive": False, "filtered": False, "weighted": True, "all": True,
    }  # fmt: skip
    assert {name: source.sample_by_weight for name, source in hard.items()} == {
        "naive": False, "filtered": False, "weighted": True, "all": True,
    }  # fmt: skip


def test_the_ratio_is_the_draws_of_each_of_the_users_own_sources() -> None:
    negatives = of_arm("all", ratio=4).negatives
    assert (negatives.hard.count, negatives.neighbour.count) == (4, 4)
    assert of_arm("weighted", ratio=8).negatives.hard.count == 8


def test_arms_differ_in_their_negatives_and_seeds_alone() -> None:
    training = load_config(
        None, ["training.epochs=3", "training.negatives.hard.weight=0.5", "training.negatives.random.count=9"]
    ).training
    for name in BUILT_IN:
        found = of_arm(name, ratio=2, seed=7, training=training)
        assert found.model_copy(update={"negatives": training.negatives, "seed": training.seed}) == training
        assert (found.seed, found.negatives.hard.weight, found.negatives.random.count) == (7, 0.5, 9)


def test_ratio_0_of_any_arm_is_random_and_trained_once() -> None:
    assert names(planned("arms=[naive, weighted, all]", "ratios=[0, 2]")) == [
        "random", "naive@2", "weighted@2", "all@2",
    ]  # fmt: skip
    assert names(planned("arms=[random, naive]", "ratios=[2]")) == ["random", "naive@2"]


def test_all_arms_at_all_ratios_are_22_lines() -> None:
    found = planned()
    assert len(found.cells) == 2 + 5 * 4
    assert found.baseline == Cell("random", 0)
    assert found.skipped == ()


def test_the_order_in_which_they_are_named_changes_nothing() -> None:
    expected = planned("arms=[random, naive, weighted]", "ratios=[0, 1, 2]")
    for arms in permutations(["random", "naive", "weighted"]):
        for ratios in permutations([0, 1, 2]):
            assert planned(f"arms={list(arms)}", f"ratios={list(ratios)}") == expected


def test_an_arm_whose_days_are_missing_is_skipped_with_the_reason() -> None:
    found = planned("ratios=[2]", day_sets=("filtered",))
    assert names(found) == ["in_batch", "random", "filtered@2", "weighted@2"]
    assert {skipped.arm: skipped.reason for skipped in found.skipped} == {
        "naive": "the arm needs days of the set naive, and no such days are given",
        "neighbours": "the arm needs days of the set neighbours, and no such days are given",
        "all": "the arm needs days of the set neighbours, and no such days are given",
    }


def test_negatives_that_are_not_drawn_do_not_ask_for_days_of_a_kind() -> None:
    assert names(planned("ratios=[2]", day_sets=("naive",))) == ["in_batch", "random", "naive@2"]


@pytest.mark.parametrize("baseline", ["naive@2", "in_batch"])
def test_any_line_can_be_the_baseline(baseline: str) -> None:
    assert planned("ratios=[1, 2]", f"baseline={baseline}").baseline.name == baseline


@pytest.mark.parametrize("baseline", ["naive", "naive@4", "neighbours@2", "best"])
def test_a_baseline_that_is_no_line_is_told_the_lines(baseline: str) -> None:
    with pytest.raises(UserError) as caught:
        planned("ratios=[2]", f"baseline={baseline}", day_sets=("naive",))
    assert f"comparison.baseline {baseline}: expected one of in_batch, random, naive@2" in str(caught.value)


def test_one_line_alone_is_no_comparison() -> None:
    with pytest.raises(UserError, match="expected an arm to compare with random"):
        planned("arms=[random]")


# Arms of the configuration's own


def own(training: str) -> list[str]:
    return [
        f"own_arms={{heavy: {{like: weighted, training: {training}}}}}",
        "arms=[random, heavy]",
        "ratios=[2]",
    ]


def test_an_own_arm_is_another_one_but_for_what_it_says() -> None:
    found = planned(*own("{negatives: {hard: {weight: 3}}, epochs: 2}"))
    assert names(found) == ["random", "heavy@2"]
    options = training_of(Training(), found.arms["heavy"], 2, 0)
    expected = of_arm("weighted").model_dump()
    expected["negatives"]["hard"]["weight"] = 3.0
    assert options.model_dump() == expected | {"epochs": 2}
    assert found.arms["heavy"].days == BUILT_IN["weighted"].days


@pytest.mark.parametrize(
    ("training", "fragment"),
    [
        ("{negatives: {hard: {wieght: 3}}}", "training.negatives.hard.wieght (comparison.own_arms.heavy)"),
        ("{negatives: {hard: {weight: -1}}}", "expected a value in (0, inf), found -1"),
        ("{negatives: {hard: 3}}", "expected a section of options, found 3"),
    ],
)
def test_an_own_arm_with_options_that_do_not_fit_is_named(training: str, fragment: str) -> None:
    found = planned(*own(training))
    with pytest.raises(UserError) as caught:
        training_of(Training(), found.arms["heavy"], 2, 0)
    assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        (
            ["arms=[best]"],
            "hold in arms some of in_batch, random, naive, filtered, weighted, neighbours, all",
        ),
        (["arms=[random, random]"], "name one or more, each once, found ['random', 'random']"),
        (["seeds=[]"], "name one or more, each once, found []"),
        (["own_arms={Heavy: {like: naive}}"], "1 to 18 of a-z, 0-9 and _"),
        (["own_arms={naive: {like: naive}}"], "otherwise than the built-in ones, found 'naive'"),
        (["days={fltered: [a]}"], "'filtered', 'naive' or 'neighbours'"),
    ],
)
def test_options_that_cannot_be(overrides: list[str], fragment: str) -> None:
    with pytest.raises(UserError) as caught:
        planned(*overrides)
    assert fragment in str(caught.value)
