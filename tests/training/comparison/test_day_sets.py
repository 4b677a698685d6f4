"""Sets of days: how they are named, what they have to have in common, and when two of them are the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from scrollpast.config import ComparisonOptions
from scrollpast.errors import UserError
from scrollpast.training.comparison.arms import BUILT_IN
from scrollpast.training.comparison.day_sets import content_of, parse_day_sets, read_day_sets
from tests.training.comparison.days import AFTER, BEFORE, toy_days
from tests.training.data.days import records
from tests.training.evaluation.toy import day


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return toy_days(tmp_path_factory.mktemp("days"))


def options(days: dict[str, str], **sets: list[str]) -> ComparisonOptions:
    return ComparisonOptions(days=sets, evaluation_days=[days["evaluation"]])  # type: ignore[arg-type]


def test_sets_are_named_on_the_command_line_once_or_again() -> None:
    assert parse_day_sets(["filtered=a,b", "naive=c", "filtered=d,"]) == {
        "filtered": ["a", "b", "d"],
        "naive": ["c"],
    }
    assert parse_day_sets(["naive=s3://x/ds=2026-11-20"]) == {"naive": ["s3://x/ds=2026-11-20"]}


@pytest.mark.parametrize("word", ["filtered", "filtered=", "best=a", "=a", "filtered=,"])
def test_a_word_of_another_form_shows_the_form(word: str) -> None:
    with pytest.raises(UserError, match="write for example --days filtered="):
        parse_day_sets([word])


def test_every_arm_has_the_days_of_its_set(days: dict[str, str]) -> None:
    found = read_day_sets(
        options(
            days,
            neighbours=[days["neighbours"]],
            filtered=[days["filtered"] + "/manifest.json"],
            naive=[days["naive"]],
        )
    )
    by_arm = {name: found.of(arm) for name, arm in BUILT_IN.items()}
    assert by_arm == {
        "in_batch": (days["filtered"],),
        "random": (days["filtered"],),
        "naive": (days["naive"],),
        "filtered": (days["filtered"],),
        "weighted": (days["filtered"],),
        "neighbours": (days["neighbours"],),
        "all": (days["neighbours"],),
    }
    assert found.history == (days["filtered"],)
    assert found.notes == ()


def test_days_of_another_time_are_refused(days: dict[str, str], tmp_path: Path) -> None:
    other = day(tmp_path, *AFTER, records(np.random.Generator(np.random.Philox(1)), 0, 5))
    with pytest.raises(UserError, match="mine the same days for every set") as caught:
        read_day_sets(options(days, filtered=[days["filtered"]], naive=[other]))
    assert "days of the set naive: expected the windows of the set filtered: 2026-11-20" in str(caught.value)


def test_other_positives_are_noted(days: dict[str, str], tmp_path: Path) -> None:
    other = day(tmp_path, *BEFORE, records(np.random.Generator(np.random.Philox(1)), 0, 5))
    (note,) = read_day_sets(options(days, filtered=[days["filtered"]], naive=[other])).notes
    assert note.startswith("the set naive has ") and "more than their negatives" in note


def test_no_days_and_days_that_are_not_published_are_told(days: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--days: expected folders"):
        read_day_sets(options(days))
    with pytest.raises(UserError, match="--evaluate: expected folders"):
        read_day_sets(ComparisonOptions(days={"filtered": [days["filtered"]]}))
    with pytest.raises(UserError, match="a manifest, which publishes a day"):
        read_day_sets(options(days, filtered=[str(tmp_path / "ds=2026-11-20")]))


def test_a_day_is_the_same_wherever_it_lies_and_another_with_other_records(
    days: dict[str, str], tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere" / Path(days["filtered"]).name
    shutil.copytree(days["filtered"], moved)
    assert content_of([str(moved)]) == content_of([days["filtered"]])
    assert content_of([days["naive"]]) != content_of([days["filtered"]])
