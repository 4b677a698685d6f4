"""Funnel: counts of the day's impressions by outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrollpast.outcomes import Outcome
from scrollpast.report import plotting, wording
from scrollpast.report.inputs import Inputs
from scrollpast.report.sections import Block, Missing, Paragraph, ReportSection, ReportTable
from scrollpast.shards.manifest import Manifest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KEPT = {Outcome.NEGATIVE.label: 0, Outcome.EXPLICIT_NEGATIVE.label: 0, Outcome.POSITIVE.label: 2}
"""Outcomes that are part of records, by the index of their colour."""


def funnel(inputs: Inputs) -> ReportSection:
    """Section with all outcomes in the order of decision; their counts add up to the impressions."""
    ledger, total = in_order(inputs.day.manifest.ledger), sum(inputs.day.manifest.ledger.values())
    if not total:
        missing = Missing("The day's ledger counts no impressions.", inputs.day.mined_again)
        return ReportSection("funnel", "What became of the impressions", [missing])
    meanings = {outcome.label: outcome.meaning for outcome in Outcome}
    rows, left = [], total
    for name, number in ledger.items():
        left -= number
        rows.append(
            (
                wording.words(name),
                wording.count(number),
                wording.share(number / total),
                wording.count(left),
                meanings.get(name, ""),
            )
        )
    table = ReportTable(
        "Impressions by outcome, in the order in which outcomes are decided",
        ("outcome", "impressions", "share", "left", "meaning"),
        rows,
        frozenset({4}),
        ("total", wording.count(total), wording.share(1.0), "", "every impression of the window, once"),
    )
    negatives = ledger.get("negative", 0)
    title = "Each outcome takes its impressions from those that the outcomes above it left"
    description = (
        f"Bars from {wording.count(total)} impressions down to {wording.count(negatives)} negatives, "
        f"{wording.share(negatives / total)} of them."
    )
    plot = plotting.plot("funnel", title, description, table, lambda *how: _paint(ledger, *how), (400, 370))
    blocks: list[Block] = [
        Paragraph(
            f"Each of the {wording.count(total)} impressions ended with exactly one of {len(ledger)} outcomes. "
            + _records(inputs.day.manifest)
        ),
        plot,
    ]
    return ReportSection("funnel", "What became of the impressions", blocks)


def in_order(ledger: dict[str, int]) -> dict[str, int]:
    """Counts of all outcomes, in the order of decision; unknown outcomes come last."""
    known = {outcome.label: ledger.get(outcome.label, 0) for outcome in Outcome}
    return known | {name: number for name, number in ledger.items() if name not in known}


def _records(manifest: Manifest) -> str:
    """Sentence with the counts of impressions in records."""
    served, explicit = manifest.ledger.get("negative", 0), manifest.ledger.get("explicit_negative", 0)
    return (
        f"{wording.count(manifest.ledger.get('positive', 0))} are positives; {wording.count(served)} are hard "
        f"negatives, and {wording.count(explicit)} were hidden or reported."
    )


def _paint(ledger: dict[str, int], figure: Figure, is_narrow: bool) -> None:
    axes = figure.subplots()
    total = left = sum(ledger.values())
    for place, (name, number) in enumerate(ledger.items()):
        left -= number
        colour = plotting.SERIES[_KEPT[name]] if name in _KEPT else plotting.MUTED
        axes.barh(place, number, left=left, color=colour, height=0.72)
        # Beside the axes, aligned to the right like the numbers of a table.
        cells = [(1.24, wording.share(number / total))]
        if not is_narrow:
            cells = [(1.12, wording.count(number)), (1.2, wording.share(number / total))]
        for at, cell in cells:
            axes.text(at, place, cell, transform=axes.get_yaxis_transform(), va="center", ha="right")
    axes.set_yticks(range(len(ledger)), [wording.words(name) for name in ledger])
    axes.tick_params(axis="y", length=0, labelcolor=plotting.INK)
    axes.set_ylim(len(ledger) - 0.4, -0.6)
    axes.set_xlim(0, total)
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=3 if is_narrow else 6)
    axes.xaxis.set_major_formatter(wording.brief)
    axes.set_xlabel("impressions left")
