"""A planted export and its days, and what a plain loop over all ads says of a record's neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scripts.bench.synthetic_days import Plan, plant_towers

from scrollpast.ann_index.index import AdIndex, search_in
from scrollpast.config import Neighbours
from scrollpast.mining.neighbours.retriever import Retriever
from scrollpast.shards.reader import ShardReader
from scrollpast.training.serving.export_files import INDEX_NAME, read_ad_embeddings, read_export
from scrollpast.training.serving.user_tower import UserTower

PLAN = Plan(num_ads=400, num_users=150, dim=8, ads_per_cluster=80)
OPTIONS = Neighbours(first_rank=11, last_rank=60, negatives_per_user=6)
CLOSE = 1e-5
"""Scores of the index and of a plain product are this far apart at most."""


def opened(export: str) -> Retriever:
    """The planted towers in this process, as the job opens them on its workers."""
    ad_RD, tower = read_ad_embeddings(export), UserTower.load(export)
    index = AdIndex.load(f"{export}/{INDEX_NAME}")
    return Retriever(
        read_export(export).fingerprint,
        tower.user_features,
        lambda *known: tower(*known).numpy(),
        search_in(index, ad_RD),
        tower.ad_ids(np.arange(len(ad_RD))),
        ad_RD,
        index.num_lists,
    )


@dataclass(frozen=True)
class World:
    """Everything that a plain loop looks at."""

    export: str
    tower: UserTower
    ad_RD: NDArray[np.float32]
    row_of: dict[int, int]

    @staticmethod
    def plant(folder: Path) -> World:
        ad_RD = plant_towers(PLAN, folder)
        rows = range(1, PLAN.num_ads + 1)
        return World(str(folder), UserTower.load(str(folder)), ad_RD, {PLAN.ad_ids(row): row for row in rows})

    def scores(self, record: dict[str, Any]) -> NDArray[np.float32]:
        """Of all ads by row, for the user with all positives of the record as history; −inf for row 0."""
        age = -1 if record["user_age"] is None else record["user_age"]
        user = self.tower([record["user_id"]], [record["positive_ad_id"]], {"age": [age]}).numpy()[0]
        scores: NDArray[np.float32] = self.ad_RD @ user
        scores[0] = -np.inf
        return scores

    def check(self, record: dict[str, Any], engaged: set[int], options: Neighbours) -> int:
        """Hold a record's neighbours against the rules; returns how many there are.

        Args:
            engaged: ads that the user engaged with on any day that is looked at.
        """
        neighbours = neighbours_of(record)
        positives = [self.row_of[ad] for ad in record["positive_ad_id"] if ad in self.row_of]
        assert neighbours == sorted(set(neighbours))
        assert len(neighbours) <= options.negatives_per_user
        assert not set(neighbours) & (engaged | set(record["positive_ad_id"]))
        if not positives:
            assert neighbours == []
            return 0
        scores = self.scores(record)
        by_rank = np.sort(scores[1:])[::-1]
        lowest = min(scores[positives])
        bound = lowest - options.relative_margin * abs(lowest)
        qualifying = {
            ad for ad, row in self.row_of.items()
            if by_rank[options.last_rank - 1] + CLOSE < scores[row] < by_rank[options.first_rank - 1] - CLOSE
            and scores[row] < bound - CLOSE and ad not in engaged
        }  # fmt: skip
        for ad in neighbours:
            score = scores[self.row_of[ad]]
            assert by_rank[options.last_rank - 1] - CLOSE <= score <= by_rank[options.first_rank - 1] + CLOSE
            assert score <= bound + CLOSE
        # Nothing that qualifies beyond doubt is left out where there is room.
        assert len(neighbours) >= min(len(qualifying), options.negatives_per_user)
        return len(neighbours)


def neighbours_of(record: dict[str, Any]) -> list[int]:
    pairs = zip(record["negative_ad_id"], record["negative_kind"], strict=True)
    return [ad for ad, kind in pairs if kind == 100]


def engaged_by_user(days: Iterable[str]) -> dict[int, set[int]]:
    """Ads that every user clicked or hid on these days."""
    engaged: dict[int, set[int]] = {}
    for row in records_of(days):
        ads = engaged.setdefault(row["user_id"], set())
        ads.update(row["positive_ad_id"])
        pairs = zip(row["negative_ad_id"], row["negative_kind"], strict=True)
        ads.update(ad for ad, kind in pairs if kind == 11)
    return engaged


def records_of(days: Iterable[str]) -> list[dict[str, Any]]:
    return [row for batch in ShardReader(list(days)) for row in batch.to_pylist()]
