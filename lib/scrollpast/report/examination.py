"""Curves of examination: the probability that a position is examined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from scrollpast.documents.examination import EstimateDocument, Surface
from scrollpast.report import plotting, wording
from scrollpast.report.inputs import Inputs
from scrollpast.report.sections import Block, Missing, Paragraph, ReportSection, ReportTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Which positions are looked at"
_MOST_PANELS = 6
_LEVELS = {"dwell": "dwell", "first": "the first position, taken as certain"}


def examination(inputs: Inputs) -> ReportSection:
    """Section with P(examined | surface, position) and 95 % intervals, and reasons for surfaces without a curve."""
    found = inputs.examined
    if found is None:
        reason = (
            "No examination was named, and the day was mined without one: every position counts as looked at."
        )
        return ReportSection("examination", TITLE, [Missing(reason, inputs.day.examination)])
    curves = dict(found.table)
    blocks: list[Block] = [Paragraph(f"From {found.uri}.")]
    if found.estimates is not None:
        surfaces = found.estimates.surfaces
        curves = {
            name: surface.estimates[surface.chosen]
            for name, surface in surfaces.items()
            if surface.chosen is not None
        }
        blocks.append(_surfaces(surfaces))
    if curves:
        blocks.append(_plot(curves))
    return ReportSection("examination", TITLE, blocks)


def _surfaces(surfaces: Mapping[str, Surface]) -> ReportTable:
    """Basis of each surface's curve, or the reason for a missing curve."""
    rows = []
    for name, surface in surfaces.items():
        curve = None if surface.chosen is None else surface.estimates[surface.chosen]
        reasons = [f"{estimator} abstains, as {reason}" for estimator, reason in surface.abstained.items()]
        rows.append(
            (
                name,
                wording.count(surface.num_impressions),
                wording.count(None if curve is None else curve.num_clicks),
                surface.chosen or "none: every position counts as looked at",
                _LEVELS.get(curve.level or "", wording.NONE) if curve is not None else wording.NONE,
                f"{surface.why}{': ' if curve is None else '. ' if reasons else ''}{'; '.join(reasons)}",
            )
        )
    columns = ("surface", "impressions", "clicks compared", "estimator", "height from", "why this one")
    return ReportTable("What the curves rest on", columns, rows, frozenset({3, 4, 5}))


def _plot(curves: Mapping[str, EstimateDocument]) -> Block:
    numbers = ReportTable(
        "Probability that a position is looked at",
        ("surface", "position", "probability", "95% interval"),
        list(_rows(curves)),
    )
    shown = dict(list(curves.items())[:_MOST_PANELS])
    rest = "" if len(shown) == len(curves) else f"; the first {len(shown)} of {len(curves)} surfaces"
    ends = ", ".join(
        f"{name} from {curve.probability[0]:.2f} at position {curve.positions[0]} to {curve.probability[-1]:.2f} "
        f"at {curve.positions[-1]}"
        for name, curve in shown.items()
        if curve.positions
    )
    title = f"Probability that an ad at a position is looked at, with 95% intervals{rest}"
    wide_rows = -(-len(shown) // 3)
    heights = (60 + 240 * wide_rows, 60 + 190 * len(shown))
    return plotting.plot("examination", title, f"{ends}.", numbers, lambda *how: _paint(shown, *how), heights)


def _rows(curves: Mapping[str, EstimateDocument]) -> Iterator[tuple[str, ...]]:
    for name, curve in curves.items():
        for position, probability, low, high in zip(
            curve.positions, curve.probability, curve.low, curve.high, strict=True
        ):
            yield name, str(position), f"{probability:.3f}", f"{low:.3f} to {high:.3f}"


def _paint(curves: Mapping[str, EstimateDocument], figure: Figure, is_narrow: bool) -> None:
    columns = 1 if is_narrow else min(3, len(curves))
    panels = plotting.grid_of(figure, len(curves), columns)
    for axes, (name, curve) in zip(panels, curves.items(), strict=True):
        axes.fill_between(
            curve.positions, curve.low, curve.high, color=plotting.SERIES[0], alpha=0.25, linewidth=0
        )
        is_short = len(curve.positions) <= 30
        axes.plot(
            curve.positions,
            curve.probability,
            color=plotting.SERIES[0],
            marker="o" if is_short else None,
            markersize=3.5,
        )
        axes.set_title(name)
        axes.set_ylim(0, 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("position (0 = first)")
    for axes in panels[::columns]:
        axes.set_ylabel("P(examined)")
