"""Bands of the gate: a day's metrics compared with those of the trailing days, before publication.

The band of a metric lies around the median of the trailing days. Neither the usual difference from day to day nor
chance takes a metric out of its band. The half-width is the largest of

* ``deviations`` robust standard deviations from day to day, shares as logits. A robust standard deviation is the larger
  of 1.4826 × the median absolute deviation (Rousseeuw and Croux, *Alternatives to the median absolute deviation*,
  JASA 88, 1993) and the distance of the deciles over 2.563, which includes weekly days such as Sundays. The deviation
  expected by chance is subtracted, and the rest is at least ``least_deviation``;
* ``deviations`` standard deviations of both together, from day to day and by chance of few cases, on the arcsine
  scale, where the standard deviation by chance is 1 / (2 √cases) for every share (Anscombe, *Biometrika* 35, 1948);
* ``least_difference``, for shares that are not small by nature.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray

from scrollpast.config import FIGURES, GateOptions
from scrollpast.documents.health import Band, Breach, DayMetric, GateVerdict, Health

Floats = NDArray[np.float64]

_MAD_TO_DEVIATION, _DECILES_TO_DEVIATION = 1.4826, 1 / 2.563
_FEW_DAYS = 40.0
"""Relative increase of the spread of m days: 40 / m², because the spread of few days may be small by chance. Normal
metrics leave 5 deviations once in 3,000 days from the first band on (m = 7), once in 10,000 when m = 28."""
_WIDEST = 100.0
"""Largest half-width of a band in logarithms: e¹⁰⁰ is no bound in practice."""
_SMALL_BY_NATURE = {"engagement_rate"}
_NO_BAND = {"recorded", "seen_before_share"}
"""Metrics compared with fixed limits only: shares already cover ``recorded``, and the first days cannot repeat rows."""


def judge(
    health: Health, trailing: Mapping[str, Health], options: GateOptions, *, engagements_required: bool = True
) -> GateVerdict:
    """Compare a day's metrics with the fixed limits and, if they are enough, with the trailing days.

    Args:
        trailing: metrics of the comparable days, by day (``ds``).
        engagements_required: False removes the lower limit of the engagement rate.
    """
    breaches = list(_out_of_bounds(health, options, engagements_required))
    if len(trailing) < options.min_trailing_days:
        return GateVerdict(breaches=tuple(breaches))
    known = {breach.figure for breach in breaches}
    bands = {}
    for name, figure in _judged(health, options):
        past = [day.figures[name] for day in trailing.values() if name in day.figures]
        if name in _NO_BAND | known or len(past) < options.min_trailing_days:
            continue
        bands[name] = band = band_of(name, past, figure.cases, options)
        if not band.low <= figure.value <= band.high:
            breaches.append(Breach(figure=name, value=figure.value, **band.model_dump()))
    return GateVerdict(trailing_days=tuple(trailing), breaches=tuple(breaches), bands=bands)


def band_of(name: str, past: Sequence[DayMetric], cases: int | None, options: GateOptions) -> Band:
    """Band of a metric.

    Args:
        past: the metric on the trailing days.
        cases: denominator of the share to be compared; None for a count.
    """
    least = options.least_deviations.get(name, options.least_deviation)
    value = np.array([figure.value for figure in past])
    if cases is None:
        middle, spread = _centre(np.log(np.maximum(value, 0.5)))
        half = min(options.deviations * max(spread, least), _WIDEST)
        return Band(median=math.exp(middle), low=math.exp(middle - half), high=math.exp(middle + half))
    past_cases = np.array([figure.cases or 0 for figure in past], np.float64)
    # Half a case more on either side: a share of 0 then has a finite logit.
    with_case, without = value * past_cases + 0.5, (1 - value) * past_cases + 0.5
    middle, spread = _centre(np.log(with_case / without))
    by_chance = float(np.median(1 / with_case + 1 / without))
    deviation = max(math.sqrt(max(spread**2 - by_chance, 0.0)), least)
    half = options.deviations * deviation
    ends = [(_share_of(middle - half), _share_of(middle + half))]
    median = float(np.median(value))
    # The angle moves by √(p (1 − p)) / 2 where the logit moves by 1.
    variance = (deviation**2 * median * (1 - median) + 1 / max(cases, 1)) / 4
    angle, reach = math.asin(math.sqrt(median)), options.deviations * math.sqrt(variance)
    ends.append((math.sin(max(angle - reach, 0.0)) ** 2, math.sin(min(angle + reach, math.pi / 2)) ** 2))
    if name not in _SMALL_BY_NATURE:
        ends.append((median - options.least_difference, median + options.least_difference))
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return Band(median=median, low=max(low, 0.0), high=min(high, 1.0))


def spell_days(days: Iterable[str]) -> str:
    """Days in order, runs of them by their ends.

    >>> spell_days(["2026-11-18", "2026-11-19", "2026-11-20", "2026-11-22"])
    '2026-11-18 to 2026-11-20, 2026-11-22'
    """
    runs: list[list[date]] = []
    for day in sorted(date.fromisoformat(text) for text in days):
        if runs and (day - runs[-1][-1]).days == 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _judged(health: Health, options: GateOptions) -> list[tuple[str, DayMetric]]:
    """Metrics that are checked, in the order of their explanations."""
    return [
        (name, health.figures[name])
        for name in FIGURES
        if name in health.figures and (health.figures[name].cases or options.min_cases) >= options.min_cases
    ]


def _out_of_bounds(health: Health, options: GateOptions, engagements_required: bool) -> Iterable[Breach]:
    for name, figure in _judged(health, options):
        bounds = options.bounds.get(name)
        if bounds is None:
            continue
        low = None if name == "engagement_rate" and not engagements_required else bounds.low
        if (low is not None and figure.value < low) or (
            bounds.high is not None and figure.value > bounds.high
        ):
            yield Breach(figure=name, value=figure.value, low=low, high=bounds.high)


def _centre(values: Floats) -> tuple[float, float]:
    """Median, and the robust standard deviation around it."""
    middle = float(np.median(values))
    first, ninth = np.quantile(values, [0.1, 0.9])
    of_median = _MAD_TO_DEVIATION * float(np.median(np.abs(values - middle)))
    spread = max(of_median, _DECILES_TO_DEVIATION * float(ninth - first))
    return middle, spread * (1 + _FEW_DAYS / len(values) ** 2)


def _share_of(logit: float) -> float:
    return (1 + math.tanh(logit / 2)) / 2
