"""Published days of a few records, for evaluations that can be followed by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scrollpast.shards.vocabulary import Vocabulary
from tests.training.data.days import DAY_MS, START_MS, record, write_day

USERS = "user_id"


def day(folder: Path, ds: str, first: str, end: str, rows: list[dict[str, Any]]) -> str:
    """Publish records as the day ``ds`` with this window."""
    uri = write_day(folder, [rows], ds=ds)
    path = Path(uri) / "manifest.json"
    content = json.loads(path.read_text()) | {"window_start": first, "window_end": end}
    path.write_text(json.dumps(content))
    return uri


def row(
    user: int, positives: Mapping[int, int], negatives: list[int], *, kinds: list[int] | None = None
) -> Any:
    """A record: positive ads by their hour, and negative ads of a kind (0 = served)."""
    made = record(np.random.Generator(np.random.Philox(user)), user, len(positives), len(negatives))
    ordered = sorted(positives.items(), key=lambda item: item[1])
    made["positive_ad_id"] = [ad for ad, _ in ordered]
    made["positive_served_at_ms"] = [START_MS + hour * DAY_MS // 24 for _, hour in ordered]
    made["negative_ad_id"] = negatives
    made["negative_kind"] = kinds or [0] * len(negatives)
    return made


def ten_ads(**changes: Any) -> Vocabulary:
    """Ad n is in row n, for 1 to 9; 10 and above are unknown."""
    arguments: dict[str, Any] = {
        "ad_ids": np.arange(10),
        "counts": np.array([0, 40, 20, 10, 10, 10, 5, 5, 0, 0]),
        "feature_codes": {},
        "values": {"user_age": ("20", "30")},
        "num_user_rows": 50,
    }
    return Vocabulary(**(arguments | changes))
