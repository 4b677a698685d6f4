"""File ``comparison.json``: arms that differ in their negatives, on the same later days."""

from __future__ import annotations

from scrollpast.documents.document import Count, Document, Share


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
    """One arm in one metric; None where no user has the metric, or nothing is compared."""

    metric: str
    arm: str
    ratio: Count
    value: float | None = None
    low: float | None = None
    high: float | None = None
    num_users: Count = 0
    num_seeds: Count | None = None
    seed_deviation: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    joint_low: float | None = None
    """Ends of the interval that holds for all differences at once."""
    joint_high: float | None = None
    verdict: str | None = None

    @property
    def name(self) -> str:
        """Name of the arm with its ratio."""
        return f"{self.arm}, {self.ratio} own" if self.ratio else self.arm


class ComparisonDocument(Document):
    """The comparison of all arms with the baseline."""

    schema_version: int = 1
    baseline: CellDocument
    level: Share
    """Confidence level of the intervals."""
    num_verdicts: Count
    metrics: dict[str, Direction]
    seeds: list[int]
    num_users: Count
    num_new_users: Count
    num_ads: Count
    days: dict[str, list[str]]
    """Training days by the rules that they were mined with."""
    evaluated_on: list[str]
    vocabulary: str
    """Version of the vocabulary."""
    notes: list[str]
    skipped: list[SkippedDocument]
    baselines: list[str] = []
    """Names of the rows that are baselines: rankings without training, the same for every seed."""
    rows: list[Row]
