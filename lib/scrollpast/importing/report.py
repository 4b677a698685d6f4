"""What an import says at its end: what it mapped, what the log does not have, and what to run next."""

from __future__ import annotations

import dataclasses
import shlex

from scrollpast.errors import UserError
from scrollpast.importing.contract import POSITIVE_KINDS, TABLES
from scrollpast.importing.writing import LogWriter


@dataclasses.dataclass(frozen=True)
class LogDescription:
    """How one public log maps to the contract."""

    title: str
    """Name and source of the log."""
    mapped: dict[str, str]
    """Column of the contract -> where it comes from."""
    missing: dict[str, str]
    """Column of the contract that stays null -> why."""
    notes: tuple[str, ...] = ()
    """What a reader of the results must know."""


def report_of(description: LogDescription, writer: LogWriter) -> str:
    """The text that the job prints.

    Raises:
        UserError: the log had no row with a time.
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
    lines += [f"note: {note}" for note in description.notes]
    if not any(writer.num_kinds[kind] for kind in POSITIVE_KINDS):
        lines.append("note: there is no engagement of a positive kind: nothing to contrast a negative with")
    lines += [
        f"impressions: {writer.num_rows['impressions']:,}",
        f"engagements: {kinds}",
        f"ads: {writer.num_rows['ads']:,}",
        f"days: {first} to {last} (UTC), {num_days}",
        "next:",
        "  " + mine_command(writer, last.isoformat(), num_days),
    ]
    return "\n".join(lines)


def mine_command(writer: LogWriter, date: str, num_days: int) -> str:
    """The command line that mines the whole imported log."""
    days = ["--date", date, "--days", str(num_days)]
    tables = [text for name in TABLES for text in (f"--{name}", str(writer.out / name))]
    words = ["jobs/mine_negatives.py", "--config", "conf/local.yaml", *days, *tables]
    return shlex.join([*words, "--out", str(writer.out / "mined")])
