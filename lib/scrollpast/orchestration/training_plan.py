"""Plan of a training run: days to train on, the day to evaluate on, the folder of the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from scrollpast.orchestration.days import day_uri
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import is_published, read_manifest


@dataclass(frozen=True)
class TrainingPlan:
    """Training plan of a day's model. Equal days with equal content give equal plans."""

    days: tuple[str, ...]
    """Folders of the days to train on, oldest first, all before `held_out`"""
    held_out: str
    """Folder of the day to evaluate on: the newest day, which is not trained on"""
    run: str
    """Folder of the run"""


def plan_training(negatives: str, models: str, day: date, num_days: int) -> TrainingPlan | None:
    """Plan a model that is evaluated on ``day`` and trained on the published days of the ``num_days`` days before.

    The run's folder is named by the content of the days: a day that was mined again starts a new run, so that a run
    never mixes two versions of a day.

    Returns:
        None where no day before is published.
    """
    before = [day_uri(negatives, day - timedelta(days=back)) for back in range(num_days, 0, -1)]
    days = tuple(uri for uri in before if is_published(uri))
    if not days:
        return None
    run = files.join(models, f"ds={day}", f"inputs={_content_of(days)}")
    return TrainingPlan(days, day_uri(negatives, day), run)


def _content_of(days: Sequence[str]) -> str:
    """First 16 hex digits of the SHA-256 over the content of the days that readers return."""
    contents = []
    for uri in days:
        manifest = read_manifest(uri)
        shards = [shard.sha256 for shard in manifest.shards]
        contents.append(
            [manifest.ds, manifest.window_start, manifest.window_end, shards, manifest.revocation_file]
        )
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:16]
