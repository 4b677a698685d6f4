"""Record of the days that this process has published, for the message of a job that ends before its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_NAMED_AT_MOST = 3
_published: list[str] = []
_tried: list[str] = []


def begin() -> None:
    """Forget what an earlier job of this process published."""
    _published.clear()
    _tried.clear()


@contextmanager
def publishing(place: str) -> Iterator[None]:
    """Record the publication of a place: as done when the block ends, as uncertain when it is interrupted.

    An `Exception` that the block raises says itself that nothing was published.
    """
    _tried.append(place)
    try:
        yield
    except Exception:
        _tried.remove(place)
        raise
    _tried.remove(place)
    if place not in _published:
        _published.append(place)


def summary() -> str:
    """One clause that says what was published, for the end of an error message."""
    if not _published and not _tried:
        return "nothing was published"
    clauses = []
    if _published:
        more = len(_published) - _NAMED_AT_MOST
        names = ", ".join(_published[:_NAMED_AT_MOST]) + (f" and {more:,} more" if more > 0 else "")
        clauses.append(f"published before that: {names}")
    clauses += [f"{place} may be published or as it was before" for place in _tried]
    return "; ".join(clauses)
