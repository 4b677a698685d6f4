"""Presets of the simulation: valid shapes, a table that lists them, and the command line that selects them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scrollpast.errors import UserError
from scrollpast.simulation.shape import LogShape, shape_from
from scrollpast.simulation.worlds import WORLDS, LogWorld
from tests.jobs.job_runs import ROOT


def test_plain_is_the_default_shape() -> None:
    assert shape_from([], WORLDS.find("plain", "--world").settings) == LogShape()


@pytest.mark.parametrize("name", WORLDS.names)
def test_every_preset_is_a_shape_with_whole_numbers_where_the_shape_has_them(name: str) -> None:
    world = WORLDS.find(name, "--world")
    shape = shape_from([], world.settings)
    assert all(getattr(shape, key) == value for key, value in world.settings.items())
    assert isinstance(shape.pool_ads, int) and isinstance(shape.pool_days, int)


def test_a_setting_wins_over_the_preset() -> None:
    tastes = WORLDS.find("tastes", "--world").settings
    assert shape_from(["pool_ads=9"], tastes) == shape_from([], {**tastes, "pool_ads": 9})


def test_an_unknown_world_lists_the_known_ones() -> None:
    with pytest.raises(
        UserError, match=r"--world: expected a registered world \(plain, tastes, campaigns, sparse"
    ):
        WORLDS.find("tasty", "--world")


def test_the_readme_lists_every_world_with_its_line() -> None:
    text = (Path(ROOT) / "lib/scrollpast/simulation/README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| [\d.]+ \|", text, re.MULTILINE))
    assert list(rows) == list(WORLDS.names)
    assert all(rows[world.name].startswith(world.about) for world in WORLDS)


def test_a_world_from_outside_the_library_can_be_selected() -> None:
    with WORLDS.registered(LogWorld("flat", "no tastes", {"relevance_spread": 0.0})):
        assert shape_from([], WORLDS.find("flat", "--world").settings).relevance_spread == 0.0
    assert "flat" not in WORLDS
