"""Outcome of every candidate, i.e. of every ad in a user's range of ranks."""

from __future__ import annotations

from enum import IntEnum


class CandidateOutcome(IntEnum):
    """Outcomes in the order in which they are decided: a candidate gets the first that applies."""

    ENGAGED = 0
    ABOVE_MARGIN = 1
    NOT_DRAWN = 2
    KEPT = 3

    @property
    def label(self) -> str:
        """The outcome as ledgers and people write it, such as ``above_margin``."""
        return self.name.lower()

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    CandidateOutcome.ENGAGED: "the user engaged with the ad, hid it or reported it",
    CandidateOutcome.ABOVE_MARGIN: "the score is as high as a positive's: probably a false negative",
    CandidateOutcome.NOT_DRAWN: "other candidates were drawn for the user",
    CandidateOutcome.KEPT: "a neighbour in the record",
}
