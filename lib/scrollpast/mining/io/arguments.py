"""Command-line arguments that jobs over a log share: days, ``--as-of``, places of the tables."""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime, timedelta

from scrollpast.config import Config
from scrollpast.dates import expected_date, parse_date
from scrollpast.errors import UserError


def parse_days(arguments: argparse.Namespace) -> tuple[date, datetime]:
    """Parse the last day, and the moment (UTC) of ``--as-of`` or now.

    Raises:
        UserError: an argument is not a day or a moment, or the days have not begun at that moment.
    """
    last_day = _parse_day(arguments.date)
    as_of = parse_as_of(arguments)
    if arguments.days > last_day.toordinal():
        raise UserError(
            "--days",
            expected=f"at most {last_day.toordinal():,}, the days that end with {last_day}",
            found=f"{arguments.days:,}",
            remedy="mine fewer days",
        )
    day_start = datetime(last_day.year, last_day.month, last_day.day, tzinfo=UTC) - timedelta(
        days=arguments.days - 1
    )
    if as_of == day_start:
        raise UserError(
            "--as-of" if arguments.as_of else "--date",
            expected="a moment after the first day has begun",
            found=f"{as_of.isoformat(timespec='seconds')}, the moment at which it begins",
            remedy="the days have no data at that moment; for complete days, pass the day after "
            f"the last day: --as-of {last_day + timedelta(days=1)}",
        )
    if as_of < day_start:
        raise UserError(
            "--as-of" if arguments.as_of else "--date",
            expected="days that have begun at the moment of --as-of",
            found=f"--date {last_day}, and {as_of.isoformat(timespec='seconds')}",
            remedy="mine an earlier day",
        )
    return last_day, as_of


def parse_as_of(arguments: argparse.Namespace) -> datetime:
    """Parse the moment (UTC) of ``--as-of``; now where it is not given.

    Raises:
        UserError: the argument is not a moment.
    """
    return _parse_moment(arguments.as_of) if arguments.as_of else datetime.now(UTC)


def with_paths(config: Config, arguments: argparse.Namespace) -> Config:
    """Replace the configuration's paths by those of the command line; a job may read fewer tables."""
    tables = {
        name: getattr(config.input, name).model_copy(update={"path": path, "table": None})
        for name in ("impressions", "engagements", "ads", "users")
        if (path := getattr(arguments, name, None)) is not None
    }
    out = getattr(arguments, "out", None)
    output = config.output.model_copy(update={"path": out}) if out else config.output
    return config.model_copy(update={"input": config.input.model_copy(update=tables), "output": output})


def _parse_day(text: str) -> date:
    try:
        return parse_date(text)
    except ValueError as error:
        raise UserError(
            "--date", expected=str(error), found=repr(text), remedy="write year-month-day"
        ) from None


def _parse_moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        expected = expected_date(text)
        if expected.startswith("a day as"):
            expected = "a moment as 2026-11-23 or 2026-11-23T06:00:00"
        raise UserError(
            "--as-of",
            expected=expected,
            found=repr(text),
            remedy="write the moment in ISO 8601; a moment without a zone is UTC",
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
