"""Days as text: what a wrong one breaks is said, not the format that it has."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.dates import expected_date, parse_date


@given(day=st.dates())
def test_every_day_is_read_as_it_is_written(day: date) -> None:
    assert parse_date(day.isoformat()) == day
    assert parse_date(day.strftime("%Y%m%d").rjust(8, "0")) == day


@given(
    year=st.integers(1, 9999),
    month=st.integers(1, 12),
    day=st.integers(0, 99),
    separator=st.sampled_from(["-", ""]),
)
def test_a_day_that_the_month_has_not_is_told_how_many_it_has(
    year: int, month: int, day: int, separator: str
) -> None:
    text = separator.join((f"{year:04}", f"{month:02}", f"{day:02}"))
    num_days = (
        date(year + month // 12, month % 12 + 1, 1) if (year, month) != (9999, 12) else date.max
    ).toordinal()
    num_days = 31 if (year, month) == (9999, 12) else num_days - date(year, month, 1).toordinal()
    if 1 <= day <= num_days:
        assert parse_date(text) == date(year, month, day)
    else:
        with pytest.raises(ValueError, match=f" {year}, which has {num_days} days$"):
            parse_date(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-31", "a day of November 2026, which has 30 days"),
        ("2026-02-29T06:00:00", "a day of February 2026, which has 28 days"),
        ("2026-13-01", "a day as 2026-11-21, in a month from 01 to 12"),
        ("0000-01-01", "a day as 2026-11-21, in a year from 0001 to 9999"),
        ("31.11.2026", "a day as 2026-11-21"),
        ("soon", "a day as 2026-11-21"),
        ("", "a day as 2026-11-21"),
    ],
)
def test_the_expectation_names_what_is_wrong(text: str, expected: str) -> None:
    assert expected_date(text) == expected
