"""The options of run metrics: where the metrics of a run are written, and the format of the log."""

from __future__ import annotations

from typing import Literal

from scrollpast.config.base_model import Section


class RunMetrics(Section):
    """Metrics and log of a run of a Spark job; no option changes a byte of what is published."""

    path: str | None = None
    """Folder of run metrics: runs/*.jsonl, and scrollpast_JOB.prom for Prometheus (node_exporter's textfile folder);
    local, s3://, gs://, hdfs://. null = none are written."""
    log_format: Literal["text", "json"] = "text"
    """Format of the log on standard error; json writes the steps and the end of the run as JSON lines with the run's
    id."""
