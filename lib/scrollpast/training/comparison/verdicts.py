"""Verdicts of arms against the baseline: better, worse, or no difference shown.

**What an interval covers.** Another sample of users, and other seeds, at once:

* Users are resampled, the same users for all arms, metrics and the baseline, and each user's number is its mean over
  the seeds: a paired bootstrap (`resampled_means`). It measures the variation between users of an arm's effect.
* Seeds are few, and resampling three seeds would underestimate their variation (of n values it finds (n − 1) / n of
  the variance, and its tails end at the extremes). The seeds' means are therefore taken as normal, with a variance
  pooled over the arms of a metric. Each sample draws from Student's t with the pooled degrees of freedom. An arm whose
  own variance is larger keeps its own variance. All arms are trained with the same seeds, which are the blocks of a
  randomised block design (Fisher, The Design of Experiments, 1935). The common effect of a seed on all arms, by its
  initial weights and the order of the data, cancels in a difference. Its effect on a single arm does not.

The interaction of users and seeds is in both parts, as in the pigeonhole bootstrap (Owen, Annals of Applied Statistics
1, 2007): intervals err on the side of "no difference shown". With one seed an arm they cover the variation of users
only, not of seeds.

**What an interval does not cover.** Other days, another vocabulary, other options of training (the baseline may have
been tuned for longer), and the effect of serving: users of these later days saw ads that another system chose.

**Many verdicts.** A verdict is given where an interval excludes 0. With 95 % each, one in twenty arms without an effect
would get a verdict, and readers search tables for the best line. So verdicts use intervals that hold for *all*
differences of the table at once with 95 %: difference ± q · its standard error, q being the 95 % quantile, over the
samples, of the largest |difference − its estimate| / standard error (single-step max-T: Westfall and Young,
Resampling-Based Multiple Testing, 1993; Romano and Wolf, Econometrica 73, 2005). It controls the family-wise error rate
like Holm's method, with narrower intervals, because the samples contain the correlations of metrics and arms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrollpast.training.evaluation.bootstrap import (
    BETTER,
    FEWEST_USERS,
    NOT_SHOWN,
    WORSE,
    resampled_means,
)

LEVEL = 0.95
NUM_RESAMPLES = 4000

Numbers = NDArray[np.float64]
Key = tuple[str, str]
"""Name of an arm's cell, name of a metric."""


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """An arm less the baseline."""

    value: float
    interval: Interval
    """95 %, of this difference alone"""
    joint_interval: Interval
    """One of intervals that hold for all differences at once with 95 %"""
    verdict: str
    """`BETTER`, `WORSE` or `NOT_SHOWN`, from the joint interval"""


@dataclass(frozen=True)
class Judged:
    """One metric of one arm."""

    value: float
    """Mean over users of the mean over seeds"""
    interval: Interval
    num_users: int
    """Users that the number is defined for"""
    num_seeds: int
    seed_deviation: float | None
    """Standard deviation of the seeds' means; None for one seed"""
    difference: Difference | None
    """None for the baseline itself"""


def judge(
    numbers: Mapping[Key, Numbers],
    baseline: str,
    lower_is_better: frozenset[str] = frozenset(),
    *,
    untrained: frozenset[str] = frozenset(),
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[Key, Judged | None]:
    """Compare every arm with the baseline, in every metric.

    The result does not depend on the order of arms and metrics, nor on the order of seeds if it is the same for all
    arms.

    Args:
        numbers: float64 [S, U] of every arm in every metric: the same S seeds in the same order and the same U users
            everywhere; NaN where a user has no such number.
        lower_is_better: metrics whose smaller values are good.
        untrained: arms whose numbers depend on no seed and are repeated for each. They add nothing to the variance of
            seeds, and have joint intervals of their own: adding such an arm changes no other verdict.

    Returns:
        None where no user has the number.
    """
    arms = sorted({arm for arm, _ in numbers})
    metrics = sorted({metric for _, metric in numbers})
    at = arms.index(baseline)
    is_trained_C = np.array([arm not in untrained for arm in arms])
    samples = {
        metric: _sample([numbers[arm, metric] for arm in arms], is_trained_C, metric, seed, num_resamples)
        for metric in metrics
    }
    judged = [sample for sample in samples.values() if sample.num_users >= FEWEST_USERS]
    # Without enough users for a verdict, the intervals are still shown.
    family = judged or [sample for sample in samples.values() if sample.num_users]
    studentised = [sample.studentised(at) for sample in family]
    quantiles = {
        is_of_family: _joint_quantile(
            [errors_RC[:, is_trained_C == is_of_family] for errors_RC in studentised]
        )
        for is_of_family in (True, False)
    }
    return {
        (arm, metric): samples[metric].judged(
            arms.index(arm),
            at,
            quantiles[arm not in untrained],
            is_lower_better=metric in lower_is_better,
        )
        for arm, metric in numbers
    }


@dataclass(frozen=True, eq=False)
class _Sample:
    """Metric of C arms, and its values in R samples of users and seeds."""

    value_C: Numbers
    drawn_RC: Numbers
    paired_RC: Numbers
    """Samples without the common effect of a seed on all arms: only differences of arms are meaningful"""
    seed_means: Sequence[Numbers]
    """float64 [S] by arm"""
    num_users: int
    is_trained_C: NDArray[np.bool_]

    def studentised(self, baseline: int) -> Numbers:
        """float64 [R, C]: errors of the differences over their standard errors; 0 where the variance is 0."""
        difference_C, drawn_RC = self._differences(baseline)
        error_RC = drawn_RC - difference_C
        deviation_C = error_RC.std(axis=0)
        return np.divide(error_RC, deviation_C, out=np.zeros_like(error_RC), where=deviation_C > 0)

    def judged(self, arm: int, baseline: int, quantile: float, *, is_lower_better: bool) -> Judged | None:
        if not self.num_users:
            return None
        means = self.seed_means[arm]
        difference = None
        if arm != baseline:
            difference_C, drawn_RC = self._differences(baseline)
            value, half = float(difference_C[arm]), quantile * float(drawn_RC[:, arm].std())
            joint = Interval(value - half, value + half)
            is_shown = self.num_users >= FEWEST_USERS and not joint.low <= 0 <= joint.high
            is_better = (value < 0) == is_lower_better
            verdict = NOT_SHOWN if not is_shown else BETTER if is_better else WORSE
            difference = Difference(value, _percentiles(drawn_RC[:, arm]), joint, verdict)
        return Judged(
            value=float(self.value_C[arm]),
            interval=_percentiles(self.drawn_RC[:, arm]),
            num_users=self.num_users,
            num_seeds=len(means),
            seed_deviation=float(np.sort(means).std(ddof=1)) if len(means) > 1 else None,
            difference=difference,
        )

    def _differences(self, baseline: int) -> tuple[Numbers, Numbers]:
        paired_RC = self.paired_RC - self.paired_RC[:, baseline, None]
        # What a seed does to all trained arms alike is part of their difference from an untrained arm.
        whole_RC = self.drawn_RC - self.drawn_RC[:, baseline, None]
        return self.value_C - self.value_C[baseline], np.where(self.is_trained_C, paired_RC, whole_RC)


def _sample(
    by_arm: Sequence[Numbers], is_trained_C: NDArray[np.bool_], metric: str, seed: int, num_resamples: int
) -> _Sample:
    # Sorted: the last digits of a sum depend on the order, and seeds have no order.
    user_UC = np.stack([np.sort(numbers_SU, axis=0).mean(axis=0) for numbers_SU in by_arm], axis=1)
    is_defined = ~np.isnan(user_UC).any(axis=1)
    if not is_defined.any():
        nothing = np.full(len(by_arm), np.nan)
        return _Sample(nothing, nothing[None], nothing[None], [nothing[:0]] * len(by_arm), 0, is_trained_C)
    # Users without the metric stay in the table: the samples then hold the same users for all metrics.
    user_UC[~is_defined] = np.nan
    value_C = user_UC[is_defined].mean(axis=0)
    drawn_RC = resampled_means(user_UC, seed=seed, num_resamples=num_resamples)
    # With very few users, a sample may hold no user with the metric.
    drawn_RC = np.where(np.isnan(drawn_RC), value_C, drawn_RC)
    mean_CS = np.stack([numbers_SU[:, is_defined].mean(axis=1) for numbers_SU in by_arm])
    of_arms_CS = (mean_CS - _sorted_mean(mean_CS))[is_trained_C]
    of_arms_alone_CS = of_arms_CS - of_arms_CS.mean(axis=0)
    num_arms, num_seeds = of_arms_CS.shape
    errors, paired_errors = (
        _seed_errors(deviation_CS, is_trained_C, freedom_of_an_arm, f"{kind} {seed} {metric}", num_resamples)
        for kind, deviation_CS, freedom_of_an_arm in (
            ("seeds", of_arms_CS, num_seeds - 1),
            ("arms", of_arms_alone_CS, (num_seeds - 1) * (num_arms - 1) / num_arms),
        )
    )
    return _Sample(
        value_C,
        drawn_RC + errors,
        drawn_RC + paired_errors,
        list(mean_CS),
        int(is_defined.sum()),
        is_trained_C,
    )


def _sorted_mean(mean_CS: Numbers) -> Numbers:
    """Over the seeds, [C, 1], the same to the last digit in any order of them."""
    return np.asarray(np.sort(mean_CS, axis=1).mean(axis=1, keepdims=True))


def _seed_errors(
    deviation_TS: Numbers,
    is_trained_C: NDArray[np.bool_],
    freedom_of_an_arm: float,
    stream: str,
    num_resamples: int,
) -> Numbers:
    """Variation of the arms' means over seeds: float64 [R, C], multivariate t; 0 where arms have one seed or none.

    Args:
        deviation_TS: deviations of the seeds' means of the T trained arms.
        freedom_of_an_arm: degrees of freedom of the squares of each arm.
    """
    num_arms, num_seeds = deviation_TS.shape
    freedom = num_arms * freedom_of_an_arm
    if freedom < 1:
        return np.zeros((num_resamples, len(is_trained_C)))
    squares_T = np.sort(deviation_TS**2, axis=1).sum(axis=1)
    variance_T = np.maximum(squares_T / freedom_of_an_arm, squares_T.sum() / freedom)
    key = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:16], "little")
    generator = np.random.Generator(np.random.Philox(key=key))
    scale_R1 = np.sqrt(freedom / generator.chisquare(freedom, (num_resamples, 1)))
    normal_RT = generator.standard_normal((num_resamples, num_arms))
    drawn_RC = np.zeros((num_resamples, len(is_trained_C)))
    drawn_RC[:, is_trained_C] = np.sqrt(variance_T / num_seeds) * scale_R1 * normal_RT
    return drawn_RC


def _joint_quantile(studentised: Sequence[Numbers]) -> float:
    """95 % quantile over the samples of the largest error of all differences, in standard errors."""
    if not studentised or not studentised[0].shape[1]:
        return 0.0
    largest_R = np.abs(np.concatenate(studentised, axis=1)).max(axis=1)
    return float(np.quantile(largest_R, LEVEL))


def _percentiles(drawn_R: Numbers) -> Interval:
    low, high = np.quantile(drawn_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
