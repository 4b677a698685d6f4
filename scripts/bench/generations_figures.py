"""Table and plot of the results of bench_generations.py."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

Found = dict[str, list[list[dict[str, float]]]]
"""Figures by name, for each arm, seed and generation. The first arm is the baseline of the other arms."""

WANTED, SEARCHED, NEW_H = 50, 100, 48
"""Number of a user's most wanted ads; number of ads retrieved; hours for which an ad is new."""
MEASURES = {
    "recall, all ads": "all",
    f"recall, ads of the last {NEW_H} h": "new",
    "recall, tail ads": "tail",
    "recall, head ads": "head",
    "new ads among negatives": "new_negatives",
    "new ads among impressions": "new_shown",
    "ads shown on the day": "shown",
    "Gini of impressions": "gini",
}
"""Figures by their titles in the table."""
_PANELS = {"all": "all ads", "new": f"ads of the last {NEW_H} h", "tail": "tail ads"}
_LOOKS = (("#b35900", "s"), ("#0b63a8", "o"))
"""Colour and marker of an arm; the markers differ for readers who do not see the colours."""


def render(found: Found) -> str:
    """Table by generation: mean, minimum and maximum over the seeds, then paired differences from the baseline."""
    base, *others = found
    num_generations = len(found[base][0])
    heading = "".join(f"{f'generation {number}':>24}" for number in range(1, num_generations + 1))
    lines = [f"{'':<28}{heading}"]
    for title, name in MEASURES.items():
        lines.append(title)
        rows = {
            arm: [[generations[number][name] for generations in runs] for number in range(num_generations)]
            for arm, runs in found.items()
        }
        for arm, row in rows.items():
            cells = [f"{mean(values):.4f} ({min(values):.3f}–{max(values):.3f})" for values in row]
            lines.append(f"  {arm:<26}" + "".join(f"{cell:>24}" for cell in cells))
        for arm in others:
            cells = []
            for ours, theirs in zip(rows[arm], rows[base], strict=True):
                values = [here - there for here, there in zip(ours, theirs, strict=True)]
                cells.append(f"{mean(values):+.4f} ({min(values):+.3f}–{max(values):+.3f})")
            lines.append(f"  {'difference':<26}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines) + "\n"


def plot(found: Found, path: Path) -> None:
    """Plot recall over the generations: lines are means over the seeds, bands span minimum to maximum."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "generations", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(9.6, 3.2), layout="constrained")
        all_axes: Any = figure.subplots(1, len(_PANELS))
        numbers = np.arange(1, len(next(iter(found.values()))[0]) + 1)
        for axes, (name, title) in zip(all_axes, _PANELS.items(), strict=True):
            for (colour, marker), (arm, runs) in zip(_LOOKS, found.items(), strict=True):
                values = np.array([[figures[name] for figures in generations] for generations in runs])
                least, most = values.min(axis=0), values.max(axis=0)
                axes.fill_between(numbers, least, most, color=colour, alpha=0.2, linewidth=0)
                axes.plot(numbers, values.mean(axis=0), color=colour, marker=marker, label=arm)
            axes.set_title(title)
            axes.set_xlabel("generation")
            axes.set_xticks(numbers)
            axes.set_ylim(bottom=0)
            axes.spines[["top", "right"]].set_visible(False)
        all_axes[0].set_ylabel(f"recall@{SEARCHED} of the {WANTED} most wanted")
        all_axes[0].legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})
