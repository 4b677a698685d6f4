"""A report says what was measured, on whom, and nothing that was not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.errors import UserError
from scrollpast.training.evaluation.held_out import HeldOut, Ragged
from scrollpast.training.evaluation.metric_registry import (
    CUTS,
    METRICS,
    Metric,
    maximised,
    standard_metrics,
    trivial_cuts,
)
from scrollpast.training.evaluation.ranked import Ranked
from scrollpast.training.evaluation.ranking import Embeddings
from scrollpast.training.evaluation.report import evaluate, measure
from tests.training.evaluation.toy import ten_ads


def ragged(*lists: list[int]) -> Ragged:
    lengths = [len(part) for part in lists]
    rows = np.array([row for part in lists for row in part], np.int64)
    return Ragged(rows, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


@pytest.fixture
def held_out() -> HeldOut:
    """Three users; the first knows ad 9 and wants 1 and 8, the second wants an unknown ad, the third ad 3."""
    return HeldOut(
        user_id=np.array([5, 6, 7]),
        user_row=np.array([1, 2, 3]),
        user_features={},
        history=ragged([9], [], []),
        passed=ragged([], [], []),
        known=ragged([9], [], []),
        targets=ragged([1, 8], [0], [3]),
        served=ragged([2], [4], []),
        num_known_targets=0,
    )


def embeddings() -> Embeddings:
    """Ad r has the score −r with every user: the ranking is 1, 2, 3, …"""
    return Embeddings(torch.ones(3, 1), -torch.arange(10).float()[:, None])


def test_numbers_of_a_ranking_that_can_be_followed(held_out: HeldOut) -> None:
    values = measure(embeddings(), held_out, ten_ads(), tuple(standard_metrics((1, 2, 3))))
    np.testing.assert_equal(values["recall@1"], [0.5, 0.0, 0.0])
    np.testing.assert_equal(values["recall@3"], [0.5, 0.0, 1.0])
    np.testing.assert_equal(values["auc"], [0.5, np.nan, np.nan])
    np.testing.assert_equal(values["served share in top 2"], [1.0, 0.0, np.nan])
    # Ads 1 and 2 have 60 of 100 positives: 1 is in the head as nothing comes before it, 2 as 40 are not half.
    np.testing.assert_equal(values["slices/recall@3, head ads"], [1.0, np.nan, np.nan])
    np.testing.assert_equal(values["slices/recall@3, tail ads"], [np.nan, np.nan, 1.0])
    np.testing.assert_equal(values["slices/recall@3, new ads"], [0.0, 0.0, np.nan])
    np.testing.assert_equal(values["slices/recall@3, new users"], [np.nan, 0.0, 1.0])
    np.testing.assert_equal(values["slices/recall@3, known users"], [0.5, np.nan, np.nan])


def test_an_index_is_measured_beside_the_exact_search(held_out: HeldOut) -> None:
    def worse(users: np.ndarray, k: int) -> np.ndarray:
        return np.tile(np.where(np.arange(k) < 8, np.arange(k) + 2, -1), (len(users), 1))

    values = evaluate(embeddings(), held_out, ten_ads(), exported=worse, num_resamples=10).per_user
    # It finds 2 to 9 and misses ad 1; the first user knows ad 9.
    np.testing.assert_equal(values["quantised/recall@10"], [0.5, 0.0, 1.0])
    np.testing.assert_allclose(values["quantised/share of the exact top 100"], [7 / 8, 8 / 9, 8 / 9])


def test_the_report_is_json_without_nan_and_a_table_of_84_columns(held_out: HeldOut) -> None:
    report = evaluate(embeddings(), held_out, ten_ads(), num_resamples=50)
    content = json.loads(json.dumps(report.to_json({"step": 7}), allow_nan=False))
    assert (content["step"], content["num_users"]) == (7, 3)
    assert content["metrics"]["auc"] == {"mean": 0.5, "low": 0.5, "high": 0.5, "num_users": 1}
    table = report.table().splitlines()
    assert max(len(line) for line in table) <= 84
    assert any(line.split()[:2] == ["recall@100", "0.6667"] for line in table)


def test_what_nobody_has_is_null(held_out: HeldOut) -> None:
    nothing = ragged([], [], [])
    changed = HeldOut(**{**vars(held_out), "served": nothing})
    report = evaluate(embeddings(), changed, ten_ads(), num_resamples=50)
    assert report.to_json({})["metrics"]["auc"] is None
    assert any(line.split()[-2:] == ["auc", "–"] for line in report.table().splitlines())


@given(st.integers(1, 150))
def test_every_cut_at_or_above_the_catalogue_is_noted(num_ads: int) -> None:
    names = ["recall@10", "served share in top 50", "slices/recall@100, tail ads", "ndcg@100"]
    notes = trivial_cuts(names, num_ads)
    trivial = [str(k) for k in CUTS if k >= num_ads]
    assert [note.partition(":")[0] for note in notes] == (
        [f"recall@K and top K are trivial at K = {', '.join(trivial)}"] if trivial else []
    )


def test_trivial_cuts_are_noted_in_the_table_and_in_json(held_out: HeldOut) -> None:
    report = evaluate(embeddings(), held_out, ten_ads(), num_resamples=50)
    note = "recall@K and top K are trivial at K = 10, 50, 100: the catalogue has 9 ads"
    assert report.to_json({})["notes"] == [note]
    assert report.table().endswith(f"\n\nnote: {note}")
    assert max(len(line) for line in report.table().splitlines()) <= 84
    small = evaluate(
        embeddings(), held_out, ten_ads(), metrics=tuple(standard_metrics((1, 8))), num_resamples=50
    )
    assert small.to_json({})["notes"] == []
    assert "note:" not in small.table()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"known": ragged([], [], []), "history": ragged([], [], [])}, ["users"]),
        ({"targets": ragged([8], [0], [9])}, ["ads asked for"]),
        ({}, []),
    ],
)
def test_nothing_that_could_have_been_learned_is_noted(
    held_out: HeldOut, change: dict[str, Ragged], words: list[str]
) -> None:
    changed = HeldOut(**{**vars(held_out), **change})
    few = tuple(standard_metrics((1, 8)))
    notes = evaluate(embeddings(), changed, ten_ads(), metrics=few, num_resamples=50).to_json({})["notes"]
    assert [note.partition(" are new")[0] for note in notes] == [f"all {name}" for name in words]


def test_the_table_names_the_kind_of_the_exported_index(held_out: HeldOut) -> None:
    def first(users: np.ndarray, k: int) -> np.ndarray:
        return np.tile(np.arange(k) % 10, (len(users), 1))

    report = evaluate(
        embeddings(), held_out, ten_ads(), exported=first, index_kind="ivf_flat", num_resamples=50
    )
    assert "\nthrough the exported index (ivf_flat)  " in report.table()
    assert report.to_json({})["index"] == {"kind": "ivf_flat"}


def test_a_metric_from_outside_is_measured_and_shown_once_it_is_registered(held_out: HeldOut) -> None:
    def first_place(found: Ranked) -> np.ndarray:
        return (found.top_UK[:, 0] == 1).astype(np.float64)

    with METRICS.registered(Metric("ad 1 first", first_place, cut=1)):
        report = evaluate(embeddings(), held_out, ten_ads(), num_resamples=10)
        assert maximised("ad 1 first", "training.evaluation.metric").cut == 1
    np.testing.assert_equal(report.per_user["ad 1 first"], [1.0, 1.0, 1.0])
    assert any(line.split()[:4] == ["ad", "1", "first", "1.0000"] for line in report.table().splitlines())
    expected = r"training.evaluation.metric: expected a registered metric \(recall@10, .* found 'ad 1 first'"
    with pytest.raises(UserError, match=expected):
        maximised("ad 1 first", "training.evaluation.metric")


def test_a_metric_whose_smaller_values_are_better_chooses_nothing() -> None:
    with pytest.raises(UserError, match="--metric: expected a metric whose larger values are better"):
        maximised("served share in top 10", "--metric")
