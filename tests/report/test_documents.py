"""Agreement of the documents that other parts write with those that the report reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scrollpast.config import load_config
from scrollpast.documents.comparison import ComparisonDocument
from scrollpast.documents.document import checked, read_document
from scrollpast.documents.evaluation import Metrics
from scrollpast.documents.examination import Surface
from scrollpast.documents.exposure import ExposureDocument


def test_a_comparison_as_it_is_written(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from scrollpast.training.comparison.arms import plan
    from scrollpast.training.comparison.table import About, ComparisonTable
    from scrollpast.training.comparison.verdicts import judge

    options = load_config(None, ["comparison.arms=[random, naive]", "comparison.ratios=[2]"]).comparison
    planned = plan(options, ["naive"])
    random = np.random.Generator(np.random.Philox(1))
    users = random.random(50) / 2
    numbers = {
        (cell.name, "auc"): users + 0.2 * at + random.normal(0, 0.01, (2, 50))
        for at, cell in enumerate(planned.cells)
    }
    about = About([0, 1], 50, 5, 99, {"naive": ["ds=2026-11-20"]}, ["ds=2026-11-21"], "0123", ["a note"])
    ComparisonTable(planned, ["auc"], judge(numbers, "random", num_resamples=100), about).write(str(tmp_path))
    found = read_document(ComparisonDocument, str(tmp_path / "comparison.json"), "")
    assert [(row.name, row.verdict) for row in found.rows] == [("random", None), ("naive, 2 own", "better")]


def test_metrics_as_they_are_written() -> None:
    pytest.importorskip("torch")
    from scrollpast.training.evaluation.bootstrap import estimates
    from scrollpast.training.evaluation.report import Report

    values = {"recall@100": np.linspace(0, 1, 40), "auc": np.full(40, np.nan)}
    report = Report(estimates(values, seed=0, num_resamples=50), values, np.arange(40))
    about = {"checkpoint": "run/step=1", "step": 1, "evaluated_on": ["ds=2026-11-21"]}
    found = checked(Metrics, json.loads(json.dumps(report.to_json(about))), "metrics", "")
    assert found.num_users == 40
    assert found.metrics["auc"] is None
    recall = found.metrics["recall@100"]
    assert recall is not None and recall.low < recall.mean < recall.high


def test_a_surface_as_it_is_written() -> None:
    from scrollpast.mining.examination.dwell import NUM_BINS
    from scrollpast.mining.examination.estimates import SurfaceEstimate
    from scrollpast.mining.examination.publication import surface_document

    written = SurfaceEstimate("feed", 3, {}, {"harvested": "why"}, None, "why", None, np.ones(NUM_BINS), {})
    found = checked(Surface, json.loads(surface_document(written).model_dump_json()), "examination", "")
    assert sum(found.dwell_histogram.num_impressions) == NUM_BINS


def test_exposure_without_negatives_has_no_curve() -> None:
    content = {
        "catalogue": "records", "num_ads": 0, "num_negatives": 0, "num_positives": 0,
        "share_of_ads_with_negatives": None, "gini": None, "top_1_percent_share": None, "lorenz": None, "slices": {},
    }  # fmt: skip
    assert checked(ExposureDocument, content, "exposure", "").lorenz is None
