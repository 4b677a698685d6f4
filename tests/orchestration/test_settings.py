"""The scheduler's environment as settings."""

from __future__ import annotations

import dataclasses
from datetime import date
from pathlib import Path

import pytest

from scrollpast.errors import UserError
from scrollpast.orchestration.settings import Settings

HOME = Path("/srv/scrollpast")


def read(**variables: str) -> Settings:
    return Settings.read({f"SCROLLPAST_{name}": value for name, value in variables.items()}, HOME)


def test_without_variables_everything_is_below_the_repository() -> None:
    settings = read()
    assert settings.python == "/srv/scrollpast/.venv/bin/python"
    assert (settings.config, settings.logs) == ("/srv/scrollpast/conf/cluster.yaml", "/srv/scrollpast/logs")
    assert settings.out == "/srv/scrollpast/out"
    assert settings.mark == "_SUCCESS"


def test_a_variable_takes_the_place_of_its_default() -> None:
    settings = read(HOME="/opt/sp", LOGS="s3://logs", TRAIN_DAYS="7", WAIT_H="1.5", FEATURES="brand, kind")
    assert (settings.logs, settings.out) == ("s3://logs", "/opt/sp/out")
    assert (settings.train_days, settings.wait_h) == (7, 1.5)
    assert settings.features == ("brand", "kind")


def test_an_empty_mark_asks_for_no_mark() -> None:
    assert read(MARK="").mark == ""


@pytest.mark.parametrize("name", ["TRAIN_DAYS", "JOB_PYTHON", "HOME", "FEATURES", "LOGS"])
def test_an_empty_variable_is_none(name: str) -> None:
    assert read(**{name: ""}) == read()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TRAIN_DAYS", "many", "SCROLLPAST_TRAIN_DAYS: expected a whole number, found 'many'"),
        ("WAIT_H", "long", "SCROLLPAST_WAIT_H: expected a number, found 'long'"),
        ("RANKS", "0", "SCROLLPAST_RANKS: expected 1 or more, found 0"),
        ("TRAIN_ON", "Monday", "SCROLLPAST_TRAIN_ON: expected one of daily, never, monday"),
        ("START", "yesterday", "SCROLLPAST_START: expected a day as 2026-11-21, found 'yesterday'"),
        (
            "START",
            "2026-02-29",
            "SCROLLPAST_START: expected a day of February 2026, which has 28 days, found '2026",
        ),
    ],
)
def test_a_value_that_makes_no_sense_is_a_mistake_of_the_environment(
    name: str, value: str, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        read(**{name: value})
    assert str(caught.value).startswith(message)


def test_a_model_is_trained_on_the_weekday_that_is_named() -> None:
    thursday = date(2026, 11, 19)
    days = [date(2026, 11, day) for day in range(16, 23)]
    assert [day for day in days if read(TRAIN_ON="thursday").is_training_day(day)] == [thursday]
    assert all(read(TRAIN_ON="daily").is_training_day(day) for day in days)
    assert not any(read(TRAIN_ON="never").is_training_day(day) for day in days)


def test_every_setting_has_a_variable_of_its_own() -> None:
    variables = [field.metadata["variable"] for field in dataclasses.fields(Settings)]
    assert len(set(variables)) == len(variables)
    # scripts/env/environment.sh has a SCROLLPAST_PYTHON, and the tests a SCROLLPAST_DATA, of other meanings.
    assert {"SCROLLPAST_PYTHON", "SCROLLPAST_DATA"}.isdisjoint(variables)
