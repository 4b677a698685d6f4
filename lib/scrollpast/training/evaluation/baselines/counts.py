"""Baselines that rank the same ads for every user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from scrollpast.training.evaluation.baselines.baseline import Baseline
from scrollpast.training.evaluation.baselines.past import Past
from scrollpast.training.evaluation.held_out import HeldOut, Ragged

CLICK_RATE_STRENGTH = 50.0
"""Impressions that the prior of a click rate counts for. A larger value ranks ads with few impressions nearer to the
mean."""


@dataclass(frozen=True, eq=False)
class SameForAll:
    """Scorer by one number of each ad."""

    score_R: NDArray[np.float32]
    """float32 [R]"""
    num_users: int

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self.score_R)

    def scores(self, start: int, stop: int) -> torch.Tensor:
        """float32 [stop − start, R]"""
        return torch.from_numpy(self.score_R).repeat(stop - start, 1)

    def pair_scores(self, pairs: Ragged) -> NDArray[np.float32]:
        """float32 [Σ]"""
        return self.score_R[pairs.rows]


def positives(last_hours: float | None = None) -> Callable[[Past, HeldOut], SameForAll]:
    """Fit by the number of positives; ads without one in these hours are equal."""

    def fit(past: Past, held_out: HeldOut) -> SameForAll:
        return SameForAll(past.num_positives(last_hours).astype(np.float32), len(held_out))

    return fit


def click_rate(past: Past, held_out: HeldOut) -> SameForAll:
    """Fit by the mean of the posterior of the click rate.

    The prior is a beta distribution whose mean is the rate of all impressions, g, and whose parameters add up to
    `CLICK_RATE_STRENGTH`, s: (positives + s · g) / (positives + served negatives + s).
    """
    num_positives = past.num_positives()
    num_shown = num_positives + past.num_served
    rate = num_positives.sum() / max(1, num_shown.sum())
    strength = CLICK_RATE_STRENGTH
    posterior = (num_positives + strength * rate) / (num_shown + strength)
    return SameForAll(posterior.astype(np.float32), len(held_out))


COUNTS = (
    Baseline("positives", "number of the ad's positives on the history days", positives()),
    Baseline("positives, last 24 h", "positives in the last 24 hours of the history days", positives(24)),
    Baseline("positives, last 6 h", "positives in the last 6 hours of the history days", positives(6)),
    Baseline("click rate", "share of positives among the ad's impressions, smoothed", click_rate),
)
