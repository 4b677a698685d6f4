"""Text table of baselines beside a model."""

from __future__ import annotations

from collections.abc import Mapping

from scrollpast.documents.evaluation import MeanEstimate
from scrollpast.training.evaluation.metric_registry import JUDGE

SHOWN = (JUDGE, "recall@100", "auc")
"""Metrics of the text table; JSON has all."""

Estimates = Mapping[str, MeanEstimate | None]


def baseline_table(model: Estimates, baselines: Mapping[str, Estimates]) -> list[str]:
    """Lines of at most 84 columns: the model, then each baseline."""
    metrics = [name for name in SHOWN if name in model]
    widths = [max(len(name) + 2, 9) for name in metrics]
    columns = "".join(f"{name:>{width}}" for name, width in zip(metrics, widths, strict=True))
    lines = [f"{'baselines, on the same users':<29}{columns}"]
    for label, found in {"model": model, **baselines}.items():
        cells = "".join(
            f"{_number(found.get(name)):>{width}}" for name, width in zip(metrics, widths, strict=True)
        )
        lines.append(f"  {label:<27}{cells}")
    return lines


def _number(found: MeanEstimate | None) -> str:
    return "–" if found is None else f"{found.mean:.4f}"
