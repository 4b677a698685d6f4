"""Bootstrap intervals of means over users, at 95 %."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from scrollpast.documents.evaluation import MeanEstimate

BETTER, WORSE, NOT_SHOWN = "better", "worse", "no difference shown"
"""Verdicts: the side of 0 that the interval of a difference lies on."""
FEWEST_USERS = 30
"""Smallest number of users for a verdict: with fewer users a bootstrap's intervals are too narrow."""
_CELLS_AT_ONCE = 1 << 23


def estimates(
    values: Mapping[str, NDArray[np.float64]], *, seed: int = 0, num_resamples: int = 1000
) -> dict[str, MeanEstimate | None]:
    """Means of numbers of the same users with percentile intervals; None where no user has the number.

    The bootstrap resamples users, not queries or ads, because the actions of a user are correlated. Each user's number
    of times in a sample is Poisson with mean 1 (Chamandy et al., Estimating uncertainty for massive data streams,
    2012): the same samples for all numbers, in bounded memory.

    Args:
        values: float64 [U] by name; NaN = undefined for the user. The difference of two models' numbers is such
            a number too, and its interval that of the paired comparison.
    """
    table = np.stack(list(values.values()), axis=1)
    means = resampled_means(table, seed=seed, num_resamples=num_resamples)
    found: dict[str, MeanEstimate | None] = {}
    for at, name in enumerate(values):
        own = table[~np.isnan(table[:, at]), at]
        if not len(own):
            found[name] = None
            continue
        drawn = means[~np.isnan(means[:, at]), at]
        low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (own.mean(), own.mean())
        found[name] = MeanEstimate(
            mean=float(own.mean()), low=float(low), high=float(high), num_users=len(own)
        )
    return found


def resampled_means(
    table: NDArray[np.float64], *, seed: int = 0, num_resamples: int = 1000
) -> NDArray[np.float64]:
    """Means over the users of each sample: float64 [U, K] → [num_resamples, K], as `estimates` draws them.

    The samples depend on the seed and the number of users alone: tables of the same users are resampled together,
    in one call or in several.

    Args:
        table: NaN = undefined for the user; the mean is NaN where no user of a sample has the number.
    """
    is_defined = ~np.isnan(table)
    filled = np.where(is_defined, table, 0.0)
    counted = is_defined.astype(np.float64)
    num_users = len(table)
    generator = np.random.Generator(np.random.Philox(key=seed % 2**128))
    step = max(1, _CELLS_AT_ONCE // max(1, num_users))
    samples = []
    for start in range(0, num_resamples, step):
        times = generator.poisson(1.0, (min(step, num_resamples - start), num_users)).astype(np.float64)
        with np.errstate(invalid="ignore"):
            samples.append((times @ filled) / (times @ counted))
    return np.concatenate(samples)
