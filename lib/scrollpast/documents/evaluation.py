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


class ExposureWeighted(Document):
    """Metrics whose targets count by the inverse exposure of their ads."""

    clip: float
    """Quantile over the targets at which the weights are cut."""
    num_targets: Count
    effective_sample_size: float
    """(Σw)² / Σw²: the number of targets of equal weight with the same variance."""
    metrics: dict[str, MeanEstimate | None]


class BaselineVerdict(Document):
    """A model compared with the baseline that has the highest mean of a metric, on the same users.

    The best of several baselines is chosen on the users that it is measured on, which flatters it: the comparison errs
    against the model.
    """

    metric: str
    model: float
    """Mean of the model over the users."""
    best_baseline: str
    baseline: float
    """Mean of the best baseline over the same users."""
    difference: float
    """Model less baseline."""
    low: float
    """Low end of the 95 % interval of the difference: paired bootstrap over users."""
    high: float
    num_users: Count
    verdict: str
    """``better``, ``worse`` or ``no difference shown``: the side of 0 that the interval lies on."""

    def line(self) -> str:
        """Sentence with the verdict."""
        return (
            f"{self.metric}: model {self.model:.4f}, best baseline ({self.best_baseline}) {self.baseline:.4f}, "
            f"difference {self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]: {self.verdict}"
        )


class Metrics(Document):
    """Metrics of a checkpoint. A document without ``index`` is older, and measured an index of codes."""

    checkpoint: str
    step: Count
    num_users: Count
    evaluated_on: list[str]
    metrics: dict[str, MeanEstimate | None]
    index: IndexDocument | None = None
    notes: list[str] = []
    exposure_weighted: ExposureWeighted | None = None
    baselines: dict[str, dict[str, MeanEstimate | None]] = {}
    """Metrics of the same users by baseline."""
    verdict: BaselineVerdict | None = None
