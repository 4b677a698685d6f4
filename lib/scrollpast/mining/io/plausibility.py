"""Notes on logs that the options probably misread: slots from 1, dwell in seconds, no dwell, only new ads."""

from __future__ import annotations

from scrollpast.mining.exposure import Exposure
from scrollpast.mining.gate.day_metrics import BucketSigns
from scrollpast.mining.rules.ledger import Ledger

LEAST_CASES = 100
"""Smallest number of rows for a note."""


def doubts(ledger: Ledger, signs: BucketSigns, exposure: Exposure) -> list[str]:
    """One note for every probable mistake, with the option that corrects it.

    The signs count impressions whose user may have an anchor; positions are those of all impressions.
    """
    notes = []
    known = [position for (_, _, position), count in ledger.cells.items() if position is not None and count]
    num_known = sum(count for (_, _, position), count in ledger.cells.items() if position is not None)
    if num_known >= LEAST_CASES and min(known) >= 1:
        notes.append(
            f"no impression has position 0, the smallest is {min(known)}: if the log counts slots from 1, set "
            "input.impressions.first_position=1"
        )
    if signs.num_judged >= LEAST_CASES and not signs.num_dwell:
        notes.append(
            "no impression has a dwell: every impression counts as seen with the weight mining.confidence.unknown; "
            "set mining.examined.unknown=drop to mine no negatives from impressions without a dwell"
        )
    if signs.num_dwell_over_0 >= LEAST_CASES and signs.num_dwell_under_60 > 0.9 * signs.num_dwell_over_0:
        notes.append(
            f"{signs.num_dwell_under_60 / signs.num_dwell_over_0:.0%} of the dwells above 0 are under 60 ms: if they "
            "are seconds, set input.impressions.dwell_unit=s"
        )
    if exposure.num_of_known_ads >= LEAST_CASES and exposure.num_of_new_ads == exposure.num_of_known_ads:
        notes.append(
            "every ad whose age is known is new: check created_at of the table of ads, or set "
            "mining.exposure.new_ad_h lower"
        )
    return notes
