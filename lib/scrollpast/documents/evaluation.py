"""File ``metrics.json`` of a checkpoint: its metrics on later days."""

from __future__ import annotations

from scrollpast.documents.document import Count, Document


class MeanEstimate(Document):
    """Mean over users with its 95 % interval over samples of users."""

    mean: float
    low: float
    high: float
    num_users: Count
    """Users that the number is defined for."""


class IndexDocument(Document):
    """The index of ads that the metrics ``quantised/…`` were measured through."""

    kind: str


class Metrics(Document):
    """Metrics of a checkpoint. A document without ``index`` is older, and measured an index of codes."""

    checkpoint: str
    step: Count
    num_users: Count
    evaluated_on: list[str]
    metrics: dict[str, MeanEstimate | None]
    index: IndexDocument | None = None
    notes: list[str] = []
