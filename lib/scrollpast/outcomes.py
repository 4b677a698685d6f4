"""The one reason code that every impression ends with."""

from __future__ import annotations

from enum import IntEnum


class Outcome(IntEnum):
    """Outcomes in the order in which they are decided: the first that applies is the impression's."""

    INVALID = 0
    UNANCHORED = 1
    DUPLICATE = 2
    BOT = 3
    POSITIVE = 4
    EXPLICIT_NEGATIVE = 5
    IMMATURE = 6
    ENGAGED_ELSEWHERE = 7
    NOT_EXAMINED = 8
    LINGERED = 9
    TOO_NEW = 10
    REPEAT = 11
    OVER_CAP = 12
    NEGATIVE = 13

    @property
    def label(self) -> str:
        """The outcome as ledgers and people write it, such as ``engaged_elsewhere``."""
        return self.name.lower()

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Outcome.INVALID: "null key or time, negative dwell or position; quarantined",
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
