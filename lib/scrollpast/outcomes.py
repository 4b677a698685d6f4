"""The one reason code that every impression ends with."""

from __future__ import annotations

from enum import IntEnum


class Outcome(IntEnum):
    """Outcomes in the order in which they are decided: the first that applies is the impression's."""

    INVALID = 0
    SUPPRESSED = 1
    UNANCHORED = 2
    DUPLICATE = 3
    BOT = 4
    POSITIVE = 5
    EXPLICIT_NEGATIVE = 6
    IMMATURE = 7
    ENGAGED_ELSEWHERE = 8
    NOT_EXAMINED = 9
    LINGERED = 10
    TOO_NEW = 11
    REPEAT = 12
    OVER_CAP = 13
    NEGATIVE = 14

    @property
    def label(self) -> str:
        """The outcome as ledgers and people write it, such as ``engaged_elsewhere``."""
        return self.name.lower()

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Outcome.INVALID: "null key or time, negative dwell or position; quarantined",
    Outcome.SUPPRESSED: "the user is on the suppression list: forgotten",
    Outcome.UNANCHORED: "the user has no positive to contrast with",
    Outcome.DUPLICATE: "same user, request, ad and position seen before",
    Outcome.BOT: "the user is above the impression cap of a day",
    Outcome.POSITIVE: "engaged with",
    Outcome.EXPLICIT_NEGATIVE: "hidden or reported; kept as a strong negative",
    Outcome.IMMATURE: "its engagements may still come",
    Outcome.ENGAGED_ELSEWHERE: "the user engaged with the ad at another time: a false negative",
    Outcome.NOT_EXAMINED: "not looked at",
    Outcome.LINGERED: "looked at for long without a click: interest",
    Outcome.TOO_NEW: "the ad is new and in quarantine: not taken as a negative yet",
    Outcome.REPEAT: "another exposure of the same user and ad was kept",
    Outcome.OVER_CAP: "the cap of the user or of the ad took another",
    Outcome.NEGATIVE: "served, seen, scrolled past: a hard negative",
}
