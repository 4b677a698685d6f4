"""Whether an arm is better than the baseline, worse, or not shown to be either.

**What an interval covers.** Another sample of users, and other seeds, at once:

* Users are resampled, the same ones for all arms, metrics and the baseline, and each user's number is its mean over
  the seeds: a paired bootstrap (`resampled_means`). It knows how much users differ in what an arm changes for them.
* Seeds are few, and resampling three of them would tell too little (of n values it finds (n − 1) / n of the variance,
  and its tails end at the extremes). So the spread of the seeds' means is taken as normal, its variance pooled over
  the arms of a metric, and each sample draws from Student's t with the pooled degrees of freedom; an arm whose own
  variance is larger has that. All arms are trained with the same seeds, which are the blocks of a randomised block
  design (Fisher, The Design of Experiments, 1935): what a seed does to all arms alike, by its first weights and the
  order of the data, is no part of a difference. What it does to one arm and not to the others is.

The variance that is neither of users nor of seeds alone is in both parts, as in the pigeonhole bootstrap (Owen, Annals
of Applied Statistics 1, 2007): intervals err on the side of "no difference shown". With one seed an arm they cover
users alone, and say nothing of what another seed would have given.

**What it does not cover.** Other days, another vocabulary, other options of training (the baseline may have been tuned
for longer), and what the retriever does once it serves: users of these later days saw what another system chose.

**Many verdicts.** A verdict is one interval lying on one side of 0. With 95 % each, one in twenty arms that change
nothing would be given a verdict, and tables are read for the best line. So verdicts use intervals that hold for *all*
differences of the table at once with 95 %: difference ± q · its standard error, q being the 95 % quantile, over the
samples, of the largest |difference − its estimate| / standard error (single-step max-T: Westfall and Young,
Resampling-Based Multiple Testing, 1993; Romano and Wolf, Econometrica 73, 2005). It holds the family-wise error rate as
Holm's method does, and as the samples know how metrics and arms hang together, with narrower intervals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrollpast.training.evaluation.bootstrap import resampled_means

BETTER, WORSE, NOT_SHOWN = "better", "worse", "no difference shown"
LEVEL = 0.95
NUM_RESAMPLES = 4000
FEWEST_USERS = 30
"""With fewer users a bootstrap's intervals are too narrow to hang a verdict on."""

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
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[Key, Judged | None]:
    """Hold every arm against the baseline, in every metric.

    The order of arms and metrics changes nothing, nor does that of the seeds, where it is the same for all arms.

    Args:
        numbers: float64 [S, U] of every arm in every metric: the same S seeds in the same order and the same U users
            everywhere; NaN where a user has no such number.
        lower_is_better: metrics whose smaller values are good.

    Returns:
        None where no user has the number.
    """
    arms = sorted({arm for arm, _ in numbers})
    metrics = sorted({metric for _, metric in numbers})
    at = arms.index(baseline)
    samples = {
        metric: _sample([numbers[arm, metric] for arm in arms], metric, seed, num_resamples)
        for metric in metrics
    }
    judged = [sample for sample in samples.values() if sample.num_users >= FEWEST_USERS]
    # Where nothing can be given a verdict, the intervals are still shown.
    family = judged or [sample for sample in samples.values() if sample.num_users]
    quantile = _joint_quantile([sample.studentised(at) for sample in family])
    return {
        (arm, metric): samples[metric].judged(
            arms.index(arm), at, quantile, is_lower_better=metric in lower_is_better
        )
        for arm, metric in numbers
    }


@dataclass(frozen=True, eq=False)
class _Sample:
    """A metric of C arms, and what it would be in R other samples of users and seeds."""

    value_C: Numbers
    drawn_RC: Numbers
    paired_RC: Numbers
    """The same without what a seed does to all arms alike: only differences of arms have a meaning"""
    seed_means: Sequence[Numbers]
    """float64 [S] by arm"""
    num_users: int

    def studentised(self, baseline: int) -> Numbers:
        """float64 [R, C]: errors of the differences in their standard errors; 0 where nothing varies."""
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
        return (
            self.value_C - self.value_C[baseline],
            self.paired_RC - self.paired_RC[:, baseline, None],
        )


def _sample(by_arm: Sequence[Numbers], metric: str, seed: int, num_resamples: int) -> _Sample:
    # Sorted: a sum depends on the order of its parts in its last digits, and seeds have none.
    user_UC = np.stack([np.sort(numbers_SU, axis=0).mean(axis=0) for numbers_SU in by_arm], axis=1)
    is_defined = ~np.isnan(user_UC).any(axis=1)
    if not is_defined.any():
        nothing = np.full(len(by_arm), np.nan)
        return _Sample(nothing, nothing[None], nothing[None], [nothing[:0]] * len(by_arm), 0)
    # Users without the number stay in the table: the samples are then the same users for all metrics.
    user_UC[~is_defined] = np.nan
    value_C = user_UC[is_defined].mean(axis=0)
    drawn_RC = resampled_means(user_UC, seed=seed, num_resamples=num_resamples)
    # Of very few users a sample may hold none that has the number.
    drawn_RC = np.where(np.isnan(drawn_RC), value_C, drawn_RC)
    mean_CS = np.stack([numbers_SU[:, is_defined].mean(axis=1) for numbers_SU in by_arm])
    of_arms_CS = mean_CS - _sorted_mean(mean_CS)
    of_arms_alone_CS = of_arms_CS - of_arms_CS.mean(axis=0)
    num_arms, num_seeds = mean_CS.shape
    errors, paired_errors = (
        _seed_errors(deviation_CS, freedom_of_an_arm, f"{kind} {seed} {metric}", num_resamples)
        for kind, deviation_CS, freedom_of_an_arm in (
            ("seeds", of_arms_CS, num_seeds - 1),
            ("arms", of_arms_alone_CS, (num_seeds - 1) * (num_arms - 1) / num_arms),
        )
    )
    return _Sample(value_C, drawn_RC + errors, drawn_RC + paired_errors, list(mean_CS), int(is_defined.sum()))


def _sorted_mean(mean_CS: Numbers) -> Numbers:
    """Over the seeds, [C, 1], the same to the last digit in any order of them."""
    return np.asarray(np.sort(mean_CS, axis=1).mean(axis=1, keepdims=True))


def _seed_errors(deviation_CS: Numbers, freedom_of_an_arm: float, stream: str, num_resamples: int) -> Numbers:
    """Variation of the arms' means over seeds: float64 [R, C], multivariate t; 0 where arms have one seed.

    Args:
        deviation_CS: of the seeds' means.
        freedom_of_an_arm: degrees of freedom of the squares of each arm.
    """
    num_arms, num_seeds = deviation_CS.shape
    freedom = num_arms * freedom_of_an_arm
    if freedom < 1:
        return np.zeros((num_resamples, num_arms))
    squares_C = np.sort(deviation_CS**2, axis=1).sum(axis=1)
    variance_C = np.maximum(squares_C / freedom_of_an_arm, squares_C.sum() / freedom)
    key = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:16], "little")
    generator = np.random.Generator(np.random.Philox(key=key))
    scale_R1 = np.sqrt(freedom / generator.chisquare(freedom, (num_resamples, 1)))
    normal_RC = generator.standard_normal((num_resamples, num_arms))
    drawn_RC: Numbers = np.sqrt(variance_C / num_seeds) * scale_R1 * normal_RC
    return drawn_RC


def _joint_quantile(studentised: Sequence[Numbers]) -> float:
    """The number of standard errors that no difference is off by in 95 of 100 samples."""
    if not studentised:
        return 0.0
    largest_R = np.abs(np.concatenate(studentised, axis=1)).max(axis=1)
    return float(np.quantile(largest_R, LEVEL))


def _percentiles(drawn_R: Numbers) -> Interval:
    low, high = np.quantile(drawn_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
