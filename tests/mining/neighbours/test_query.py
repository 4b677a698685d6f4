"""The neighbours of records, held against a plain loop over all ads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripts.bench.synthetic_days import plant_day

from scrollpast.config import Neighbours
from scrollpast.mining.neighbours.engaged import EngagedAds
from scrollpast.mining.neighbours.outcomes import CandidateOutcome
from scrollpast.mining.neighbours.query import NeighbourQuery, NeighbourResult
from scrollpast.mining.neighbours.records import with_neighbours
from scrollpast.record_schema import record_schema
from tests.mining.neighbours.planted_world import OPTIONS, PLAN, World, opened, records_of


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.plant(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return records_of([plant_day(PLAN, tmp_path_factory.mktemp("day"))])


def batch_of(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=record_schema(("age",)))


def answered(world: World, rows: list[dict[str, Any]], options: Neighbours = OPTIONS) -> NeighbourResult:
    batch = batch_of(rows)
    engaged = EngagedAds.of(batch.column("user_id").to_numpy(), [batch])
    return NeighbourQuery(opened(world.export), options).answer(batch, engaged, np.ones(len(rows), np.bool_))


def neighbours(answer: NeighbourResult) -> list[list[int]]:
    return [part.tolist() for part in np.split(answer.ads, np.cumsum(answer.lengths)[:-1])]


def checked(
    world: World, rows: list[dict[str, Any]], answer: NeighbourResult, options: Neighbours = OPTIONS
) -> int:
    """Neighbours that keep every rule."""
    found = with_neighbours(batch_of(rows), answer.lengths, answer.ads).to_pylist()
    engaged = {row["user_id"]: set(row["positive_ad_id"]) for row in rows}
    for row in rows:
        hidden = zip(row["negative_ad_id"], row["negative_kind"], strict=True)
        engaged[row["user_id"]] |= {ad for ad, kind in hidden if kind == 11}
    return sum(world.check(row, engaged[row["user_id"]], options) for row in found)


def test_neighbours_are_those_that_a_plain_loop_over_all_ads_lets_pass(world: World, rows: Any) -> None:
    answer = answered(world, rows)
    assert checked(world, rows, answer) == len(answer.ads) > 300
    assert (answer.ledger.sum(axis=1) > 0).all(), "the planted day has candidates of every outcome"


@settings(max_examples=25)
@given(
    st.integers(1, 80),
    st.integers(0, 80),
    st.floats(0, 0.5),
    st.integers(1, 40),
    st.integers(0, 140),
    st.integers(1, 10),
)
def test_the_laws_hold_for_any_options(
    world: World, rows: Any, first: int, more: int, margin: float, most: int, at: int, count: int
) -> None:
    options = Neighbours(
        first_rank=first, last_rank=first + more, relative_margin=margin, negatives_per_user=most
    )
    some = rows[at : at + count]
    answer = answered(world, some, options)
    assert checked(world, some, answer, options) == len(answer.ads)
    assert answer.num_asked + answer.num_unplaced == len(some)
    assert answer.ledger.sum() == answer.num_candidates == answer.num_asked * (more + 1)
    assert answer.ledger[CandidateOutcome.KEPT].sum() == len(answer.ads) == answer.lengths.sum()


def test_what_a_user_gets_does_not_depend_on_who_else_is_asked_for(world: World, rows: Any) -> None:
    together = neighbours(answered(world, rows[:40]))
    assert [neighbours(answered(world, [row]))[0] for row in rows[:40]] == together
    assert neighbours(answered(world, rows[:40][::-1])) == together[::-1]


def test_a_user_whose_positives_the_towers_do_not_know_is_not_asked_for(world: World, rows: Any) -> None:
    unknown = [row for row in rows if not set(row["positive_ad_id"]) & set(world.row_of)]
    answer = answered(world, unknown)
    assert len(unknown) > 2
    assert (answer.num_asked, answer.num_unplaced, answer.ledger.sum()) == (0, len(unknown), 0)
    assert answer.lengths.tolist() == [0] * len(unknown)


def test_who_is_not_wanted_is_left_alone(world: World, rows: Any) -> None:
    batch = batch_of(rows)
    engaged = EngagedAds.of(batch.column("user_id").to_numpy(), [batch])
    is_wanted = np.arange(len(rows)) % 3 == 0
    answer = NeighbourQuery(opened(world.export), OPTIONS).answer(batch, engaged, is_wanted)
    assert answer.num_asked + answer.num_unplaced == is_wanted.sum()
    for found, expected, wanted in zip(
        neighbours(answer), neighbours(answered(world, rows)), is_wanted, strict=True
    ):
        assert found == (expected if wanted else [])


def test_a_range_that_ends_beyond_the_catalogue_has_the_ads_that_there_are(world: World, rows: Any) -> None:
    options = OPTIONS.model_copy(update={"first_rank": PLAN.num_ads - 4, "last_rank": PLAN.num_ads + 50})
    answer = answered(world, rows[:10], options)
    assert answer.num_candidates == answer.num_asked * 5
    assert answer.ledger[:, 5:].sum() == 0


def test_another_seed_draws_others_among_those_that_qualify(world: World, rows: Any) -> None:
    other = OPTIONS.model_copy(update={"seed": 1})
    first, second = answered(world, rows), answered(world, rows, other)
    assert (first.ledger == second.ledger).sum() < first.ledger.size
    assert first.ledger.sum(axis=1).tolist() == second.ledger.sum(axis=1).tolist()
    assert neighbours(first) != neighbours(second)


def test_a_history_begins_with_the_known_ads_of_before_the_log(world: World, rows: Any) -> None:
    known = sorted(world.row_of)[:3]
    some = [
        rows[0] | {"history_ad_id": [known[2], -7, known[0]]},
        rows[1] | {"history_ad_id": [known[1]]},
        rows[2] | {"history_ad_id": []},
    ]
    batch = pa.RecordBatch.from_pylist(some, schema=record_schema(("age",), has_history=True))
    query = NeighbourQuery(opened(world.export), OPTIONS)
    own = np.array([5, 6, 8])
    ads, lengths = query._behind_earlier(batch, np.array([0, 2]), own, np.array([1, 2]))
    assert (ads.tolist(), lengths.tolist()) == ([known[2], known[0], 5, 6, 8], [3, 2])
    without, same = query._behind_earlier(batch_of(rows[:3]), np.array([0, 2]), own, np.array([1, 2]))
    assert (without.tolist(), same.tolist()) == ([5, 6, 8], [1, 2])
