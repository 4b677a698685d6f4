"""Revoked negatives of the day, which later engagements contradict."""

from __future__ import annotations

import pyarrow.compute as pc

from scrollpast.errors import CorruptShardError, UserError
from scrollpast.report import wording
from scrollpast.report.inputs import Inputs
from scrollpast.report.k_anonymity import are_few
from scrollpast.report.sections import Block, Missing, Paragraph, ReportSection, ReportTable
from scrollpast.shards.manifest import Manifest
from scrollpast.shards.revocations import ENGAGED_AT_MS, REASON, SERVED_AT_MS, read_revocations

TITLE = "Revoked since"
_DAY_MS = 86_400_000


def revocations(inputs: Inputs) -> ReportSection:
    """Revoked negatives by the kind of engagement that contradicts them.

    Raises:
        UserError: the day's revocations are missing or corrupt.
    """
    day = inputs.day
    manifest = day.manifest
    if not manifest.num_revoked:
        if manifest.revocations_as_of is None:
            reason = "Never searched: no search for revocations of the day is recorded."
        else:
            reason = (
                f"None as of {wording.moment(manifest.revocations_as_of)} UTC: no engagement known by then contradicts "
                f"any of the day's {wording.plural(manifest.num_negatives, 'negative')}."
            )
        return ReportSection("revocations", TITLE, [Missing(reason, day.revocation, "To look for some")])
    try:
        table = read_revocations(day.uri, manifest.revocation_file)
    except CorruptShardError as error:
        raise UserError(
            error.place, expected=error.expected, found=error.found, remedy=error.remedy
        ) from error
    of_all = wording.share(wording.ratio(manifest.num_revoked, manifest.num_negatives))
    blocks: list[Block] = [
        Paragraph(
            f"{wording.plural(manifest.num_revoked, 'negative')} of {wording.count(manifest.num_negatives)} ({of_all}) "
            "were revoked: the user engaged with the ad. They stay in the shards and in the counts above, and "
            f"every reader leaves them out.{_as_of(manifest.revocations_as_of)}"
        )
    ]
    days = pc.divide(
        pc.cast(pc.subtract(table[ENGAGED_AT_MS], table[SERVED_AT_MS]), "double"), float(_DAY_MS)
    )
    rows = []
    for reason in sorted(set(table[REASON].to_pylist())):
        of_reason = pc.equal(table[REASON], reason)
        number = pc.sum(of_reason).as_py()
        middle = pc.quantile(days.filter(of_reason), 0.5)[0].as_py()
        rows.append(
            (
                wording.words(reason),
                wording.count(number),
                wording.share(wording.ratio(number, manifest.num_negatives)),
                wording.decimal(None if are_few([number], inputs.floor) else middle, 1),
            )
        )
    columns = ("engagement", "negatives", "of all negatives", "days after it was served, median")
    return ReportSection(
        "revocations",
        TITLE,
        [*blocks, ReportTable("Revoked negatives by the engagement that contradicts them", columns, rows)],
    )


def revoked_words(manifest: Manifest) -> tuple[str, str]:
    """Number of revoked negatives with a note, for a tile; a day that was never searched has no number."""
    as_of = manifest.revocations_as_of
    if not manifest.num_revoked and as_of is None:
        return wording.NONE, "never searched"
    if not manifest.num_revoked:
        return "0", f"as of {wording.moment(str(as_of))} UTC"
    of_all = wording.share(wording.ratio(manifest.num_revoked, manifest.num_negatives))
    return wording.count(manifest.num_revoked), f"{of_all} of the negatives"


def share_revoked(manifest: Manifest) -> float | None:
    """Revoked share of the negatives; None where no search is recorded."""
    if not manifest.num_revoked and manifest.revocations_as_of is None:
        return None
    return wording.ratio(manifest.num_revoked, manifest.num_negatives)


def _as_of(moment: str | None) -> str:
    return "" if moment is None else f" The last search was as of {wording.moment(moment)} UTC."
