"""The options of run metrics: where the metrics of a run are written, and the format of the log."""

from __future__ import annotations

from typing import Literal

from scrollpast.config.base_model import Section


class RunMetrics(Section):
    """What the Spark jobs leave for those who watch them; no option changes a byte of what is published."""

    path: str | None = None
    """Folder of run metrics; local (node_exporter's textfile folder, say), s3://, gs://, hdfs://. None are kept
    without it."""
    log_format: Literal["text", "json"] = "text"
    """json = steps and the end of the run as JSON lines on standard error, each with the run's id."""
