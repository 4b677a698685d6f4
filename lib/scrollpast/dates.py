"""Days as text: the parser of every option, manifest and setting that holds a date."""

from __future__ import annotations

import calendar
import re
from datetime import date

EXAMPLE = "2026-11-21"


def parse_date(text: str) -> date:
    """The day that a text in ISO 8601 names.

    Raises:
        ValueError: the text is no day; the message is the expectation, such as "a day of November 2026, which has 30
            days".
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(expected_date(text)) from None


def expected_date(text: str) -> str:
    """The expectation that a text fails: a day that the month has, a month of the year, or the format.

    Args:
        text: begins with what was meant as a day; a time may follow.
    """
    parts = re.match(r"(\d{4})-?(\d{2})-?(\d{2})(?!\d)", text, re.ASCII)
    if parts is None:
        return f"a day as {EXAMPLE}"
    year, month, day = map(int, parts.groups())
    if year == 0:
        return f"a day as {EXAMPLE}, in a year from 0001 to 9999"
    if not 1 <= month <= 12:
        return f"a day as {EXAMPLE}, in a month from 01 to 12"
    num_days = calendar.monthrange(year, month)[1]
    if not 1 <= day <= num_days:
        return f"a day of {calendar.month_name[month]} {year}, which has {num_days} days"
    return f"a day as {EXAMPLE}"
