"""Mixture model of the dwell of unclicked impressions: share of seen impressions, and thresholds of seen and unseen.

Log dwell is a mixture of normals: scrolled past unseen, seen and passed over, and, in some logs, lingered on. The
mixture is fitted to a histogram by expectation maximisation (Dempster, Laird and Rubin, JRSS B 1977). The Bayesian
information criterion selects the number of components (Schwarz, Annals of Statistics 1978).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS_PER_UNIT = 20
"""Bins of log(1 + dwell in ms) for each unit: 5 % of the dwell a bin."""
NUM_BINS = 16 * BINS_PER_UNIT
"""Up to 2.5 hours; longer dwell is counted in the last bin."""

_MOST_ROUNDS = 2000
_LEAST_SPREAD = 0.05
_LEAST_SHARE = 0.005
_LEAST_DISTANCE = 2.0
"""Smallest Ashman's D at which two components are separate (Ashman, Bird and Zepf, AJ 1994)."""
_SKIPPED = 100
"""Smallest number of impressions for which a mixture is fitted."""


@dataclass(frozen=True)
class DwellMixture:
    """Components of log(1 + dwell in ms), from short to long: float64 [C] each; the shares add up to 1."""

    shares: Floats
    means: Floats
    spreads: Floats

    @property
    def typical_ms(self) -> list[float]:
        """Median dwell of each component."""
        return [float(np.expm1(mean)) for mean in self.means]

    @property
    def thresholds_ms(self) -> list[int]:
        """Dwell at which a component and the next are equally likely, for each neighbouring pair."""
        return [self._threshold(component) for component in range(len(self.shares) - 1)]

    def _threshold(self, component: int) -> int:
        at = np.linspace(self.means[component], self.means[component + 1], 2001)
        densities = _densities(at, self)
        return round(float(np.expm1(at[int(np.argmax(densities[component + 1] >= densities[component]))])))

    def unseen_given_bin(self) -> Floats:
        """P(scrolled past unseen | bin of the dwell), float64 [NUM_BINS]."""
        densities = _densities(bin_middles(), self)
        unseen = densities[0] / np.maximum(densities.sum(axis=0), 1e-300)
        # Far from its mean a narrow component has a lower density than a wide one: shorter dwell stays unseen.
        unseen[bin_middles() < self.means[0]] = 1.0
        unseen[bin_middles() > self.means[-1]] = 0.0
        return np.asarray(unseen)


def bin_middles() -> Floats:
    """Middle of every bin, in units of log(1 + dwell in ms), float64 [NUM_BINS]."""
    return (np.arange(NUM_BINS) + 0.5) / BINS_PER_UNIT


def fit_dwell(counts: Floats) -> DwellMixture | None:
    """Fit the mixture to a histogram [NUM_BINS] of unclicked impressions; None where no components are separate.

    Only separate components count: the first two have to be separate, and a third is added where it is.
    """
    if counts.sum() < _SKIPPED:
        return None
    one = _best([_whole(counts)], counts)
    two = _best([*_splits(one[0]), *_at_quantiles(counts, 2)], counts)
    three = _best([*_splits(two[0]), *_at_quantiles(counts, 3)], counts)
    best = min(one, two, three, key=lambda fitted: fitted[1])[0]
    candidates = [best] if len(best.shares) < 3 else [best, two[0]]
    return next((mixture for mixture in candidates if _falls_apart(mixture)), None)


def _falls_apart(mixture: DwellMixture) -> bool:
    if len(mixture.shares) < 2 or mixture.shares.min() < _LEAST_SHARE:
        return False
    distances = np.diff(mixture.means) / np.sqrt((mixture.spreads[1:] ** 2 + mixture.spreads[:-1] ** 2) / 2)
    return bool(distances.min() >= _LEAST_DISTANCE)


def _best(starts: Iterable[DwellMixture], counts: Floats) -> tuple[DwellMixture, float]:
    """Best fit over the starts, and its information criterion: each maximisation ends at the nearest local maximum."""
    fitted = []
    for start in starts:
        mixture, likelihood = _climb(start, counts)
        num_parameters = 3 * len(start.shares) - 1
        fitted.append((mixture, num_parameters * float(np.log(counts.sum())) - 2 * likelihood))
    return min(fitted, key=lambda found: found[1])


def _whole(counts: Floats) -> DwellMixture:
    at, weights = bin_middles(), counts / counts.sum()
    mean = weights @ at
    spread = np.sqrt(weights @ (at - mean) ** 2)
    return DwellMixture(np.ones(1), np.array([mean]), np.maximum(np.array([spread]), _LEAST_SPREAD))


def _splits(mixture: DwellMixture) -> Iterator[DwellMixture]:
    """Starts with one more component: each component in turn is split in halves."""
    for component in range(len(mixture.shares)):
        mean, spread = mixture.means[component], mixture.spreads[component]
        yield DwellMixture(
            _replaced(mixture.shares, component, [mixture.shares[component] / 2] * 2),
            _replaced(mixture.means, component, [mean - spread, mean + spread]),
            _replaced(mixture.spreads, component, [max(spread / 2, _LEAST_SPREAD)] * 2),
        )


def _replaced(values: Floats, at: int, parts: list[float]) -> Floats:
    return np.concatenate([values[:at], parts, values[at + 1 :]])


def _at_quantiles(counts: Floats, num_components: int) -> Iterator[DwellMixture]:
    at, cumulated = bin_middles(), np.cumsum(counts) / counts.sum()
    for outer in (0.05, 0.15, 0.3):
        quantiles = np.linspace(outer, 1 - outer, num_components)
        means = at[np.searchsorted(cumulated, quantiles).clip(0, NUM_BINS - 1)]
        yield DwellMixture(np.full(num_components, 1 / num_components), means, np.full(num_components, 0.5))


def _climb(mixture: DwellMixture, counts: Floats) -> tuple[DwellMixture, float]:
    at, total = bin_middles(), counts.sum()
    reached = -np.inf
    for _ in range(_MOST_ROUNDS):
        densities = _densities(at, mixture)
        together = np.maximum(densities.sum(axis=0), 1e-300)
        likelihood = float(counts @ np.log(together / BINS_PER_UNIT))
        if likelihood - reached < 1e-11 * abs(likelihood):
            break
        reached = likelihood
        weights = densities / together * counts
        sums = np.maximum(weights.sum(axis=1), 1e-9)
        means = weights @ at / sums
        spreads = np.sqrt(np.einsum("cb,cb->c", weights, (at - means[:, None]) ** 2) / sums)
        order = np.argsort(means)
        mixture = DwellMixture((sums / total)[order], means[order], np.maximum(spreads, _LEAST_SPREAD)[order])
    return mixture, reached


def _densities(at: Floats, mixture: DwellMixture) -> Floats:
    """Density of every component times its share at each point: float64 [C, N]."""
    standard = (at - mixture.means[:, None]) / mixture.spreads[:, None]
    scale = mixture.shares / (mixture.spreads * np.sqrt(2 * np.pi))
    return np.asarray(scale[:, None] * np.exp(-0.5 * standard**2))
