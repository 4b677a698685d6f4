"""Rankings and the numbers of single users, held against plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scrollpast.training.evaluation import metrics, ranking
from scrollpast.training.evaluation.held_out import Ragged
from scrollpast.training.evaluation.ranking import (
    Embeddings,
    exact_top_rows,
    ranks_in,
    searched_top_rows,
)

NUM_ROWS = 12


def ragged(lists: list[list[int]]) -> Ragged:
    lengths = [len(part) for part in lists]
    rows = np.array([row for part in lists for row in part], np.int64)
    return Ragged(rows, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def embeddings(seed: int, num_users: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    # Few distinct values, so that scores are often equal.
    users = torch.randint(-2, 3, (num_users, 3), generator=generator).float()
    return users, torch.randint(-2, 3, (NUM_ROWS, 3), generator=generator).float()


rows_of = st.lists(st.integers(0, NUM_ROWS - 1), max_size=6, unique=True)
cases = st.integers(1, 5).flatmap(
    lambda count: st.tuples(
        st.integers(0, 1000),
        st.lists(rows_of.map(lambda rows: [row for row in rows if row]), min_size=count, max_size=count),
        st.lists(rows_of, min_size=count, max_size=count),
        st.lists(rows_of, min_size=count, max_size=count),
        st.integers(1, 14),
    )
)


def plain_top(user: torch.Tensor, ads: torch.Tensor, known: list[int], k: int) -> list[int]:
    scores = {row: float(user @ ads[row]) for row in range(1, NUM_ROWS) if row not in known}
    best = sorted(scores, key=lambda row: (-scores[row], row))[:k]
    return best + [-1] * (k - len(best))


@given(st.integers(2, 300), st.integers(1, 40), st.integers(0, 3), st.integers(0, 99))
def test_of_equal_scores_at_the_end_of_the_list_the_lower_rows_are_in(
    num_rows: int, k: int, num_values: int, seed: int
) -> None:
    ads = torch.from_numpy(np.random.Generator(np.random.Philox(seed)).integers(0, num_values + 1, num_rows))
    found = exact_top_rows(Embeddings(torch.ones(1, 1), ads.float()[:, None]), ragged([[]]), k)[0]
    best = sorted(range(1, num_rows), key=lambda row: (-int(ads[row]), row))[:k]
    assert found.tolist() == best + [-1] * (k - len(best))


@settings(deadline=None)
@given(cases)
def test_the_top_is_that_of_a_sorted_list(case: Any) -> None:
    seed, known, _, _, k = case
    users, ads = embeddings(seed, len(known))
    found = exact_top_rows(Embeddings(users, ads), ragged(known), k)
    for user, row in enumerate(found.tolist()):
        expected = plain_top(users[user], ads, known[user], NUM_ROWS)
        scores = {r: float(users[user] @ ads[r]) for r in range(NUM_ROWS)}
        # The order of ads with equal scores is arbitrary.
        assert [scores.get(r) if r > 0 else None for r in row] == [
            scores.get(r) if r > 0 else None for r in (expected + [-1] * k)[:k]
        ]
        assert not set(row) & {0, *known[user]}
        present = [r for r in row if r > 0]
        assert present == sorted(present, key=lambda r: (-scores[r], r))


@settings(deadline=None)
@given(cases)
def test_numbers_of_users_are_those_of_plain_loops(case: Any) -> None:
    seed, known, targets, served, k = case
    users, ads = embeddings(seed, len(known))
    top = exact_top_rows(Embeddings(users, ads), ragged(known), k)
    wanted, passed = ragged(targets), ragged(served)
    ranks = ranks_in(top, wanted)
    recalls, gains = metrics.recall(ranks, wanted, k), metrics.ndcg(ranks, wanted, k)
    shares = metrics.share_in_top(ranks_in(top, passed), passed, k)
    scorer = Embeddings(users, ads)
    aucs = metrics.auc(scorer.pair_scores(wanted), wanted, scorer.pair_scores(passed), passed)
    for user in range(len(known)):
        row = top[user].tolist()
        hits = [row.index(target) for target in targets[user] if target and target in row]
        expected = len(hits) / len(targets[user]) if targets[user] else math.nan
        np.testing.assert_equal(recalls[user], expected)
        ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(targets[user]))))
        expected = sum(1 / math.log2(place + 2) for place in hits) / ideal if targets[user] else math.nan
        np.testing.assert_allclose(gains[user], expected)
        found = [ad for ad in served[user] if ad and ad in row]
        np.testing.assert_equal(shares[user], len(found) / len(served[user]) if served[user] else math.nan)
        pairs = [
            (float(users[user] @ ads[target]), float(users[user] @ ads[ad]))
            for target in targets[user]
            for ad in served[user]
            if target and ad
        ]
        wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs)
        np.testing.assert_allclose(aucs[user], wins / len(pairs) if pairs else math.nan)


def test_recall_can_ask_for_some_targets_only() -> None:
    targets = ragged([[3, 5, 7], [2]])
    ranks = np.array([0, -1, 4, 1])
    is_asked = np.array([True, True, False, False])
    np.testing.assert_equal(metrics.recall(ranks, targets, 10, counts=is_asked), [0.5, np.nan])
    np.testing.assert_equal(metrics.recall(ranks, targets, 2), [1 / 3, 1.0])


def test_users_in_several_goes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    users, ads = torch.randn(50, 3), torch.randn(NUM_ROWS, 3)
    known = ragged([[1 + user % 11] for user in range(50)])
    at_once = exact_top_rows(Embeddings(users, ads), known, 4), Embeddings(users, ads).pair_scores(known)
    monkeypatch.setattr(ranking, "_CELLS_AT_ONCE", 7)
    np.testing.assert_equal(exact_top_rows(Embeddings(users, ads), known, 4), at_once[0])
    np.testing.assert_allclose(Embeddings(users, ads).pair_scores(known), at_once[1], rtol=1e-6)


@settings(deadline=None)
@given(cases)
def test_an_index_that_is_exact_finds_what_is_exact(case: Any) -> None:
    seed, known, _, _, k = case
    users, ads = embeddings(seed, len(known))

    def search(users: Any, count: int) -> Any:
        nothing = ragged([[]] * len(users))
        return exact_top_rows(Embeddings(torch.from_numpy(users), ads), nothing, count)

    found = searched_top_rows(search, users, ragged(known), k)
    exact = exact_top_rows(Embeddings(users, ads), ragged(known), k)
    scores = (users @ ads.T).numpy()
    for user in range(len(known)):
        of_found = [scores[user, row] for row in found[user] if row > 0]
        assert of_found == [scores[user, row] for row in exact[user] if row > 0]
        assert not {*found[user].tolist()} & {0, *known[user]}
