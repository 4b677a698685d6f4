"""Trend over days: shares of outcomes, engagement, negatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from scrollpast.report import plotting, wording
from scrollpast.report.funnel import in_order
from scrollpast.report.inputs import Inputs
from scrollpast.report.revocations import share_revoked
from scrollpast.report.sections import Block, Missing, Paragraph, ReportSection, ReportTable
from scrollpast.shards.manifest import Manifest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Day by day"


def trend(inputs: Inputs) -> ReportSection:
    """Section with the figures of every named day, or of every day in the reported day's folder."""
    if len(inputs.days) < 2:
        return ReportSection(
            "trend", TITLE, [Missing("No other day is published in the same folder.", inputs.day.day_before)]
        )
    days = inputs.days
    figures: dict[str, Sequence[float | None]] = {
        "impressions": [float(sum(day.ledger.values())) for day in days],
        "engagement rate": [_engagement_rate(day) for day in days],
        "negatives a positive": [wording.ratio(day.num_negatives, day.num_positives) for day in days],
    }
    if any(day.num_revoked for day in days):
        figures["revoked"] = [share_revoked(day) for day in days]
    for outcome in in_order(days[-1].ledger):
        shares = [_outcome_share(day, outcome) for day in days]
        if any(shares):
            figures[wording.words(outcome)] = shares
    origin = "named" if inputs.are_days_named else "published in the same folder"
    lengths = {_length(day) for day in days}
    told = f"{wording.plural(len(days), 'day')} {origin}, {days[0].ds} to {days[-1].ds}."
    if len(lengths) > 1:
        told += " Their windows differ in length."
    blocks: list[Block] = [Paragraph(told)]
    if inputs.left_out:
        blocks.append(
            Paragraph(f"Left out, as their manifests cannot be read: {wording.listed(inputs.left_out)}.")
        )
    numbers = ReportTable(
        "Shares of outcomes are of all impressions of the day; shares of revoked negatives are of all negatives",
        ("day", *figures),
        [
            (day.ds, *(_shown(name, values[place]) for name, values in figures.items()))
            for place, day in enumerate(days)
        ],
    )
    rows_wide, rows_narrow = -(-len(figures) // 4), -(-len(figures) // 2)
    plot = plotting.plot(
        "trend",
        "Figures of the days, each on its own scale; the filled point is the day of this report",
        f"{len(figures)} panels over {len(days)} days, {days[0].ds} to {days[-1].ds}.",
        numbers,
        lambda figure, is_narrow: _paint(inputs.day.manifest.ds, days, figures, figure, is_narrow=is_narrow),
        (20 + 125 * rows_wide, 20 + 120 * rows_narrow),
    )
    return ReportSection("trend", TITLE, [*blocks, plot])


def _engagement_rate(day: Manifest) -> float | None:
    """Share of positives in all valid impressions."""
    return wording.ratio(
        day.ledger.get("positive", 0), sum(day.ledger.values()) - day.ledger.get("invalid", 0)
    )


def _outcome_share(day: Manifest, outcome: str) -> float | None:
    return wording.ratio(day.ledger.get(outcome, 0), sum(day.ledger.values()))


def _length(day: Manifest) -> float:
    return (datetime.fromisoformat(day.window_end) - datetime.fromisoformat(day.window_start)).total_seconds()


def _shown(name: str, value: float | None) -> str:
    if name == "impressions":
        return wording.count(value)
    return wording.decimal(value, 2) if name == "negatives a positive" else wording.share(value)


def _paint(
    ds: str,
    days: Sequence[Manifest],
    figures: Mapping[str, Sequence[float | None]],
    figure: Figure,
    *,
    is_narrow: bool,
) -> None:
    columns = 2 if is_narrow else 4
    panels = plotting.grid_of(figure, len(figures), columns)
    places = list(range(len(days)))
    own = [day.ds for day in days].index(ds)
    for axes, (name, values) in zip(panels, figures.items(), strict=True):
        known = [(place, value) for place, value in zip(places, values, strict=True) if value is not None]
        axes.plot(
            *zip(*known, strict=True) if known else ([], []),
            color=plotting.SERIES[0],
            linewidth=1.5,
            marker="o",
            markersize=4,
            markerfacecolor=plotting.SURFACE,
        )
        if (of_day := values[own]) is not None:
            axes.plot(own, of_day, marker="o", markersize=6, color=plotting.SERIES[1])
        most = max((value for _, value in known), default=0.0)
        axes.set_ylim(0, most * 1.15 or 1)
        axes.set_xlim(-0.3, len(days) - 0.7)
        axes.set_xticks([0, len(days) - 1], [days[0].ds[5:], days[-1].ds[5:]])
        axes.locator_params(axis="y", nbins=3)
        axes.yaxis.set_major_formatter(_axis_format(name))
        axes.set_title(name)


def _axis_format(name: str) -> Callable[[float, object], str]:
    if name in ("impressions", "negatives a positive"):
        return wording.brief
    return wording.per_cent
