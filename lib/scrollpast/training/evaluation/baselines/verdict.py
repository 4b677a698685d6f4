"""Verdict on a model and the best baseline."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scrollpast.documents.evaluation import BaselineVerdict
from scrollpast.training.evaluation.bootstrap import BETTER, FEWEST_USERS, NOT_SHOWN, WORSE, estimates
from scrollpast.training.evaluation.metrics import Values


def verdict_on(
    model: Values,
    baselines: Mapping[str, Values],
    metric: str,
    *,
    seed: int = 0,
    num_resamples: int = 1000,
) -> BaselineVerdict | None:
    """Compare a model with the best baseline; None without a baseline, or where no user has the metric.

    Args:
        model: float64 [U], NaN where a user lacks the metric; larger is better.
        baselines: the same by name, for the same users. Of equal means the first is the best.
    """
    if not baselines or np.isnan(model).all():
        return None
    best = max(baselines, key=lambda name: float(np.nanmean(baselines[name])))
    difference = model - baselines[best]
    found = estimates({"difference": difference}, seed=seed, num_resamples=num_resamples)["difference"]
    if found is None:
        return None
    is_both = ~np.isnan(difference)
    is_shown = found.num_users >= FEWEST_USERS and not found.low <= 0 <= found.high
    return BaselineVerdict(
        metric=metric,
        model=float(model[is_both].mean()),
        best_baseline=best,
        baseline=float(baselines[best][is_both].mean()),
        difference=found.mean,
        low=found.low,
        high=found.high,
        num_users=found.num_users,
        verdict=(BETTER if found.mean > 0 else WORSE) if is_shown else NOT_SHOWN,
    )
