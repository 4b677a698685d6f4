"""Kinds of engagement that the log holds, compared with those that the configuration names."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping

from scrollpast.config import Kind, Mining
from scrollpast.errors import UserError
from scrollpast.mining.publication import iso
from scrollpast.mining.rules.rules import Rules


def check_engagements(counts: Counter[str], place: str, rules: Rules, mining: Mining) -> list[str]:
    """Notes on engagements that were ignored.

    Args:
        counts: of `scan_engagements`, over all tasks.
        place: the table of engagements.

    Raises:
        UserError: no engagement is of a positive kind, and ``mining.require_engagements`` is set.
    """
    notes = []
    kinds = {name.removeprefix("kind:"): n for name, n in counts.items() if name.startswith("kind:")}
    unknown = {name: n for name, n in kinds.items() if name not in rules.kinds.names}
    if unknown:
        listed = ", ".join(f"{name} ({n:,})" for name, n in sorted(unknown.items()))
        notes.append(f"kinds of engagement that mining.kinds does not name were ignored: {listed}")
    if counts["invalid"]:
        notes.append(f"{counts['invalid']:,} engagements with a null user, ad or time were ignored")
    if counts["positive_kinds"] == 0 and mining.require_engagements:
        seen = ", ".join(f"{n:,} {name}" for name, n in sorted(kinds.items())) or "no engagement of any kind"
        raise UserError(
            f"engagements ({place})",
            expected=f"engagements of a positive kind from {iso(rules.window.start_us)} on, "
            f"known at {iso(rules.window.as_of_us)}",
            found=f"{seen} near the window",
            remedy=f"name the kinds that are positive: {naming_kinds(unknown, mining.kinds)} (role explicit_negative "
            "for a hide or a report)"
            if unknown
            else "wait for the engagement feed: without engagements every clicked ad would become a negative; "
            "--set mining.require_engagements=false mines without engagements",
        )
    return notes


def naming_kinds(names: Iterable[str], known: Mapping[str, Kind]) -> str:
    """Command-line options that configure kinds of engagement as positive, each with a free code."""
    taken = {kind.code for kind in known.values()}
    free = (code for code in range(1, 100) if code not in taken)
    return " ".join(
        "--set " + shlex.quote(f"mining.kinds.{name}={{code: {code}, role: positive, attribution_h: 24}}")
        for name, code in zip(sorted(set(names) - {"null"}), free, strict=False)
    )
