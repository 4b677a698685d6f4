"""The search behind neighbours: the candidates are the ads of the wanted ranks, whatever the index is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrollpast.ann_index.index import AdIndex, search_in
from scrollpast.ann_index.kinds import Kind
from scrollpast.config import Neighbours
from scrollpast.mining.neighbours.coverage import LEAST_COVERAGE, choose_search, coverage, is_exact
from scrollpast.mining.neighbours.retriever import Retriever


def unused(*_: object) -> np.ndarray:
    raise AssertionError("not asked for")


def retriever_of(ad_RD: np.ndarray, kind: Kind) -> Retriever:
    index = AdIndex.build(ad_RD, kind)
    return Retriever("", (), unused, search_in(index, ad_RD), np.arange(len(ad_RD)), ad_RD, index.num_lists)


def vectors(count: int, dim: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def ranks_of(ad_RD: np.ndarray, users: np.ndarray) -> np.ndarray:
    """Rank of every ad for every user, 1 = the nearest: [U, R]; row 0 is no ad."""
    order = np.argsort(-(users @ ad_RD[1:].T), axis=1)
    ranks = np.zeros((len(users), len(ad_RD)), np.int64)
    np.put_along_axis(ranks, order + 1, np.arange(1, len(ad_RD))[None], axis=1)
    return ranks


@settings(deadline=None, max_examples=12)
@given(
    st.integers(600, 3000), st.sampled_from([8, 32]), st.sampled_from(["flat", "ivf_flat", "ivf_pq"]),
    st.integers(0, 100),
)  # fmt: skip
def test_the_candidates_are_the_ads_of_the_wanted_ranks(
    num_ads: int, dim: int, kind: Kind, seed: int
) -> None:
    ad_RD, users = vectors(num_ads + 1, dim, seed), vectors(40, dim, seed + 1)
    retriever, options = retriever_of(ad_RD, kind), Neighbours(first_rank=101, last_rank=500)
    search = choose_search(retriever, users, options)
    assert search.coverage >= LEAST_COVERAGE
    rows = retriever.search(users, 500, search.num_probes)[:, 100:]
    ranks = np.take_along_axis(ranks_of(ad_RD, users), np.maximum(rows, 0), axis=1)
    is_wanted = (ranks >= 101) & (ranks <= 500)
    assert is_wanted.sum() >= LEAST_COVERAGE * 400 * len(users)
    if search.num_probes is None:
        # FAISS and NumPy add products in other orders, so that two ads at a border may change places.
        assert ((ranks >= 100) & (ranks <= 501)).all()
        assert (~is_wanted).sum() <= 2 * len(users)


def test_an_index_as_it_is_exported_does_not_reach_the_ranks() -> None:
    """The fault: so few lists hold 247 to 317 of 500 ads in a catalogue of some thousand."""
    ad_RD, users = vectors(3001, 32, 1), vectors(40, 32, 2)
    rows = AdIndex.build(ad_RD, "ivf_flat").search(users, 500)[0][:, 100:]
    ranks = np.take_along_axis(ranks_of(ad_RD, users), np.maximum(rows, 0), axis=1)
    assert ((ranks >= 101) & (ranks <= 500)).mean() < 0.8


def test_a_wider_search_than_one_list_is_measured_not_assumed() -> None:
    ad_RD, users = vectors(3001, 8, 1), vectors(64, 8, 2)
    search = choose_search(retriever_of(ad_RD, "ivf_flat"), users, Neighbours())
    assert search.num_probes is not None and search.num_users == 64
    again = choose_search(retriever_of(ad_RD, "ivf_flat"), users, Neighbours())
    assert search == again
    assert str(search).startswith(f"{search.num_probes:,} lists of the index were searched for a user: ")
    assert f"{search.coverage:.1%} of the ads of these ranks are candidates" in str(search)


@pytest.mark.parametrize(("num_ads", "exact"), [(50_000, True), (50_001, False)])
def test_a_small_catalogue_is_searched_exactly(num_ads: int, exact: bool) -> None:
    assert is_exact(Neighbours(), num_ads) == exact


def test_coverage_counts_wanted_rows_only() -> None:
    found = np.array([[5, 6, -1], [1, 2, 3]])
    wanted = np.array([[5, 7, 0], [3, 2, 1]])
    assert coverage(found, wanted) == 4 / 5
    assert coverage(found[:0], wanted[:0]) == 1.0
