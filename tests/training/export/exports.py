"""Exports of short runs, and users to embed with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scrollpast.ann_index.index import AdIndex
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.engine.checkpoint import Checkpoint, published_checkpoints
from scrollpast.training.engine.distributed import process_group
from scrollpast.training.export.towers import write_export
from scrollpast.training.model.embedding import embed_users, read_towers
from scrollpast.training.serving.user_tower import UserTower
from tests.training.data.days import NUM_ADS, vocabulary
from tests.training.runs import small_day, small_run

CPU = torch.device("cpu")


def flat(ad_RD: Any) -> AdIndex:
    return AdIndex.build(ad_RD, "flat")


def trained(out: Path, *overrides: str) -> Checkpoint:
    """The last checkpoint of a short run; rates are high, so that the weights differ from the first ones."""
    out.mkdir()
    with process_group("cpu"):
        small_run(small_day(out), out / "run", "optimizer.table_learning_rate=0.5", *overrides).train()
    return published_checkpoints(str(out / "run"))[-1]


def export(checkpoint: Checkpoint, out: str, known: Vocabulary | None = None) -> Mapping[str, Any]:
    return write_export(checkpoint, known or vocabulary(), out, flat, index_kind="flat")


@dataclass(frozen=True)
class Queries:
    """Users as the log has them, and as the trainer's towers want them."""

    user_ids: Any
    history: list[list[int]]
    ages: Any

    @property
    def user_row(self) -> Any:
        return vocabulary().user_rows(self.user_ids)

    @property
    def user_features(self) -> dict[str, Any]:
        return {"age": vocabulary().user_codes("age", self.ages)}

    @property
    def lists(self) -> dict[str, tuple[Any, Any]]:
        return {"history": _rows(self.history), "passed": _rows(self.passed)}

    @property
    def passed(self) -> list[list[int]]:
        """Other ads, fewer of them."""
        return [[ad + 1 for ad in ads[::2]] for ads in self.history]

    @property
    def history_offsets(self) -> Any:
        return np.cumsum([0, *map(len, self.history)])


def _rows(lists: list[list[int]]) -> tuple[Any, Any]:
    ads = np.array([ad for ads in lists for ad in ads], np.int64)
    return vocabulary().ad_rows(ads), np.cumsum([0, *map(len, lists)])


def queries(count: int = 50) -> Queries:
    """Histories of 0 to 9 ads; some ads, some ages and many users were never seen in training."""
    random = np.random.Generator(np.random.Philox(3))
    return Queries(
        random.integers(0, 2**62, count),
        [random.integers(0, NUM_ADS + 5, random.integers(0, 10)).tolist() for _ in range(count)],
        random.choice([20, 30, 99, -1], count),
    )


def embedded(tower: UserTower, asked: Queries) -> torch.Tensor:
    passed = asked.passed if tower.max_passed else None
    found: torch.Tensor = tower(asked.user_ids, asked.history, {"age": asked.ages}, passed)
    return found


def assert_same_users(checkpoint: Checkpoint, tower: UserTower) -> None:
    asked = queries()
    expected = embed_users(read_towers(checkpoint, vocabulary()), asked, vocabulary(), CPU)
    torch.testing.assert_close(embedded(tower, asked), expected, rtol=0, atol=1e-6)
