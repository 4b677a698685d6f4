"""Closing report of an import: mapped columns, missing columns, unread files, the next command."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from scrollpast.errors import UserError
from scrollpast.importing.contract import POSITIVE_KINDS, TABLES, USERS
from scrollpast.importing.source import LogSource
from scrollpast.importing.writing import LogWriter
from scrollpast.job_commands import job_command, repository_path

_TEXTS = dict.fromkeys(("LICENSE*", "README*", "*.md", "*.txt"), "text about the log")


@dataclasses.dataclass(frozen=True)
class LogDescription:
    """Mapping of one public log to the contract."""

    title: str
    """Name and source of the log."""
    mapped: dict[str, str]
    """Source of each filled column of the contract."""
    missing: dict[str, str]
    """Reason for each column of the contract that stays null."""
    unused_files: dict[str, str] = dataclasses.field(default_factory=dict)
    """Reason for each unread file, by pattern of its name."""
    unused_columns: dict[str, str] = dataclasses.field(default_factory=dict)
    """Reason for each unread column of files that are read, by pattern of its name."""
    notes: tuple[str, ...] = ()
    """Notes for readers of the results."""
    options: tuple[str, ...] = ()
    """Options of the next command that read the table of users."""


def report_of(description: LogDescription, writer: LogWriter, source: LogSource) -> str:
    """Text of the report that the job prints.

    Raises:
        UserError: the log has no row with a time.
    """
    if writer.first is None or writer.last is None:
        raise UserError(
            description.title,
            expected="impressions with a time",
            found="none",
            remedy="check the files in SRC",
        )
    first, last = writer.first.date(), writer.last.date()
    num_days = (last - first).days + 1
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(writer.num_kinds.items())) or "none"
    lines = [description.title, "mapped:"]
    lines += [f"  {column:<20}{origin}" for column, origin in description.mapped.items()]
    lines += ["not in the log, left null:"]
    lines += [f"  {column:<20}{reason}" for column, reason in description.missing.items()]
    unused = source.unused({**_TEXTS, **description.unused_files}, description.unused_columns, writer.out)
    lines += ["in the log, not used:"] if unused else ["all files and columns of the log are used"]
    lines += [f"  {what}\n    {reason}" for what, reason in unused]
    lines += [f"note: {note}" for note in description.notes]
    if not any(writer.num_kinds[kind] for kind in POSITIVE_KINDS):
        lines.append(
            "note: the log has no engagement of a positive kind: a negative has no positive to contrast with"
        )
    lines += [
        f"impressions: {writer.num_rows['impressions']:,}",
        f"engagements: {kinds}",
        f"ads: {writer.num_rows['ads']:,}",
        *([f"users: {writer.num_rows[USERS]:,}"] if writer.num_rows[USERS] else []),
        f"days: {first} to {last} (UTC), {num_days}",
        "next:",
        "  " + mine_command(writer, last.isoformat(), num_days, description.options),
    ]
    return "\n".join(lines)


def mine_command(writer: LogWriter, date: str, num_days: int, options: Sequence[str] = ()) -> str:
    """Command line that mines the whole imported log, with options that read its users."""
    days = ["--date", date, "--days", str(num_days)]
    has_users = bool(writer.num_rows[USERS])
    names = (*TABLES, USERS) if has_users else TABLES
    tables = [text for name in names for text in (f"--{name}", str(writer.out / name))]
    settings = [text for option in options if has_users for text in ("--set", option)]
    config = ("--config", repository_path("conf/local.yaml"))
    return job_command("mine_negatives", *config, *days, *tables, *settings, "--out", writer.out / "mined")
