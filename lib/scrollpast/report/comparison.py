"""Comparison of negatives: arms that differ in their negatives only, compared with a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrollpast.documents.comparison import ComparisonDocument, Row
from scrollpast.job_commands import job_command
from scrollpast.report import plotting, wording
from scrollpast.report.inputs import Inputs
from scrollpast.report.k_anonymity import are_few, fewer_than, is_of_part, untold_user_parts
from scrollpast.report.sections import Block, Missing, Paragraph, Plot, ReportSection, ReportTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Which negatives helped"
_LOOKS = {
    "better": (plotting.SERIES[2], "^"),
    "worse": (plotting.SERIES[1], "v"),
    "no difference shown": (plotting.MUTED, "o"),
}
"""Colour and marker by verdict"""


def comparison(inputs: Inputs) -> ReportSection:
    """Section with the table of verdicts, and the differences with their intervals."""
    found = inputs.comparison
    if found is None:
        command = job_command("compare_negatives", "--config", "FILE", "--out", "FOLDER")
        return ReportSection("comparison", TITLE, [Missing("No comparison was named.", command)])
    if found.num_users < inputs.floor:
        command = job_command("write_report", inputs.day.uri, "--comparison", "FOLDER", "--floor", 1)
        reason = f"The comparison rests on {fewer_than(inputs.floor)} users, of whom nothing is shown."
        return ReportSection(
            "comparison",
            TITLE,
            [
                Missing(
                    reason,
                    command,
                )
            ],
        )
    untold = untold_user_parts(found.num_new_users, found.num_users, inputs.floor)
    found = found.model_copy(
        update={
            "rows": [
                row
                for row in found.rows
                if not are_few([row.num_users], inputs.floor) and not is_of_part(row.metric, untold)
            ],
            "metrics": {name: about for name, about in found.metrics.items() if not is_of_part(name, untold)},
        }
    )
    of_new = "" if untold else f" ({wording.count(found.num_new_users)} of them new)"
    baseline = found.baseline
    name = f"{baseline.arm}, {baseline.ratio} own" if baseline.ratio else baseline.arm
    blocks: list[Block] = [
        Paragraph(
            f"Compared with “{name}”, on {wording.count(found.num_users)} users"
            f"{of_new} and {wording.count(found.num_ads)} ads, with "
            f"{wording.plural(len(found.seeds), 'seed')}. “2 own” means two draws of the user's own negatives for one "
            f"positive. The intervals of differences hold for all {found.num_verdicts:,} differences at once with 95%; "
            "a verdict is given where this interval excludes zero."
            + (
                " Baselines rank without training; the intervals of their differences hold among themselves."
                if found.baselines
                else ""
            )
        )
    ]
    if any(row.difference is not None and row.arm not in found.baselines for row in found.rows):
        blocks.append(_plot(found, name))
    if untold:
        reason = f"Metrics of new and of known users are not shown: one of them has {fewer_than(inputs.floor)} users."
        blocks.append(Paragraph(reason))
    blocks.append(_table(found))
    blocks.extend(Paragraph(f"Left out: {skipped.arm}, {skipped.reason}.") for skipped in found.skipped)
    blocks.extend(Paragraph(f"Note: {note}.") for note in found.notes)
    return ReportSection("comparison", TITLE, blocks)


def _table(found: ComparisonDocument) -> ReportTable:
    rows = [
        (
            row.metric,
            row.name,
            wording.decimal(row.value),
            wording.interval(row.low, row.high),
            wording.signed(row.difference),
            wording.signed_interval(row.joint_low, row.joint_high),
            row.verdict or ("baseline" if row.value is not None else wording.NONE),
        )
        for row in found.rows
    ]
    columns = (
        "metric", "negatives", "value", "95% interval", "difference", "95% for all at once", "verdict",
    )  # fmt: skip
    return ReportTable("The arms of the comparison", columns, rows, frozenset({1, 6}))


def _plot(found: ComparisonDocument, baseline: str) -> Plot:
    by_metric = {
        metric: [
            row
            for row in found.rows
            # The differences of baselines are many times those of arms: on one axis the arms would be one point.
            if row.metric == metric and row.difference is not None and row.arm not in found.baselines
        ]
        for metric in found.metrics
    }
    by_metric = {metric: rows for metric, rows in by_metric.items() if rows}
    told = "; ".join(
        f"{metric}: {', '.join(f'{row.name} {row.verdict}' for row in rows)}"
        for metric, rows in by_metric.items()
    )
    numbers = ReportTable(
        f"Differences from {baseline}, with intervals that hold for all of them at once",
        ("metric", "negatives", "difference", "interval", "verdict"),
        [
            (
                row.metric,
                row.name,
                wording.signed(row.difference),
                wording.signed_interval(row.joint_low, row.joint_high),
                row.verdict or wording.NONE,
            )
            for rows in by_metric.values()
            for row in rows
        ],
        frozenset({1, 4}),
    )

    def paint(figure: Figure, is_narrow: bool) -> None:
        columns = 1 if is_narrow else 2
        panels = plotting.grid_of(figure, len(by_metric), columns)
        for place, (axes, (metric, rows)) in enumerate(zip(panels, by_metric.items(), strict=True)):
            axes.axvline(0, color=plotting.INK, linewidth=1)
            for height, row in enumerate(rows):
                _paint_row(axes, height, row)
            # Neighbouring columns share the names of the arms.
            is_first = place % columns == 0
            axes.set_yticks(range(len(rows)), [row.name if is_first else "" for row in rows])
            axes.tick_params(axis="y", length=0, labelcolor=plotting.INK)
            axes.set_ylim(len(rows) - 0.4, -0.6)
            axes.grid(visible=False, axis="y")
            axes.locator_params(axis="x", nbins=4)
            lower = ", lower is better" if found.metrics[metric].better == "lower" else ""
            axes.set_title(f"{metric}{lower}")

    most = max(map(len, by_metric.values()))
    panel = 56 + 20 * most
    heights = (20 + panel * -(-len(by_metric) // 2), 20 + panel * len(by_metric))
    title = f"Difference from “{baseline}”: ▲ better, ▼ worse, ● no difference shown"
    return plotting.plot("comparison", title, f"{told}.", numbers, paint, heights)


def _paint_row(axes: Axes, height: int, row: Row) -> None:
    assert row.difference is not None
    colour, marker = _LOOKS.get(row.verdict or "", (plotting.MUTED, "o"))
    if row.joint_low is not None and row.joint_high is not None:
        axes.plot([row.joint_low, row.joint_high], [height, height], color=colour, linewidth=1.8)
    axes.plot(row.difference, height, marker=marker, markersize=7, color=colour)
