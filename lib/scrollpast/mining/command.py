"""The command line of the mining job: arguments in, a table of the ledger out."""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime, timedelta

from scrollpast.config import Config, load_config
from scrollpast.errors import UserError
from scrollpast.mining.held import day_uri, release
from scrollpast.mining.outcomes import Outcome
from scrollpast.mining.pipeline import DayHeld, MinedDay
from scrollpast.mining.pipeline import mine as mine_day
from scrollpast.mining.session import session_when_needed


def mine(arguments: argparse.Namespace) -> int:
    """Run the job as its command line says and print the ledger; returns the exit code."""
    last_day = _parse_day(arguments.date)
    as_of = _parse_moment(arguments.as_of) if arguments.as_of else datetime.now(UTC)
    if arguments.days < 1:
        raise UserError(
            "--days", expected="at least 1", found=str(arguments.days), remedy="leave it out for 1"
        )
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
    if as_of < day_start:
        raise UserError(
            "--as-of" if arguments.as_of else "--date",
            expected="days that have begun at the moment of --as-of",
            found=f"--date {last_day}, and {as_of.isoformat(timespec='seconds')}",
            remedy="mine an earlier day",
        )
    config = _with_paths(load_config(arguments.config, arguments.set), arguments)
    if arguments.release:
        released = release(config, last_day, overwrite=arguments.overwrite)
        print(summary(MinedDay(day_uri(config, last_day), released, is_new=True)))
        return 0
    application = f"scrollpast mine {last_day}"
    try:
        with session_when_needed(config.spark, application, debug=arguments.debug) as get_spark:
            mined = mine_day(
                config,
                last_day,
                arguments.days,
                as_of,
                get_spark,
                overwrite=arguments.overwrite,
                as_of_given=arguments.as_of is not None,
            )
    except DayHeld as held:
        print(summary(held.mined, "held"))
        raise
    print(summary(mined))
    return 0


def _with_paths(config: Config, arguments: argparse.Namespace) -> Config:
    """The paths of the command line over those of the configuration."""
    tables = {
        name: getattr(config.input, name).model_copy(update={"path": path, "table": None})
        for name in ("impressions", "engagements", "ads")
        if (path := getattr(arguments, name)) is not None
    }
    output = config.output.model_copy(update={"path": arguments.out}) if arguments.out else config.output
    return config.model_copy(update={"input": config.input.model_copy(update=tables), "output": output})


def _parse_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UserError(
            "--date", expected="a day as 2026-11-21", found=repr(text), remedy="write year-month-day"
        ) from None


def _parse_moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            "--as-of",
            expected="a moment as 2026-11-23 or 2026-11-23T06:00:00",
            found=repr(text),
            remedy="write it in ISO 8601; without a zone it is UTC",
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def summary(mined: MinedDay, done: str = "published") -> str:
    """What a person wants to know at the end: the ledger with shares, what was written, and where it is."""
    manifest = mined.manifest
    total = sum(manifest.ledger.values())
    lines = [f"{'outcome':<18}{'impressions':>15}  {'share':>7}  meaning"]
    for outcome in Outcome:
        count = manifest.ledger.get(outcome.label, 0)
        lines.append(f"{outcome.label:<18}{count:>15,}  {count / max(total, 1):>7.2%}  {outcome.meaning}")
    lines.append(f"{'total':<18}{total:>15,}  {1:>7.2%}  every impression of the window, once")
    num_bytes = sum(entry.num_bytes for entry in manifest.shards)
    per_positive = manifest.num_negatives / max(manifest.num_positives, 1)
    lines += [
        "",
        (
            f"{manifest.num_records:,} records (users) with {manifest.num_positives:,} positives and "
            f"{manifest.num_negatives:,} negatives ({per_positive:.1f} a positive) "
            f"in {len(manifest.shards):,} shards, {num_bytes / 2**20:,.1f} MiB"
        ),
    ]
    lines += [f"note: {warning}" for warning in mined.warnings]
    verb = done if mined.is_new else "already published from the same input; nothing was done:"
    lines.append(f"{verb} {mined.uri}/manifest.json")
    return "\n".join(lines)
