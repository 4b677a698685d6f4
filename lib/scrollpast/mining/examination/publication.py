"""Files of an examination: the table that mining reads and the estimates as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from scrollpast.config import Config
from scrollpast.documents.examination import (
    DwellHistogram,
    DwellMixtureDocument,
    EstimateDocument,
    ExaminationDocument,
    Surface,
)
from scrollpast.mining.examination.dwell import bin_middles
from scrollpast.mining.examination.estimates import Estimate, SurfaceEstimate
from scrollpast.mining.examination.table import PROBABILITY, write_examination
from scrollpast.mining.rules.rules import Window
from scrollpast.shards import filesystem


def publish(
    surfaces: list[SurfaceEstimate], config: Config, window: Window, last_day: date, folder: str
) -> str | None:
    """Write ``examination.json`` with every estimate, and ``table.parquet`` with the chosen estimates.

    Returns the table's URI, or None where no estimate was chosen.
    """
    store, root = filesystem.resolve(folder)
    document = ExaminationDocument(
        ds=last_day.isoformat(),
        window=asdict(window),
        options=config.examination.model_dump(mode="json"),
        surfaces={found.surface: surface_document(found) for found in surfaces},
    )
    content = json.dumps(document.model_dump(mode="json"), indent=1).encode()
    filesystem.write_atomically(store, filesystem.join(root, "examination.json"), content)
    rows = {found.surface: found.estimates[found.chosen] for found in surfaces if found.chosen is not None}
    if not rows:
        return None
    uri = filesystem.join(folder, "table.parquet")
    write_examination(uri, _table(rows))
    return uri


def _table(estimates: Mapping[str, Estimate]) -> pa.Table:
    parts = [
        pa.table(
            {
                "surface": [surface] * len(found.positions),
                "position": found.positions,
                PROBABILITY: found.probability,
                "low": found.low,
                "high": found.high,
                "estimator": [found.estimator] * len(found.positions),
                "level": [found.level] * len(found.positions),
            }
        )
        for surface, found in estimates.items()
    ]
    return pa.concat_tables(parts)


def surface_document(found: SurfaceEstimate) -> Surface:
    """Result of a surface as a document."""
    return Surface(
        num_impressions=found.num_impressions,
        chosen=found.chosen,
        why=found.why,
        estimates={name: EstimateDocument(**_plain(vars(one))) for name, one in found.estimates.items()},
        abstained=found.abstained,
        dwell=None if found.dwell is None else DwellMixtureDocument(**_plain(vars(found.dwell))),
        dwell_histogram=DwellHistogram(
            dwell_ms=np.expm1(bin_middles()).round(1).tolist(),
            num_impressions=found.unclicked_dwell.tolist(),
        ),
        thresholds_ms=found.thresholds_ms,
    )


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
