"""Dwell of ads without a click, and the thresholds between unseen, seen and lingered on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrollpast.documents.examination import DwellMixtureDocument, Surface
from scrollpast.report import plotting, wording
from scrollpast.report.inputs import Inputs
from scrollpast.report.sections import Block, Missing, Paragraph, Plot, ReportSection, ReportTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "How long ads without a click were in view"
_MOST_SURFACES = 4
_TAIL = 0.0005
"""Share of the impressions beyond each end of the plot."""
_BINS_IN_TABLE = 24
_OPTIONS = ("min_dwell_ms", "max_dwell_ms")


def dwell(inputs: Inputs) -> ReportSection:
    """Section with the distribution of dwell by surface, with the used and the offered thresholds."""
    found = inputs.examined
    surfaces = (
        {
            name: surface
            for name, surface in found.estimates.surfaces.items()
            if sum(surface.dwell_histogram.num_impressions)
        }
        if found is not None and found.estimates is not None
        else {}
    )
    if not surfaces:
        reason = (
            "The distribution of dwell is part of an estimated examination, and no examination was named "
        )
        "with --examination."
        if found is not None and found.estimates is not None:
            reason = "No impression without a click has a known dwell."
        return ReportSection("dwell", TITLE, [Missing(reason, inputs.day.examination)])
    blocks: list[Block] = [_thresholds(inputs, surfaces)]
    if len(surfaces) > _MOST_SURFACES:
        blocks.append(Paragraph(f"The plots show the first {_MOST_SURFACES} of {len(surfaces)} surfaces."))
    for number, (name, surface) in enumerate(list(surfaces.items())[:_MOST_SURFACES]):
        blocks.append(_plot(number, name, surface, used_ms(inputs, name)))
    return ReportSection("dwell", TITLE, blocks)


def used_ms(inputs: Inputs, surface: str) -> dict[str, float]:
    """Thresholds of a surface that the day was mined with, by option."""
    examined: Mapping[str, Any] = inputs.day.examined
    of_surfaces = examined.get("surfaces")
    own = of_surfaces.get(surface) if isinstance(of_surfaces, dict) else None
    merged = {**examined, **{k: v for k, v in (own or {}).items() if v is not None}}
    return {name: float(merged[name]) for name in _OPTIONS if isinstance(merged.get(name), int | float)}


def _thresholds(inputs: Inputs, surfaces: Mapping[str, Surface]) -> ReportTable:
    rows = []
    for name, surface in surfaces.items():
        used = used_ms(inputs, name)
        rows.append(
            (
                name,
                *(wording.count(used.get(option)) for option in _OPTIONS),
                *(wording.count(surface.thresholds_ms.get(option)) for option in _OPTIONS),
            )
        )
    columns = ("surface", *(f"{option}, used" for option in _OPTIONS), *(f"{o}, offered" for o in _OPTIONS))
    return ReportTable(
        "Thresholds in ms: used in mining the day, and offered by the distribution",
        columns,
        rows,
    )


def _plot(number: int, name: str, surface: Surface, used: Mapping[str, float]) -> Plot:
    histogram = surface.dwell_histogram
    at, counts = np.array(histogram.dwell_ms), np.array(histogram.num_impressions)
    parts = "" if surface.dwell is None else f" The mixture has {len(surface.dwell.means)} components."
    offered = "; ".join(f"{option} {value:,} ms" for option, value in surface.thresholds_ms.items())
    median = at[int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))]
    description = (
        f"{wording.count(counts.sum())} impressions, half of them in view for less than {median:,.0f} ms.{parts} "
        f"Offered: {offered or 'no threshold'}."
    )
    numbers = ReportTable(
        f"{name}: impressions without a click by dwell",
        ("dwell from, ms", "to, ms", "impressions", "share"),
        list(_bins(at, counts)),
    )
    return plotting.plot(
        f"dwell-{number}",
        f"{name}: impressions without a click by dwell",
        description,
        numbers,
        lambda figure, is_narrow: _paint(surface, used, figure, is_narrow=is_narrow),
        (300, 290),
    )


def _bins(at: NDArray[np.float64], counts: NDArray[np.float64]) -> Iterator[tuple[str, ...]]:
    """Distribution in few bins, each of which joins many bins of the histogram."""
    first, last = _visible(counts)
    edges = np.unique(np.linspace(first, last + 1, _BINS_IN_TABLE + 1).astype(int))
    # All impressions are counted: the outer bins are unbounded.
    edges[0], edges[-1] = 0, len(counts)
    half = (at[1:] - at[:-1]) / 2
    bounds = np.concatenate([[0.0], at[:-1] + half, [at[-1] + half[-1]]])
    for low, high in pairwise(edges.tolist()):
        inside = counts[low:high].sum()
        yield (
            f"{bounds[low]:,.0f}",
            f"{bounds[high]:,.0f}",
            wording.count(inside),
            wording.share(wording.ratio(inside, counts.sum())),
        )


def _visible(counts: NDArray[np.float64]) -> tuple[int, int]:
    """First and last bin of the plot."""
    passed = np.cumsum(counts) / counts.sum()
    return int(np.searchsorted(passed, _TAIL)), int(np.searchsorted(passed, 1 - _TAIL))


def _paint(surface: Surface, used: Mapping[str, float], figure: Figure, *, is_narrow: bool) -> None:
    axes = figure.subplots()
    histogram = surface.dwell_histogram
    at, counts = np.array(histogram.dwell_ms), np.array(histogram.num_impressions)
    axes.fill_between(
        at, counts, color=plotting.SERIES[0], alpha=0.3, linewidth=0, step="mid", label="counted"
    )
    if surface.dwell is not None:
        for number, density in enumerate(_densities(surface.dwell, at)):
            axes.plot(
                at,
                density * counts.sum(),
                color=plotting.SERIES[0],
                linestyle=plotting.LINES[number % len(plotting.LINES)],
                linewidth=1.3,
                label=f"component {number + 1}",
            )
    for option, value in used.items():
        _threshold(axes, value, f"{option} {value:,.0f}, used", plotting.INK, option == "min_dwell_ms")
    for option, value in surface.thresholds_ms.items():
        _threshold(
            axes, value, f"{option} {value:,}, offered", plotting.SERIES[1], option == "min_dwell_ms", "--"
        )
    first, last = _visible(counts)
    ends = [
        at[first],
        at[last],
        *(value for value in [*used.values(), *surface.thresholds_ms.values()] if value > 0),
    ]
    axes.set_xscale("log")
    axes.set_xlim(max(min(ends) / 1.1, 1.0), max(ends) * 1.1)
    axes.set_ylim(0)
    axes.xaxis.set_major_formatter(wording.brief_ms)
    axes.yaxis.set_major_formatter(wording.brief)
    axes.set_xlabel("dwell")
    axes.set_ylabel("impressions a bin of 5%")
    plotting.legend_above(figure, axes, 2 if is_narrow else 4)


def _threshold(axes: Axes, value: float, label: str, colour: str, is_lower: bool, line: str = "-") -> None:
    axes.axvline(
        value,
        color=colour,
        linestyle=line if is_lower else {"-": "-.", "--": ":"}[line],
        linewidth=1.6,
        label=label,
    )


def _densities(mixture: DwellMixtureDocument, at: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Share of every component in each bin: its normal density of log(1 + dwell) times the bin's width."""
    logarithm = np.log1p(at)
    width = np.gradient(logarithm)
    for share, mean, spread in zip(mixture.shares, mixture.means, mixture.spreads, strict=True):
        standard = (logarithm - mean) / spread
        yield share * np.exp(-0.5 * standard**2) / (spread * np.sqrt(2 * np.pi)) * width
