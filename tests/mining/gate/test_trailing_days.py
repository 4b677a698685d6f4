"""Trailing days: the published days that a day is compared with."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from scrollpast.config import Config, load_config
from scrollpast.documents.health import Health
from scrollpast.mining.gate.trailing_days import Trailing, read_trailing
from tests.mining.published import DAY, health_of, publish_days, window_of

DEFAULTS = Config()


def days_before(*back: int) -> list[str]:
    return [(DAY - timedelta(days=days)).isoformat() for days in back]


def read(out: Path, config: Config = DEFAULTS, health: Health | None = None, num_days: int = 1) -> Trailing:
    return read_trailing(str(out), DAY, window_of(DAY, num_days), health or health_of(), config)


def test_the_days_before_are_read_in_order_as_far_back_as_configured(tmp_path: Path) -> None:
    publish_days(tmp_path, DEFAULTS, 29, 28, 3, 1, 0, -1)
    assert list(read(tmp_path).days) == days_before(28, 3, 1)
    nearer = load_config(None, ["gate.trailing_days=3"])
    assert list(read(tmp_path, nearer).days) == days_before(3, 1)
    assert read(tmp_path).days[days_before(3)[0]] == health_of()


def test_no_day_is_published_yet(tmp_path: Path) -> None:
    trailing = read(tmp_path / "new")
    assert (trailing.days, trailing.sketches, trailing.left_out) == ({}, (), {})
    assert trailing.note(DEFAULTS) == (
        "the gate checked fixed limits only: 0 of the last 28 days are published and comparable, 7 are needed"
    )


def test_a_held_day_is_no_trailing_day(tmp_path: Path) -> None:
    publish_days(tmp_path / "held", DEFAULTS, 1)
    assert read(tmp_path).days == {}


@pytest.mark.parametrize("option", ["mining.guard.after_h=24", "mining.max_impressions_per_user_day=9"])
def test_days_of_other_options_are_not_comparable(tmp_path: Path, option: str) -> None:
    publish_days(tmp_path, load_config(None, [option]), 1, 2)
    trailing = read(tmp_path)
    assert trailing.days == {}
    assert trailing.left_out == {"mined with other options": 2}
    assert str(trailing.note(DEFAULTS)).endswith("7 are needed; 2 mined with other options")


@pytest.mark.parametrize("option", ["mining.seed=9", "mining.num_buckets=3", "spark.rows_per_task=9"])
def test_options_that_change_no_figure_are_none(tmp_path: Path, option: str) -> None:
    publish_days(tmp_path, load_config(None, [option]), 1)
    assert list(read(tmp_path).days) == days_before(1)


def test_days_that_were_known_sooner_or_later_after_their_end_are_not_comparable(tmp_path: Path) -> None:
    publish_days(tmp_path, DEFAULTS, 1, health=health_of(lag_h=2.0))
    publish_days(tmp_path, DEFAULTS, 2, health=health_of(lag_h=8.0))
    publish_days(tmp_path, DEFAULTS, 3, health=health_of(lag_h=8.1))
    trailing = read(tmp_path, health=health_of(lag_h=2.0))
    assert list(trailing.days) == days_before(2, 1)
    assert trailing.left_out == {"mined sooner or later after their end": 1}


def test_a_window_of_several_days_is_held_against_windows_of_as_many(tmp_path: Path) -> None:
    publish_days(tmp_path, DEFAULTS, 7, 14, 28 * 7, 28 * 7 + 1, num_days=7)
    publish_days(tmp_path, DEFAULTS, 1)
    trailing = read(tmp_path, num_days=7)
    assert list(trailing.days) == days_before(28 * 7, 14, 7)
    assert trailing.left_out == {"with windows of another length": 1}


def test_impressions_are_looked_for_in_windows_that_do_not_overlap(tmp_path: Path) -> None:
    publish_days(tmp_path, DEFAULTS, 6, health=health_of(sketch=(1, 2)), num_days=7)
    publish_days(tmp_path, DEFAULTS, 7, health=health_of(sketch=(3, 4)), num_days=7)
    # Whatever it was mined with: what came again came again.
    publish_days(tmp_path, load_config(None, ["mining.guard.after_h=1"]), 9, health=health_of(sketch=(5, 6)))
    assert read(tmp_path, num_days=7).sketches == ((5, 6), (3, 4))


def test_days_that_say_nothing_are_left_out_and_told(tmp_path: Path) -> None:
    publish_days(tmp_path, DEFAULTS, 1, 2, 3, 4)
    for back, content in ((1, "{"), (2, None), (3, '"health": {"figures": 3},')):
        path = tmp_path / f"ds={days_before(back)[0]}" / "manifest.json"
        text = path.read_text()
        start = text.index('  "health"')
        rest = text[text.index('  "exposure_file"') :]
        path.write_text("{" if content == "{" else text[:start] + (content or "") + rest)
    trailing = read(tmp_path)
    assert list(trailing.days) == days_before(4)
    assert trailing.left_out == {"whose manifest cannot be read or holds no metrics": 3}


def test_enough_days_need_no_note(tmp_path: Path) -> None:
    publish_days(tmp_path, DEFAULTS, *range(1, 8))
    assert read(tmp_path).note(DEFAULTS) is None
