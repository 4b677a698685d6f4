"""Neighbours stand in records beside what was served, which stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.config import NEIGHBOUR_CODE
from scrollpast.mining.neighbours.records import with_neighbours
from scrollpast.record_schema import NEGATIVE_FEATURES, record_schema
from tests.training.data.days import record, records


def batch_of(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=record_schema(("age",)))


def added(rows: list[dict[str, Any]], neighbours: list[list[int]]) -> list[dict[str, Any]]:
    lengths = np.array([len(ads) for ads in neighbours], np.int64)
    ads = np.array([ad for own in neighbours for ad in own], np.int64)
    found = with_neighbours(batch_of(rows), lengths, ads)
    assert found.schema == record_schema(("age",))
    return found.to_pylist()


def random(seed: int = 1) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def test_a_neighbour_has_an_ad_and_a_kind_and_nothing_that_only_an_impression_has() -> None:
    served = {**record(random(), 7, 1, 2), "negative_kind": [0, 11]}
    (row,) = added([served], [[4, 9]])
    assert row["negative_ad_id"] == [4, 9, *served["negative_ad_id"]]
    assert row["negative_kind"] == [100, 100, 0, 11]
    assert row["negative_weight"][:2] == [1.0, 1.0]
    for name in ("served_at_ms", "request_hash", "position", "dwell_ms"):
        assert row[f"negative_{name}"][:2] == [-1, -1]
        assert row[f"negative_{name}"][2:] == served[f"negative_{name}"]


def test_neighbours_of_an_older_model_make_room() -> None:
    older = {**record(random(), 7, 1, 3), "negative_kind": [100, 0, 100]}
    (row,) = added([older], [[5]])
    assert row["negative_kind"] == [100, 0]
    assert row["negative_ad_id"] == [5, older["negative_ad_id"][1]]


def test_no_records_are_no_records() -> None:
    assert added([], []) == []


@given(st.integers(0, 2**32), st.lists(st.lists(st.integers(0, 99), max_size=3), min_size=1, max_size=6))
def test_all_else_stays_as_it_is(seed: int, neighbours: list[list[int]]) -> None:
    rows = records(random(seed), 10, len(neighbours))
    # A list that is absent is an empty one.
    rows[0] = {**rows[0], **dict.fromkeys(NEGATIVE_FEATURES, None)} if seed % 3 == 0 else rows[0]
    before = batch_of(rows).to_pylist()
    for old, new, ads in zip(before, added(rows, neighbours), neighbours, strict=True):
        served = [at for at, kind in enumerate(old["negative_kind"] or []) if kind != NEIGHBOUR_CODE]
        assert new["negative_ad_id"][: len(ads)] == ads
        for name, value in old.items():
            if name in NEGATIVE_FEATURES:
                assert new[name][len(ads) :] == [value[at] for at in served]
            else:
                assert new[name] == value
        times = new["negative_served_at_ms"]
        assert times == sorted(times)
