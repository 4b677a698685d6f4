"""Weights of targets by the exposure of their ads, and means that these weights normalise.

The old funnel decided what users saw: an ad that was shown often is a target often, whatever users want. A target
counts by the inverse of its ad's exposure (inverse propensity scoring: Schnabel et al., Recommendations as treatments,
ICML 2016, arXiv 1602.05352; for implicit feedback Yang et al., RecSys 2018). The propensity of an ad is taken as
proportional to its exposure, which is the number of its examined impressions on the evaluated days.

Few rarely shown ads would carry the whole sum: weights are clipped at a quantile, which trades variance for bias. The
sum is divided by the sum of the weights (self-normalised, SNIPS), so that the constant of the propensities cancels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]


def counts_of(ads: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of times that each wanted ad is among ``ads``: int64 in the shape of ``wanted``.

    Args:
        ads: int64 [n], any ids, with repeats.
        wanted: int64 [m].
    """
    if not len(ads):
        return np.zeros(len(wanted), np.int64)
    known, counts = np.unique(ads, return_counts=True)
    at = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    return np.where(known[at] == wanted, counts[at], 0)


def clipped_weights(exposures: NDArray[np.int64], clip: float) -> Weights:
    """Inverse exposures, cut at their quantile: float64 [m], in (0, 1].

    Args:
        exposures: int64 [m] >= 1, of the ad of each target.
        clip: quantile over the targets in [0, 1]; 1 = not clipped, 0 = all weights are equal.
    """
    if not len(exposures):
        return np.zeros(0)
    weights = 1.0 / exposures
    return np.minimum(weights, np.quantile(weights, clip))


def effective_sample_size(weights: Weights) -> float:
    """(Σw)² / Σw² (Kish, Survey Sampling, 1965): the number of targets of equal weight with the same variance."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


def shares_of_a_ratio(above: Weights, below: Weights) -> Weights:
    """Numbers of users whose mean is the ratio of two sums over users: float64 [U], NaN where ``below`` is 0.

    With V = Σ above / Σ below over the n users with ``below`` > 0, the number of a user is

        V + n (above − V · below) / Σ below,

    the ratio's influence function (linearisation: Särndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992,
    section 5.5). The mean is V, and the variance of the mean over samples of users is that of the ratio to first
    order, so that a bootstrap of the mean, and of a difference of two means, gives the intervals of the ratio.

    Args:
        above: float64 [U], such as the weights of the targets that were found.
        below: float64 [U], such as the weights of all targets.
    """
    has = below > 0
    if not has.any():
        return np.full(len(below), np.nan)
    total = below[has].sum()
    ratio = above[has].sum() / total
    return np.where(has, ratio + has.sum() * (above - ratio * below) / total, np.nan)
