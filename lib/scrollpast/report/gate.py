"""Day metrics with the ranges that the gate expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scrollpast.config import FIGURES
from scrollpast.documents.health import Band, Health, shown
from scrollpast.report import plotting, wording
from scrollpast.report.inputs import Inputs, ReportedDay
from scrollpast.report.sections import Block, Missing, Paragraph, Plot, ReportSection, ReportTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "The gate"
_FARTHEST = 1.6
"""Largest distance of a plotted metric from the middle of its band, in half-widths."""


def gate(inputs: Inputs) -> ReportSection:
    """Section with every metric of the day, its band, its limit and its verdict."""
    day = inputs.day
    if day.health is None:
        return ReportSection(
            "gate", TITLE, [Missing("The day was mined without figures of its health.", day.mined_again)]
        )
    blocks: list[Block] = [Paragraph(_told(day.health))]
    bands = day.health.gate.bands if day.health.gate is not None else {}
    banded = {name: band for name, band in bands.items() if name in day.health.figures}
    if banded:
        blocks.append(_plot(day.health, banded))
    blocks.append(_table(day, day.health, bands))
    return ReportSection("gate", TITLE, blocks)


def verdict(health: Health | None) -> tuple[str, str]:
    """Verdict of the gate in a few words, and the limits that it used."""
    if health is None or health.gate is None:
        return "not judged", "no gate when it was mined"
    days = len(health.gate.trailing_days)
    went_by = (
        f"compared with {wording.plural(days, 'day')}" if days else "fixed limits only: too few days before"
    )
    if not health.gate.breaches:
        return "passed", went_by
    return f"{len(health.gate.breaches)} out", went_by


def _told(health: Health) -> str:
    if health.gate is None:
        return "The gate was switched off when the day was mined; these are the figures that it compares."
    days = health.gate.trailing_days
    if not days:
        text = "Too few comparable days were published before this day to make bands: only fixed limits were checked."
    else:
        text = (
            f"Bands were made from {wording.plural(len(days), 'trailing day')}, {min(days)} to {max(days)}."
        )
    if not health.gate.breaches:
        return f"{text} Every figure was in its expected range."
    names = wording.listed([wording.words(breach.figure) for breach in health.gate.breaches])
    return f"{text} Outside the expected range: {names}."


def _table(day: ReportedDay, health: Health, bands: Mapping[str, Band]) -> ReportTable:
    breached = {breach.figure for breach in health.gate.breaches} if health.gate is not None else set()
    judged = health.gate is not None
    rows = []
    for name in [*FIGURES, *(name for name in health.figures if name not in FIGURES)]:
        figure = health.figures.get(name)
        if figure is None:
            continue
        band = bands.get(name)
        bound = _bound(day.manifest.config, name)
        is_held = judged and (band is not None or bound is not None)
        around = (
            shown(name, band.median) if band else wording.NONE,
            f"{shown(name, band.low)} to {shown(name, band.high)}" if band else wording.NONE,
        )
        rows.append(
            (
                wording.words(name),
                shown(name, figure.value),
                wording.count(figure.cases),
                *(around if bands else ()),
                bound or wording.NONE,
                ("out" if name in breached else "in") if is_held else wording.NONE,
                FIGURES.get(name, ""),
            )
        )
    columns = ("figure", "value", "cases", *(("median before", "band") if bands else ()), "bound", "verdict")
    words = frozenset(range(len(columns) - 2, len(columns) + 1))
    return ReportTable("The figures of the day", (*columns, "share of, or what it counts"), rows, words)


def _bound(config: Mapping[str, Any], name: str) -> str | None:
    """Text of a metric's configured limit."""
    options = config.get("gate")
    bounds = options.get("bounds") if isinstance(options, dict) else None
    bound = bounds.get(name) if isinstance(bounds, dict) else None
    if not isinstance(bound, dict):
        return None
    ends = [
        f"{word} {shown(name, bound[end])}"
        for end, word in (("low", "at least"), ("high", "at most"))
        if isinstance(bound.get(end), int | float)
    ]
    return ", ".join(ends) or None


def _plot(health: Health, bands: Mapping[str, Band]) -> Plot:
    places = {name: _place(health.figures[name].value, band) for name, band in bands.items()}
    num_out = sum(abs(place) > 1 for place in places.values())
    description = f"{len(places)} figures with a band, {num_out} of them outside."
    numbers = ReportTable(
        "Place of each figure in its band: −1 its lower end, 0 the median before, 1 its upper end",
        ("figure", "place in the band"),
        [
            (wording.words(name), f"{place:+.2f}".replace("-", "\N{MINUS SIGN}"))
            for name, place in places.items()
        ],
    )

    def paint(figure: Figure, is_narrow: bool) -> None:
        axes = figure.subplots()
        axes.axvspan(-1, 1, color=plotting.SERIES[0], alpha=0.12, linewidth=0)
        axes.axvline(0, color=plotting.MUTED, linewidth=1)
        for row, place in enumerate(places.values()):
            is_out = abs(place) > 1
            axes.plot(
                min(max(place, -_FARTHEST), _FARTHEST),
                row,
                marker="D" if is_out else "o",
                markersize=7 if is_out else 6,
                color=plotting.SERIES[1] if is_out else plotting.SERIES[0],
            )
        axes.set_yticks(range(len(places)), [wording.words(name) for name in places])
        axes.tick_params(axis="y", length=0, labelcolor=plotting.INK)
        axes.set_ylim(len(places) - 0.4, -0.6)
        axes.set_xlim(-_FARTHEST - 0.1, _FARTHEST + 0.1)
        ends = ("low", "median", "high") if is_narrow else ("lower end", "median before", "upper end")
        axes.set_xticks([-1, 0, 1], ends)
        axes.grid(visible=False, axis="x")

    height = 60 + 22 * len(places)
    return plotting.plot(
        "gate", "Where each figure lies in its band", description, numbers, paint, (height, height)
    )


def _place(value: float, band: Band) -> float:
    end = band.high if value >= band.median else band.low
    width = abs(end - band.median)
    return (value - band.median) / width if width else 0.0
