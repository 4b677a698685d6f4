"""Part ``health`` of a day's manifest: day metrics, and the verdict of the gate on them."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, PlainSerializer

from scrollpast.documents.document import Count, Document

COUNTS = frozenset({"impressions", "recorded"})
"""Metrics that are numbers, not shares."""


def shown(name: str, value: float) -> str:
    """A metric's value as text."""
    return f"{value:,.0f}" if name in COUNTS else f"{value:.3%}"


def _hashes(value: Any) -> Any:
    return np.frombuffer(bytes.fromhex(value), ">i8").tolist() if isinstance(value, str) else value


def _hexadecimal(hashes: tuple[int, ...]) -> str:
    return np.array(hashes, ">i8").tobytes().hex()


Sketch = Annotated[tuple[int, ...], BeforeValidator(_hashes), PlainSerializer(_hexadecimal, when_used="json")]
"""64-bit hashes, in JSON as the hexadecimal digits of big-endian integers."""


class DayMetric(Document):
    """One number of a day: a share of ``cases``, or a count where ``cases`` is None."""

    value: float
    cases: Count | None


class Band(Document):
    """Expected range of a metric: ``median`` of the trailing days, and the ends around it."""

    median: float
    low: float
    high: float


class Breach(Document):
    """A metric outside its expected range. ``median`` is None where a configured bound was left, not a band."""

    figure: str
    value: float
    low: float | None
    high: float | None
    median: float | None = None

    def __str__(self) -> str:
        return f"{self.figure} {shown(self.figure, self.value)} ({self.expected})"

    @property
    def expected(self) -> str:
        """Expected range in words."""
        low, high = (None if end is None else shown(self.figure, end) for end in (self.low, self.high))
        if low is None or high is None:
            return f"at least {low}" if high is None else f"at most {high}"
        return f"{low} to {high}"


class GateVerdict(Document):
    """Verdict of the gate. Without breaches the day may be published."""

    trailing_days: tuple[str, ...] = ()
    """Trailing days whose metrics made the bands; none if they were too few."""
    breaches: tuple[Breach, ...] = ()
    bands: dict[str, Band] = {}
    """Bands by metric, those that metrics were compared with."""


class Health(Document):
    """Metrics of a day, by name; a metric without cases or input is left out."""

    figures: dict[str, DayMetric]
    lag_h: float
    """Hours from the end of the window to ``--as-of``, at most the longest reach of an engagement."""
    sketch: Sketch
    """Smallest hashes of the day's impressions, ascending."""
    gate: GateVerdict | None = None
    """None where the gate was switched off."""
