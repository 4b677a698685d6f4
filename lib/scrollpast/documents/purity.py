"""File ``quality.json`` of ``scripts/bench/bench_quality.py``: negatives of simulated logs against the truth."""

from __future__ import annotations

from pydantic import model_validator

from scrollpast.documents.document import Count, Document


class MinedArm(Document):
    """A way of mining, where the truth is known."""

    num_negatives: Count
    share_of_naive: float
    false_share: float


class Purity(Document):
    """Share of true negatives by the share of negatives kept."""

    num_logs: Count
    num_rows: Count
    arms: dict[str, MinedArm]
    yields: list[float]
    purity: dict[str, list[float | None]]
    """By what is kept first, for every yield; None where there are not so many."""

    @model_validator(mode="after")
    def _one_for_every_yield(self) -> Purity:
        if any(len(values) != len(self.yields) for values in self.purity.values()):
            raise ValueError("expected a value for every yield")
        return self
