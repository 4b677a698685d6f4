"""Purity of negatives at equal yields, measured on simulated logs, where the truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrollpast.documents.purity import Purity
from scrollpast.job_commands import program_command
from scrollpast.report import plotting, wording
from scrollpast.report.inputs import Inputs
from scrollpast.report.sections import Missing, Paragraph, Plot, ReportSection, ReportTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "How pure such negatives are"


def purity(inputs: Inputs) -> ReportSection:
    """Section with the share of kept negatives that were seen and not wanted, by yield, beside plain rules."""
    found = inputs.purity
    if found is None:
        reason = "Purity is known for simulated logs only, and no results of a simulation were named."
        return ReportSection(
            "purity", TITLE, [Missing(reason, program_command("scripts/bench/bench_quality.py"))]
        )
    arms = ReportTable(
        "Ways of mining, with the same caps",
        ("negatives", "number", "of the first way's", "the user wanted the ad"),
        [
            (
                name,
                wording.count(arm.num_negatives),
                wording.share(arm.share_of_naive),
                wording.share(arm.false_share),
            )
            for name, arm in found.arms.items()
        ],
    )
    text = (
        f"Not of this day: {wording.plural(found.num_logs, 'simulated log')} of {wording.count(found.num_rows)} "
        "impressions, medians. A way that keeps fewer negatives is easily purer, so the ways are compared at equal "
        "yields: parts of the impressions without engagement. A negative is pure if the user saw the ad and did "
        "not want it."
    )
    return ReportSection("purity", TITLE, [Paragraph(text), _plot(found), arms])


def _plot(found: Purity) -> Plot:
    yields = [f"{share:.0%}" for share in found.yields]
    numbers = ReportTable(
        "Pure negatives by yield",
        ("kept first", *yields),
        [(name, *(wording.share(value) for value in values)) for name, values in found.purity.items()],
    )
    told = "; ".join(
        f"{name}: {', '.join(wording.share(value) for value in values)}"
        for name, values in found.purity.items()
    )

    def paint(figure: Figure, is_narrow: bool) -> None:
        (axes,) = plotting.grid_of(figure, 1, 1)
        places = range(len(found.yields))
        for number, (name, values) in enumerate(found.purity.items()):
            axes.plot(
                places,
                [float("nan") if value is None else value for value in values],
                color=plotting.SERIES[number % len(plotting.SERIES)],
                linestyle=plotting.LINES[number % len(plotting.LINES)],
                marker=plotting.MARKERS[number % len(plotting.MARKERS)],
                label=name,
            )
        axes.set_xticks(places, yields)
        axes.set_xlabel("yield")
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(wording.per_cent)
        plotting.legend_above(figure, axes, 1 if is_narrow else 2)

    return plotting.plot(
        "purity", f"Pure negatives by yield: {', '.join(yields)}", f"{told}.", numbers, paint, (300, 340)
    )
