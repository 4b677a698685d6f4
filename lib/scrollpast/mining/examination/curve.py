"""Smooth curve over positions, fitted to clicks whose probability differs by position and by stratum.

In the position-based model a click needs examination and attraction: E[clicks] = exposure × γ(stratum) × θ(position),
for any distribution of the clicks (Craswell et al., WSDM 2008; Wang et al., WSDM 2018). Conditional on the number of
clicks of a stratum, its attraction γ cancels: position k gets the share e_k θ_k / Σ_j e_j θ_j of the clicks. log θ is a
smoothing spline. Its smoothness is estimated from the data (Wood and Fasiolo, Biometrics 2017, the generalised
Fellner-Schall method).
Intervals follow from the spline's posterior, with the variance between groups of users in place of the likelihood's
variance (after Nychka, JASA 1988, and White, Econometrica 1982), because clicks of a user are not independent. A step
in the true curve, as at the end of a screen, is smoothed over its neighbours, and intervals beside it are too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MOST_ROUNDS = 200
_NUM_UNBENT = 3
"""Unpenalised parameters of `_roughness`: a factor, a power and a rate."""
_LEAST_SMOOTHING, _MOST_SMOOTHING = 1e-6, 3.0
"""Upper limit of the smoothing: no log proves that a curve has exactly the unpenalised shapes of `_roughness`."""


@dataclass(frozen=True)
class Observed:
    """Clicks and exposures by group of users, stratum and position: float64 [G, X, K] each.

    Both may be weighted sums, as long as E[clicks] = exposure × γ(stratum) × θ(position).
    """

    clicks: Floats
    exposures: Floats


@dataclass(frozen=True)
class Curve:
    """log θ up to a constant, float64 [K], and its covariance [K, K], of which only differences are meaningful."""

    log_theta: Floats
    covariance: Floats

    def spread_of(self, contrasts: Floats) -> Floats:
        """Standard errors [N] of contrasts [N, K]; each contrast adds up to 0."""
        return np.sqrt(np.maximum(np.einsum("nk,kl,nl->n", contrasts, self.covariance, contrasts), 0.0))


def fit_curve(observed: Observed, positions: NDArray[np.int64]) -> Curve:
    """Fit the curve to clicks by penalised maximum likelihood.

    Args:
        observed: at least two groups; every position can be compared with every other position, see
            `connected_positions`.
        positions: int64 [K], ascending: positions of the surface that the K columns stand for.
    """
    clicks, exposures = observed.clicks.sum(axis=0), observed.exposures.sum(axis=0)
    num_positions = len(positions)
    roughness = _roughness(positions)
    # Clicks and roughness do not determine the constant: this term fixes it and changes nothing else.
    pin = np.full((num_positions, num_positions), 1 / num_positions)
    log_theta, smoothing, dispersion = np.zeros(num_positions), 1.0, 1.0
    inverse = spread = pin
    for _ in range(_MOST_ROUNDS):
        before = log_theta, smoothing
        log_theta = _climb(log_theta, clicks, exposures, roughness * smoothing * dispersion, pin)
        information = _information(log_theta, clicks, exposures)
        inverse = np.linalg.inv(information / dispersion + smoothing * roughness + pin)
        spread = _spread_between_groups(log_theta, observed, inverse / dispersion)
        dispersion = max(float(np.trace(inverse @ spread) / np.trace(inverse @ information)), 1e-3)
        inverse = np.linalg.inv(information / dispersion + smoothing * roughness + pin)
        smoothing = _next_smoothing(smoothing, log_theta, inverse, roughness)
        moved = np.abs(log_theta - before[0]).max()
        if moved < 1e-5 and abs(np.log(smoothing / before[1])) < 1e-3:
            break
    covariance = inverse @ (spread / dispersion**2 + smoothing * roughness) @ inverse
    return Curve(log_theta - log_theta[0], covariance)


def connected_positions(observed: Observed) -> NDArray[np.int64]:
    """Positions that can be compared: the largest set linked by strata with clicks, ascending."""
    held = (observed.exposures.sum(axis=0) > 0) & (observed.clicks.sum(axis=(0, 2)) > 0)[:, None]
    linked = held.astype(np.int64)
    reach = (linked.T @ linked) > 0
    for _ in range(int(np.ceil(np.log2(max(len(reach), 2))))):
        reach = (reach.astype(np.int64) @ reach.astype(np.int64)) > 0
    largest = int(reach.sum(axis=1).argmax())
    return np.flatnonzero(reach[largest])


def _climb(start: Floats, clicks: Floats, exposures: Floats, penalty: Floats, pin: Floats) -> Floats:
    """The maximum of the penalised likelihood, by Newton's method with halved steps."""
    log_theta = start
    reached = _likelihood(log_theta, clicks, exposures, penalty)
    for _ in range(50):
        slope = (clicks - _expected(log_theta, clicks, exposures)).sum(axis=0) - penalty @ log_theta
        step = np.linalg.solve(_information(log_theta, clicks, exposures) + penalty + pin, slope)
        # The quadratic approximation does not hold for a step of more than a factor of 20.
        step *= min(1.0, 3.0 / max(float(np.abs(step).max()), 1e-300))
        for _ in range(30):
            if _likelihood(log_theta + step, clicks, exposures, penalty) >= reached - 1e-12 * abs(reached):
                break
            step /= 2
        log_theta = log_theta + step
        reached = _likelihood(log_theta, clicks, exposures, penalty)
        if np.abs(step).max() < 1e-8:
            break
    return np.asarray(log_theta - log_theta.mean())


def _shares(log_theta: Floats, exposures: Floats) -> Floats:
    """Share of a stratum's clicks at each position: float64 [X, K]."""
    odds = exposures * np.exp(log_theta - log_theta.max())
    return np.asarray(odds / np.maximum(odds.sum(axis=1, keepdims=True), 1e-300))


def _expected(log_theta: Floats, clicks: Floats, exposures: Floats) -> Floats:
    return np.asarray(clicks.sum(axis=1, keepdims=True) * _shares(log_theta, exposures))


def _likelihood(log_theta: Floats, clicks: Floats, exposures: Floats, penalty: Floats) -> float:
    shares = _shares(log_theta, exposures)
    logs = np.log(np.maximum(shares, 1e-300), where=clicks > 0, out=np.zeros_like(shares))
    return float((clicks * logs).sum() - log_theta @ penalty @ log_theta / 2)


def _information(log_theta: Floats, clicks: Floats, exposures: Floats) -> Floats:
    shares, totals = _shares(log_theta, exposures), clicks.sum(axis=1)
    weighted = shares * totals[:, None]
    return np.asarray(np.diag(weighted.sum(axis=0)) - shares.T @ weighted)


def _spread_between_groups(log_theta: Floats, observed: Observed, inverse: Floats) -> Floats:
    """Covariance [K, K] of the gradient of the likelihood, estimated between groups of users.

    The fit includes each group and so underestimates its residual. Each gradient is corrected to a fit without
    the group (Bell and McCaffrey, Survey Methodology 2002).

    Args:
        inverse: [K, K], of the penalised information.
    """
    clicks, exposures = observed.clicks.sum(axis=0), observed.exposures.sum(axis=0)
    theta = np.exp(log_theta - log_theta.max())
    shares = _shares(log_theta, exposures)
    num_strata, num_positions = shares.shape
    wants = clicks.sum(axis=1) / np.maximum(exposures @ theta, 1e-300)
    totals = observed.clicks.sum(axis=2)
    # Sums over strata as products of matrices: a residual [G, X, K] by itself would cost most of the fit.
    left = totals - (observed.exposures @ theta) * wants
    slopes = observed.clicks.sum(axis=1) - (wants @ observed.exposures) * theta - left @ shares
    products = (shares[:, :, None] * shares[:, None, :]).reshape(num_strata, -1)
    information = -(totals @ products).reshape(-1, num_positions, num_positions)
    information[:, range(num_positions), range(num_positions)] += totals @ shares
    without = np.eye(len(theta)) - information @ inverse
    slopes = np.linalg.solve(without, slopes[:, :, None])[:, :, 0]
    centred = slopes - slopes.mean(axis=0)
    num_groups = len(centred)
    return np.asarray(centred.T @ centred * (num_groups / (num_groups - 1)))


def _next_smoothing(smoothing: float, log_theta: Floats, inverse: Floats, roughness: Floats) -> float:
    num_bent = len(log_theta) - _NUM_UNBENT
    if num_bent < 1:
        return smoothing
    free = num_bent - smoothing * float(np.trace(inverse @ roughness))
    bent = float(log_theta @ roughness @ log_theta)
    return float(np.clip(max(free, 1e-9) / max(bent, 1e-12), _LEAST_SMOOTHING, _MOST_SMOOTHING))


def _roughness(positions: NDArray[np.int64]) -> Floats:
    """Distance of a curve [K] from a power law times an exponential, as a quadratic form [K, K].

    Examination has these two shapes: users leave lists by a power law and scroll feeds at an even rate. The remainder
    is measured by squared second differences over log(1 + position).
    """
    at = np.log1p(positions.astype(np.float64))
    bends = np.zeros((max(len(at) - 2, 0), len(at)))
    for row in range(len(bends)):
        left, right = at[row + 1] - at[row], at[row + 2] - at[row + 1]
        width = np.sqrt((left + right) / 2)
        bends[row, row] = width / left * 2 / (left + right)
        bends[row, row + 2] = width / right * 2 / (left + right)
        bends[row, row + 1] = -bends[row, row] - bends[row, row + 2]
    exponential = bends @ positions.astype(np.float64)
    bends -= np.outer(exponential, exponential @ bends) / max(float(exponential @ exponential), 1e-300)
    return np.asarray(bends.T @ bends)
