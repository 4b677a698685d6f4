"""Registry of the baselines, and their measurement on held-out users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scrollpast.registry import Registry
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.evaluation.baselines.baseline import Baseline
from scrollpast.training.evaluation.baselines.counts import COUNTS
from scrollpast.training.evaluation.baselines.item_neighbours import ITEM_NEIGHBOURS
from scrollpast.training.evaluation.baselines.matrix_factorisation import MATRIX_FACTORISATION
from scrollpast.training.evaluation.baselines.past import Past
from scrollpast.training.evaluation.held_out import HeldOut
from scrollpast.training.evaluation.metric_registry import METRICS, Metric
from scrollpast.training.evaluation.metrics import Values
from scrollpast.training.evaluation.ranked import Ranked

BASELINES = Registry("baseline", (*COUNTS, ITEM_NEIGHBOURS, MATRIX_FACTORISATION))
"""Baselines of every evaluation and comparison."""


@dataclass(frozen=True, eq=False)
class MeasuredBaselines:
    """Metrics of the baselines for the U users of an evaluation."""

    per_user: Mapping[str, Mapping[str, Values]]
    """float64 [U] by baseline and metric, NaN where a user lacks the metric"""
    skipped: Mapping[str, str]
    """Reason by name of the baselines that were not fitted"""

    @property
    def notes(self) -> list[str]:
        """Notes on the skipped baselines."""
        return [f"baseline {name} is skipped: {reason}" for name, reason in self.skipped.items()]


def measure_baselines(
    past: Past,
    held_out: HeldOut,
    vocabulary: Vocabulary,
    metrics: Iterable[Metric] = METRICS,
    baselines: Iterable[Baseline] = BASELINES,
) -> MeasuredBaselines:
    """Fit each baseline on the history days, and measure it on the users and targets of an evaluation.

    Rankings leave the same known ads out as those of a model. Of equal scores the lower row comes first; a vocabulary
    orders the ads of its days by their positives.
    """
    depth = max(metric.cut for metric in metrics)
    per_user, skipped = {}, {}
    for baseline in baselines:
        if (missing := baseline.missing) is not None:
            skipped[baseline.name] = missing
            continue
        ranked = Ranked(baseline.fit(past, held_out), held_out, vocabulary, depth)
        per_user[baseline.name] = {metric.name: metric.of_users(ranked) for metric in metrics}
    return MeasuredBaselines(per_user, skipped)
