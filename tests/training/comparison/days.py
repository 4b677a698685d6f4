"""The same toy days in three sets, as three kinds of mining would leave them, and a later one to evaluate on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scrollpast.config import Config, load_config
from tests.training.data.days import records, vocabulary
from tests.training.evaluation.toy import day

SMALL = [
    "training.data.batch_size=64",
    "training.max_steps=3",
    "training.log_every_steps=1",
    "training.model.embedding_dim=4",
    "training.model.output_dim=4",
    "training.model.user_layers=[]",
    "training.model.ad_layers=[]",
    "training.negatives.random.count=8",
]
BEFORE = ("2026-11-20", "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z")
AFTER = ("2026-11-21", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z")


def toy_days(folder: Path) -> dict[str, str]:
    """URIs of days by set, of the later one as ``evaluation``, and of the vocabulary as ``vocabulary``."""
    random = np.random.Generator(np.random.Philox(3))
    rows = records(random, 0, 80)
    found = {
        # Only some negatives are left by the rules; neighbours come on top.
        "filtered": day(folder / "filtered", *BEFORE, [_with(row, lambda kind: kind != 100) for row in rows]),
        "naive": day(folder / "naive", *BEFORE, [_with(row, lambda kind: kind == 0) for row in rows]),
        "neighbours": day(folder / "neighbours", *BEFORE, rows),
        "evaluation": day(folder / "later", *AFTER, records(random, 20, 80)),
    }
    return found | {"vocabulary": vocabulary().write(str(folder))}


def comparison(days: dict[str, str], out: Path, *overrides: str) -> Config:
    """A small comparison of the three sets; later overrides win."""
    sets = ", ".join(f"{name}: [{days[name]}]" for name in ("filtered", "naive", "neighbours"))
    return load_config(
        None,
        [
            *SMALL,
            f"training.vocabulary={days['vocabulary']}",
            f"comparison.path={out}",
            f"comparison.days={{{sets}}}",
            f"comparison.evaluation_days=[{days['evaluation']}]",
            "comparison.seeds=[0, 1]",
            "comparison.ratios=[2]",
            *overrides,
        ],
    )


def _with(row: dict[str, Any], is_kept: Any) -> dict[str, Any]:
    """A record with some of its negatives, by their kind."""
    kept = [at for at, kind in enumerate(row["negative_kind"]) if is_kept(kind)]
    return {
        name: [value[at] for at in kept] if name.startswith("negative_") else value
        for name, value in row.items()
    }
