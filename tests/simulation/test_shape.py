"""A shape takes what it is given, or says which knob is wrong and what would be right."""

import dataclasses

import pytest

from scrollpast.errors import UserError
from scrollpast.simulation.shape import LogShape, shape_from


def test_what_is_not_set_keeps_its_default() -> None:
    assert shape_from(["broken=0.05", "max_slate = 20"]) == LogShape(broken=0.05, max_slate=20)


def test_an_unknown_knob_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown name 'brokn'; did you mean broken\?"):
        shape_from(["brokn=0.05"])


def test_a_value_out_of_bounds_names_the_bounds() -> None:
    with pytest.raises(UserError, match=r"duplicates: expected a value in \[0, 0.2\], found 0.5"):
        shape_from(["duplicates=0.5"])


@pytest.mark.parametrize("text", ["nan", "inf", "-1"])
def test_no_rate_is_nan_or_infinite_or_negative(text: str) -> None:
    with pytest.raises(UserError):
        shape_from([f"bot_rows={text}"])


@pytest.mark.parametrize("setting", ["broken", "broken=much", "max_slate=2.5", "min_slate=40"])
def test_a_setting_that_makes_no_sense_is_refused(setting: str) -> None:
    with pytest.raises(UserError):
        shape_from([setting])


def test_every_default_lies_within_its_bounds_and_has_bounds() -> None:
    for field in dataclasses.fields(LogShape):
        assert field.metadata["low"] <= field.default <= field.metadata["high"], field.name
