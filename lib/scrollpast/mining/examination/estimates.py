"""Three estimators of the probability that a position is examined, and the choice between them.

Each arranges the clicks in strata within which only the position differs, and fits `curve.fit_curve` to them:

- randomised slots: ads in these slots were drawn at random, so that all positions are one stratum;
- intervention harvesting: the same user saw the same ad at several positions; each pair of positions is a stratum
  (AllPairs: Agarwal et al., WSDM 2019);
- regression: impressions with similar ranker scores are a stratum; the curve is the maximum that regression EM
  converges to (Wang et al., WSDM 2018), found by Newton's method. It is unbiased as far as the score predicts clicks.

Clicks determine the curve up to a factor. Where the dwell of unclicked impressions separates seen from unseen, the
factor comes from the dwell. Elsewhere the first position is examined with probability 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrollpast.config import ExaminationOptions
from scrollpast.mining.examination.counts import SurfaceCounts
from scrollpast.mining.examination.curve import Observed, connected_positions, fit_curve
from scrollpast.mining.examination.dwell import DwellMixture, fit_dwell

Floats = NDArray[np.float64]

RANDOMISED, HARVESTED, REGRESSED = "randomised", "harvested", "regressed"
"""Estimators, from the fewest assumptions to the most."""
FROM_DWELL, FROM_FIRST = "dwell", "first"
_TWO_SIDED_95 = 1.959964


@dataclass(frozen=True)
class Estimate:
    """P(examined | position) of one surface by one estimator; float64 [N] each, for the positions int64 [N]."""

    estimator: str
    positions: NDArray[np.int64]
    probability: Floats
    low: Floats
    high: Floats
    num_clicks: int
    level: str
    """Origin of the factor: `FROM_DWELL` or `FROM_FIRST`."""

    @property
    def relative_width(self) -> float:
        """Half of the interval's width over the probability; median over positions."""
        return float(np.median((self.high - self.low) / 2 / self.probability))


@dataclass(frozen=True)
class SurfaceEstimate:
    """Result for one surface: the possible estimates, reasons for the missing ones, and the estimator to use."""

    surface: str
    num_impressions: int
    estimates: dict[str, Estimate]
    """Estimates by estimator."""
    abstained: dict[str, str]
    """Reasons of missing estimates, by estimator."""
    chosen: str | None
    """The estimator to use; None where no estimator has an estimate."""
    why: str
    dwell: DwellMixture | None
    unclicked_dwell: Floats
    """[bins], impressions of known dwell without a click."""
    thresholds_ms: dict[str, int]
    """Offered values of mining.examined, by option."""


def estimate_surface(surface: str, counts: SurfaceCounts, options: ExaminationOptions) -> SurfaceEstimate:
    """Estimate a surface by every estimator that its counts allow."""
    unclicked_dwell = counts.unclicked_dwell.sum(axis=0)
    mixture = fit_dwell(unclicked_dwell)
    designs = {
        RANDOMISED: _randomised(counts),
        HARVESTED: _harvested(counts),
        REGRESSED: _regressed(counts),
    }
    estimates, abstained = {}, {}
    for name, observed in designs.items():
        reason = _why_not(name, observed, counts, options)
        if reason is not None:
            abstained[name] = reason
            continue
        positions = connected_positions(observed)
        shown = Observed(observed.clicks[:, :, positions], observed.exposures[:, :, positions])
        estimates[name] = _estimate(name, shown, positions, counts, mixture)
    chosen, why = _choose(estimates, options)
    return SurfaceEstimate(
        surface=surface,
        num_impressions=round(float(counts.impressions.sum())),
        estimates=estimates,
        abstained=abstained,
        chosen=chosen,
        why=why,
        dwell=mixture,
        unclicked_dwell=unclicked_dwell,
        thresholds_ms=_offered(mixture),
    )


def _randomised(counts: SurfaceCounts) -> Observed:
    return Observed(counts.random_clicks[:, None, :], counts.random_impressions[:, None, :])


def _regressed(counts: SurfaceCounts) -> Observed:
    return Observed(counts.scored_clicks, counts.scored_impressions)


def _harvested(counts: SurfaceCounts) -> Observed:
    """Counts with each pair of positions as a stratum of two positions."""
    num_groups, num_positions, _ = counts.harvested.shape
    first, second = np.triu_indices(num_positions, 1)
    at_first, at_second = counts.harvested[:, first, second], counts.harvested[:, second, first]
    weight = counts.harvested_weight[:, first, second]
    is_held = weight.sum(axis=0) > 0
    first, second = first[is_held], second[is_held]
    strata = np.arange(len(first))
    clicks = np.zeros((num_groups, len(first), num_positions))
    exposures = np.zeros_like(clicks)
    clicks[:, strata, first], clicks[:, strata, second] = at_first[:, is_held], at_second[:, is_held]
    exposures[:, strata, first] = exposures[:, strata, second] = weight[:, is_held]
    return Observed(clicks, exposures)


def _why_not(name: str, observed: Observed, counts: SurfaceCounts, options: ExaminationOptions) -> str | None:
    """Reason why the estimator has no estimate, or None."""
    if np.count_nonzero(counts.impressions.sum(axis=0)) < 2:
        return "every impression of the surface has the same position"
    if not observed.exposures.any():
        return {
            RANDOMISED: "no slot was filled at random (is_random)",
            HARVESTED: "no user clicked an ad that was shown to the user at two positions",
            REGRESSED: "no impression has a score (mining.score_column)",
        }[name]
    positions = connected_positions(observed)
    if len(positions) < 2:
        return "no two positions can be compared with each other"
    num_clicks = observed.clicks[:, :, positions].sum()
    if num_clicks < options.min_clicks:
        return f"{num_clicks:,.0f} clicks that compare positions, fewer than {options.min_clicks:,}"
    return None


def _estimate(
    name: str,
    observed: Observed,
    positions: NDArray[np.int64],
    counts: SurfaceCounts,
    mixture: DwellMixture | None,
) -> Estimate:
    curve = fit_curve(observed, positions)
    num_positions = len(positions)
    if mixture is None:
        level, log_level, spread_of_level = FROM_FIRST, 0.0, 0.0
        reference = np.eye(num_positions)[0]
        log_reference = curve.log_theta[0]
    else:
        level = FROM_DWELL
        share, spread_of_share = _examined_share(counts, mixture)
        log_level, spread_of_level = np.log(share), spread_of_share / share
        # The mean of the curve over the served impressions is the examined share.
        served = counts.impressions.sum(axis=0)[positions]
        weights = served / served.sum() * np.exp(curve.log_theta)
        log_reference, reference = np.log(weights.sum()), weights / weights.sum()
    log_probability = curve.log_theta - log_reference + log_level
    spread = np.hypot(curve.spread_of(np.eye(num_positions) - reference), spread_of_level)
    return Estimate(
        estimator=name,
        positions=positions,
        probability=np.minimum(np.exp(log_probability), 1.0),
        low=np.minimum(np.exp(log_probability - _TWO_SIDED_95 * spread), 1.0),
        high=np.minimum(np.exp(log_probability + _TWO_SIDED_95 * spread), 1.0),
        num_clicks=round(float(observed.clicks.sum())),
        level=level,
    )


def _examined_share(counts: SurfaceCounts, mixture: DwellMixture) -> tuple[float, float]:
    """Share of impressions that were examined, by their dwell or a click, and its standard error over users."""
    seen = counts.unclicked_dwell @ (1 - mixture.unseen_given_bin())
    known = counts.unclicked_dwell.sum(axis=1)
    clicked = counts.clicks.sum(axis=1)
    # Unknown dwell is assumed to be distributed as the known dwell.
    unclicked = counts.impressions.sum(axis=1) - clicked
    looked = clicked + unclicked * seen / np.maximum(known, 1)
    total = counts.impressions.sum(axis=1)
    share = looked.sum() / total.sum()
    residuals = looked - share * total
    num_groups = len(residuals)
    spread = np.sqrt(residuals.var(ddof=1) * num_groups) / total.sum()
    return float(share), float(spread)


def _choose(estimates: dict[str, Estimate], options: ExaminationOptions) -> tuple[str | None, str]:
    if not estimates:
        return None, "no estimator has an estimate"
    for name, estimate in estimates.items():
        if estimate.relative_width <= options.max_relative_width:
            return name, "fewest assumptions of the estimators that are precise enough"
    name = min(estimates, key=lambda name: estimates[name].relative_width)
    return name, f"the most precise; no estimator is within {options.max_relative_width:.0%}"


def _offered(mixture: DwellMixture | None) -> dict[str, int]:
    """Dwell thresholds for the options of mining.examined, by option."""
    names = ("min_dwell_ms", "max_dwell_ms")
    return {} if mixture is None else dict(zip(names, mixture.thresholds_ms, strict=False))
