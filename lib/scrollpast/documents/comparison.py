"""File ``comparison.json``: arms that differ in their negatives, on the same later days."""

from __future__ import annotations

from scrollpast.documents.document import Count, Document


class CellDocument(Document):
    """The line of the baseline."""

    arm: str
    ratio: Count


class SkippedDocument(Document):
    """An arm that was asked for and is not in the table."""

    arm: str
    reason: str


class Direction(Document):
    """Direction of a metric: higher or lower is better."""

    better: str


class Row(Document):
    """One arm in one metric."""

    metric: str
    arm: str
    ratio: Count
    value: float | None
    low: float | None
    high: float | None
    num_users: Count
    difference: float | None
    joint_low: float | None
    joint_high: float | None
    verdict: str | None

    @property
    def name(self) -> str:
        """Name of the arm with its ratio."""
        return f"{self.arm}, {self.ratio} own" if self.ratio else self.arm


class ComparisonDocument(Document):
    """The comparison of all arms with the baseline."""

    baseline: CellDocument
    num_verdicts: Count
    seeds: list[int]
    num_users: Count
    num_new_users: Count
    num_ads: Count
    evaluated_on: list[str]
    metrics: dict[str, Direction]
    skipped: list[SkippedDocument]
    notes: list[str]
    rows: list[Row]
