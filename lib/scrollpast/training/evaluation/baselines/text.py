"""Text table of baselines beside a model."""

from __future__ import annotations

from collections.abc import Mapping

from scrollpast.documents.evaluation import MeanEstimate
from scrollpast.training.evaluation.metric_registry import JUDGE

SHOWN = (JUDGE, "recall@100", "auc", "truth/P(want)@10")
"""Metrics of the text table; JSON has all."""

Estimates = Mapping[str, MeanEstimate | None]


def baseline_table(
    model: Estimates, baselines: Mapping[str, Estimates], oracle: Estimates | None = None
) -> list[str]:
    """Lines of at most 84 columns: the model, each baseline, and the oracle of a simulated log."""
    metrics = {name: name.rpartition("/")[2] for name in SHOWN if name in model}
    widths = [max(len(label) + 2, 8) for label in metrics.values()]
    columns = "".join(f"{label:>{width}}" for label, width in zip(metrics.values(), widths, strict=True))
    lines = [f"{'baselines, same users':<22}{columns}"]
    for label, found in {"model": model, **baselines, **({"oracle": oracle} if oracle else {})}.items():
        cells = "".join(
            f"{_number(found.get(name)):>{width}}" for name, width in zip(metrics, widths, strict=True)
        )
        lines.append(f"  {label:<20}{cells}")
    return lines


def _number(found: MeanEstimate | None) -> str:
    return "–" if found is None else f"{found.mean:.4f}"
