"""What a query gives to the towers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scrollpast.config import Neighbours
from scrollpast.mining.neighbours.engaged import EngagedAds
from scrollpast.mining.neighbours.query import NeighbourQuery
from scrollpast.mining.neighbours.retriever import Floats, Integers, Lists, Retriever
from scrollpast.record_schema import record_schema
from tests.training.data.days import records

NUM_ADS = 30


@pytest.mark.parametrize("reads_passed", [False, True])
def test_a_tower_that_reads_passed_ads_gets_the_served_negatives_of_the_record(reads_passed: bool) -> None:
    random = np.random.Generator(np.random.Philox(4))
    rows = [row for row in records(random, 1, 20) if row["positive_ad_id"]]
    batch = pa.RecordBatch.from_pylist(rows, schema=record_schema(("age",)))
    given: list[Any] = []

    def embed(
        users: Integers, history: Lists, features: Mapping[str, Integers], passed: Lists | None
    ) -> Floats:
        given.append((users, history, passed))
        return np.ones((len(users), 4), np.float32)

    retriever = Retriever(
        fingerprint="",
        user_features=[],
        embed=embed,
        search=lambda users, k, _: np.tile(np.arange(1, k + 1), (len(users), 1)),
        ad_ids=np.arange(NUM_ADS + 1),
        ad_RD=np.ones((NUM_ADS + 1, 4), np.float32),
        reads_passed=reads_passed,
    )
    query = NeighbourQuery(retriever, Neighbours(first_rank=1, last_rank=10))
    query.answer(
        batch, EngagedAds.of(np.array([row["user_id"] for row in rows]), []), np.ones(len(rows), np.bool_)
    )
    ((users, _, passed),) = given
    if not reads_passed:
        assert passed is None
        return
    by_user = {row["user_id"]: row for row in rows}
    lists = np.split(passed[0], passed[1][1:-1])
    for user, found in zip(users.tolist(), lists, strict=True):
        row = by_user[user]
        kinds = zip(row["negative_ad_id"], row["negative_kind"], strict=True)
        assert found.tolist() == [ad for ad, kind in kinds if kind != 100]
    assert sum(map(len, lists)) > 20
