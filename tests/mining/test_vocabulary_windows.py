"""The number of days that a vocabulary's message names: those of the windows, not those of the manifests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.mining.vocabulary import days_of_windows
from scrollpast.shards.manifest import Manifest
from tests.shards.conftest import manifest_of

_START = datetime(2026, 11, 1, tzinfo=UTC)


def _day(first: float, last: float) -> Manifest:
    start, end = (_START + timedelta(days=days) for days in (first, last))
    return manifest_of("2026-11-21", [], window_start=start.isoformat(), window_end=end.isoformat())


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        ([(0, 8)], "8 days"),
        ([(0, 1)], "1 day"),
        ([(0, 0.5)], "0.5 days"),
        ([(0, 1), (1, 2)], "2 days"),
        ([(0, 8), (4, 6)], "8 days"),
        ([(4, 9), (0, 8)], "9 days"),
        ([(0, 1), (5, 6)], "2 days"),
    ],
)
def test_the_days_are_those_that_the_windows_cover(windows: list[tuple[float, float]], words: str) -> None:
    assert days_of_windows([_day(*window) for window in windows]) == words


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 10)), min_size=1, max_size=8))
def test_a_day_in_several_windows_counts_once(windows: list[tuple[int, int]]) -> None:
    covered = {day for first, length in windows for day in range(first, first + length)}
    words = days_of_windows([_day(first, first + length) for first, length in windows])
    assert words == ("1 day" if len(covered) == 1 else f"{len(covered)} days")
