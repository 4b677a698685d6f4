"""Distribution of negatives over the ads of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scrollpast.documents.exposure import ExposureDocument, Lorenz, Slice
from scrollpast.report import plotting, wording
from scrollpast.report.inputs import Inputs
from scrollpast.report.k_anonymity import are_few, fewer_than, held_back, told_number
from scrollpast.report.sections import Block, Missing, Paragraph, ReportSection, ReportTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "How negatives fall on ads"
_ROWS = 10
_SLICES = {
    "head": "head: half of the positives",
    "tail": "tail: the other half",
    "without_positives": "without positives",
    "old": "not new",
    "new": "new",
    "not_listed": "not in the table of ads",
}
_BY_AGE = ("old", "new", "not_listed")


def exposure(inputs: Inputs) -> ReportSection:
    """Section with the Lorenz curve, the Gini coefficient, the share of the top 1 %, and slices of the catalogue."""
    found = inputs.day.exposure
    if found is None:
        return ReportSection(
            "exposure",
            TITLE,
            [Missing("The day was mined without a report of exposure.", inputs.day.mined_again)],
        )
    catalogue = (
        "the table of ads"
        if found.catalogue == "ads"
        else "the ads that records hold (no table of ads was given)"
    )
    of_which = ""
    if not are_few(_split(found), inputs.floor):
        of_which = f", of which {wording.share(found.share_of_ads_with_negatives)} have a negative"
    blocks: list[Block] = [
        Paragraph(f"The catalogue is {catalogue}: {told_number(found.num_ads, inputs.floor)} ads{of_which}.")
    ]
    hidden = _hidden(found, inputs.floor)
    without_split = _without_split(found, hidden, inputs.floor)
    found = found.model_copy(
        update={"slices": {name: part for name, part in found.slices.items() if name not in hidden}}
    )
    if found.lorenz is None:
        blocks.append(Paragraph("The day has no negatives."))
    elif found.num_ads < inputs.floor:
        blocks.append(
            Paragraph(f"The catalogue has {fewer_than(inputs.floor)} ads: the distribution is not shown.")
        )
    else:
        blocks.append(_plot(found, _thinned(found.lorenz, found.num_ads, inputs.floor), inputs.floor))
    rows = [
        (
            _SLICES.get(name, wording.words(name)),
            wording.count(part.num_ads),
            wording.count(part.num_positives),
            wording.count(part.num_negatives),
            wording.share(wording.ratio(part.num_negatives, found.num_negatives)),
            wording.share(None if name in without_split else part.share_of_ads_with_negatives),
        )
        for name, part in found.slices.items()
    ]
    if hidden:
        names = wording.listed(_SLICES.get(name, wording.words(name)).partition(":")[0] for name in hidden)
        blocks.append(
            Paragraph(f"Not shown, so that no figure rests on {fewer_than(inputs.floor)} ads: {names}.")
        )
    columns = ("ads", "number", "positives", "negatives", "of all negatives", "ads with a negative")
    return ReportSection("exposure", TITLE, [*blocks, ReportTable("Slices of the catalogue", columns, rows)])


def top_1_percent_share(found: ExposureDocument, floor: int) -> float | None:
    """Share of the negatives of the top 1 % of the ads; None where these ads are fewer than the floor."""
    return None if found.num_ads < 100 * floor else found.top_1_percent_share


def _hidden(found: ExposureDocument, floor: int) -> list[str]:
    """Slices that are not shown; the slices by age and the slices by positives each partition the catalogue."""
    held = frozenset[str]().union(
        *(held_back({name: part.num_ads for name, part in whole.items()}, floor) for whole in _wholes(found))
    )
    return [name for name in found.slices if name in held]


def _without_split(found: ExposureDocument, hidden: Sequence[str], floor: int) -> frozenset[str]:
    """Slices whose number of ads with a negative is not shown: one split would reveal the others of its partition."""
    untold: frozenset[str] = frozenset()
    for whole in _wholes(found):
        splits = [_split(part) for name, part in whole.items() if name not in hidden]
        of_hidden = [_split(part) for name, part in whole.items() if name in hidden]
        rest = [sum(side) for side in zip(*of_hidden, strict=True)]
        if any(are_few(split, floor) for split in (*splits, rest)):
            untold |= frozenset(whole)
    return untold


def _split(part: ExposureDocument | Slice) -> tuple[int, int]:
    """Numbers of ads with and without a negative."""
    having = round(part.num_ads * (part.share_of_ads_with_negatives or 0.0))
    return having, part.num_ads - having


def _wholes(found: ExposureDocument) -> list[dict[str, Slice]]:
    """Slices by positives, and slices by age: each set partitions the catalogue."""
    return [
        {name: part for name, part in found.slices.items() if (name in _BY_AGE) is is_by_age}
        for is_by_age in (False, True)
    ]


def _thinned(lorenz: Lorenz, num_ads: int, floor: int) -> Lorenz:
    """Curve thinned to points with at least ``floor`` ads between neighbours."""
    kept = [0]
    for place in range(1, len(lorenz.ads) - 1):
        beside = (lorenz.ads[place] - lorenz.ads[kept[-1]], 1 - lorenz.ads[place])
        if round(min(beside) * num_ads) >= floor:
            kept.append(place)
    kept.append(len(lorenz.ads) - 1)
    return Lorenz(ads=[lorenz.ads[at] for at in kept], negatives=[lorenz.negatives[at] for at in kept])


def _plot(found: ExposureDocument, lorenz: Lorenz, floor: int) -> Block:
    told = f"Gini coefficient {wording.decimal(found.gini, 3)} (0: every ad has as many, 1: one ad has all)"
    if (of_top := top_1_percent_share(found, floor)) is not None:
        told += f"; the top 1% of the ads have {wording.share(of_top)} of the negatives"
    told += "."
    every = max(1, len(lorenz.ads) // _ROWS)
    places = [place for place in range(len(lorenz.ads)) if place % every == 0 or place == len(lorenz.ads) - 1]
    numbers = ReportTable(
        "The ads with the fewest negatives, and their part of all negatives",
        ("ads", "negatives"),
        [(f"{lorenz.ads[place]:.0%}", wording.share(lorenz.negatives[place])) for place in places],
    )

    def paint(figure: Figure, is_narrow: bool) -> None:
        panels = plotting.grid_of(figure, 2, 1 if is_narrow else 2)
        _paint_lorenz(panels[0], lorenz)
        _paint_slices(panels[1], found)

    return plotting.plot(
        "exposure",
        "Lorenz curve of negatives over ads, and the parts that slices of the catalogue have",
        told,
        numbers,
        paint,
        (380, 640),
    )


def _paint_lorenz(axes: Axes, lorenz: Lorenz) -> None:
    axes.plot([0, 1], [0, 1], color=plotting.MUTED, linewidth=1.2, linestyle="--")
    axes.fill_between(
        lorenz.ads, lorenz.negatives, lorenz.ads, color=plotting.SERIES[0], alpha=0.18, linewidth=0
    )
    axes.plot(lorenz.ads, lorenz.negatives, color=plotting.SERIES[0])
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("ads, those with the fewest negatives first")
    axes.set_ylabel("negatives")
    axes.xaxis.set_major_formatter(wording.per_cent)
    axes.yaxis.set_major_formatter(wording.per_cent)
    axes.set_title("dashed: every ad as many")


def _paint_slices(axes: Axes, found: ExposureDocument) -> None:
    slices = {name: part for name, part in found.slices.items() if part.num_ads}
    kinds = (("ads", "num_ads", found.num_ads), ("positives", "num_positives", found.num_positives),
             ("negatives", "num_negatives", found.num_negatives))  # fmt: skip
    colours = (plotting.MUTED, plotting.SERIES[2], plotting.SERIES[0])
    for place, ((label, field, whole), colour) in enumerate(zip(kinds, colours, strict=True)):
        shares = [wording.ratio(getattr(part, field), whole) or 0.0 for part in slices.values()]
        heights = [row + (place - 1) * 0.26 for row in range(len(slices))]
        axes.barh(heights, shares, height=0.22, color=colour, label=f"of the {label}")
    axes.set_yticks(range(len(slices)), [wording.words(name) for name in slices])
    axes.tick_params(axis="y", length=0, labelcolor=plotting.INK)
    axes.set_ylim(len(slices) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(wording.per_cent)
    axes.locator_params(axis="x", nbins=5)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=3,
        borderaxespad=0.2,
        columnspacing=1.0,
        handlelength=1.0,
    )
