"""Published negatives that turned out to be none."""

from __future__ import annotations

import pyarrow.compute as pc

from scrollpast.errors import CorruptShardError, UserError
from scrollpast.report import wording
from scrollpast.report.inputs import Inputs
from scrollpast.report.sections import Block, Missing, Paragraph, Section, Table
from scrollpast.shards.revocations import ENGAGED_AT_MS, REASON, SERVED_AT_MS, read_revocations

TITLE = "Revoked since"
_DAY_MS = 86_400_000


def revocations(inputs: Inputs) -> Section:
    """How many negatives were revoked, by the kind of engagement that contradicts them.

    Raises:
        UserError: the day's revocations are missing or are not what was written.
    """
    day = inputs.day
    manifest = day.manifest
    if manifest.revocation_file is None:
        reason = "No negative of the day was revoked."
        return Section(
            "revocations",
            TITLE,
            [Missing(reason, day.revocation, "To look for some")],
        )
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
            "turned out to be none: the user engaged with the ad. They stay in the shards and in the counts above, and "
            "every reader leaves them out."
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
                f"{middle:.1f}",
            )
        )
    columns = ("engagement", "negatives", "of all negatives", "days after it was served, median")
    return Section(
        "revocations",
        TITLE,
        [*blocks, Table("Revoked negatives by the engagement that contradicts them", columns, rows)],
    )
