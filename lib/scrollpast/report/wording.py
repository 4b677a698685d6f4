"""Text of numbers and names for readers."""

from __future__ import annotations

from collections.abc import Iterable

NONE = "–"
"""Text in place of a missing number."""


def count(value: float | None) -> str:
    """A whole number with separators: ``1,337,811``."""
    return NONE if value is None else f"{value:,.0f}"


def share(value: float | None) -> str:
    """A share as per cent with two digits: ``42.76%``."""
    return NONE if value is None else f"{value:.2%}"


def ratio(part: float, whole: float) -> float | None:
    """Quotient; None where the denominator is 0."""
    return part / whole if whole else None


def decimal(value: float | None, digits: int = 4) -> str:
    """A number with a fixed count of digits."""
    return NONE if value is None else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    """A difference, with its sign."""
    return NONE if value is None else f"{value:+.4f}".replace("-", "\N{MINUS SIGN}")


def interval(low: float | None, high: float | None) -> str:
    """An interval of numbers: ``0.1234 to 0.2345``."""
    return NONE if low is None or high is None else f"{low:.4f} to {high:.4f}"


def signed_interval(low: float | None, high: float | None) -> str:
    """An interval of differences."""
    return NONE if low is None or high is None else f"{signed(low)} to {signed(high)}"


def moment(text: str) -> str:
    """An ISO time of UTC to the minute: ``2026-11-21 00:00``."""
    return text[:16].replace("T", " ")


def words(name: str) -> str:
    """A name with underscores, as words."""
    return name.replace("_", " ")


def listed(names: Iterable[str]) -> str:
    """Names in a sentence: ``a, b and c``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def plural(number: int, noun: str) -> str:
    """A number and its noun: ``1 day``, ``2 days``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def brief(value: float, _place: object = None) -> str:
    """A count on an axis: ``250k``, ``1.5M``. The second argument, a tick's place, is ignored."""
    for scale, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{unit}"
    return f"{value:.3g}"


def brief_ms(value: float, _place: object = None) -> str:
    """A duration on an axis: ``250 ms``, ``4 s``."""
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s"


def per_cent(value: float, _place: object = None) -> str:
    """A share on an axis: ``40%``."""
    return f"{100 * value:.3g}%"
