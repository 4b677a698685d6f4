"""Laws of registries."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from scrollpast.errors import UserError
from scrollpast.registry import Registry


@dataclass(frozen=True)
class Colour:
    name: str


def test_names_are_those_of_the_parts_in_the_order_of_registration() -> None:
    colours = Registry("colour", [Colour("red"), Colour("blue")])
    with colours.registered(Colour("amber")) as amber:
        assert colours.names == ("red", "blue", "amber")
        assert list(colours)[2] is colours.find("amber", "paint.colour") is amber
        assert "amber" in colours
    assert colours.names == ("red", "blue")


def test_a_name_is_registered_once() -> None:
    red = Colour("red")
    colours = Registry("colour", [red])
    assert colours.register(red) is red
    with pytest.raises(
        ValueError, match=re.escape("colour 'red': expected a new name, found a registered one (red)")
    ):
        colours.register(Colour("red"))


def test_an_unknown_name_is_an_error_that_lists_the_known_names() -> None:
    expected = "paint.colour: expected a registered colour (red, blue), found 'green'"
    with pytest.raises(UserError, match=re.escape(expected)):
        Registry("colour", [Colour("red"), Colour("blue")]).find("green", "paint.colour")
