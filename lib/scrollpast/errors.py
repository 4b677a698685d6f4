"""Errors with place, expectation, finding and remedy."""

from __future__ import annotations


class ScrollpastError(Exception):
    """A failure that the product names itself; the process ends with ``exit_code``.

    Args:
        place: the table and column, file and byte, or option that the message is about.
        expected: what had to be there.
        found: what was there instead.
        remedy: what the reader can do now.
    """

    exit_code = 1

    def __init__(self, place: str, *, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"{place}: expected {expected}, found {found}; {remedy}")
        self.place = place
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def __reduce__(self):  # type: ignore[no-untyped-def]
        # Errors cross process borders (Spark's Python workers): keyword-only arguments need saying how.
        return _rebuild, (type(self), self.place, self.expected, self.found, self.remedy)


class UserError(ScrollpastError):
    """A mistake in the input, the configuration or the command line: nothing was published."""

    exit_code = 2


class HeldError(ScrollpastError):
    """A day that the gate did not let pass: it was kept aside, and nothing was published."""

    exit_code = 3


class CorruptShardError(ScrollpastError):
    """A shard or manifest whose bytes are not what was written."""


def _rebuild(
    kind: type[ScrollpastError], place: str, expected: str, found: str, remedy: str
) -> ScrollpastError:
    return kind(place, expected=expected, found=found, remedy=remedy)
