"""Each mask by itself, on cases small enough to read."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.training.loss.sources.masks import (
    FAR,
    KnownColumns,
    codes,
    equal,
    known_draws,
    same_request,
    same_row,
)

ROWS = st.lists(st.integers(0, 6), max_size=6)


def test_another_anchors_copy_of_the_same_ad_is_masked() -> None:
    assert same_row(torch.tensor([4, 5]), torch.tensor([4, 5, 4])).tolist() == [
        [True, False, True],
        [False, True, False],
    ]


def test_ads_that_the_vocabulary_does_not_know_are_one_and_the_same() -> None:
    assert same_row(torch.tensor([0]), torch.tensor([[0, 1]])).tolist() == [[True, False]]


def test_another_positive_of_the_same_user_is_masked() -> None:
    code = codes(torch.tensor([-9, 8, 8]))
    found = equal(code, code[[1, 0]])
    assert found.tolist() == [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), max_size=9))
def test_codes_are_equal_where_keys_are(keys: list[int]) -> None:
    code = codes(torch.tensor(keys, dtype=torch.int64))
    assert equal(code, code).tolist() == [[float(one == other) for other in keys] for one in keys]


def test_no_request_is_not_the_same_request() -> None:
    assert same_request(torch.tensor([0, 3]), torch.tensor([[0, 3], [0, 3]])).tolist() == [
        [False, False],
        [False, True],
    ]


@given(
    known=st.lists(ROWS, min_size=1, max_size=5),
    columns=ROWS,
    bounds=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_known_positives_are_found_among_shared_candidates(
    known: list[list[int]], columns: list[int], bounds: tuple[int, int]
) -> None:
    start, stop = sorted(min(bound, len(known)) for bound in bounds)
    values = torch.tensor([row for rows in known for row in rows], dtype=torch.int64)
    lengths = torch.tensor([len(rows) for rows in known])
    logits = torch.zeros(len(columns), stop - start)
    KnownColumns(values, lengths, torch.tensor(columns, dtype=torch.int64)).mask_out(logits, start, stop)
    expected = [[row in known[anchor] for anchor in range(start, stop)] for row in columns]
    assert (logits == -FAR).tolist() == expected
    assert (logits == 0).tolist() == [[not found for found in row] for row in expected]


@given(known=st.lists(ROWS, min_size=1, max_size=5), data=st.data())
def test_known_positives_are_found_among_an_anchors_own_candidates(
    known: list[list[int]], data: st.DataObject
) -> None:
    drawn = data.draw(
        st.lists(
            st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=len(known), max_size=len(known)
        )
    )
    values = torch.tensor([row for rows in known for row in rows], dtype=torch.int64)
    lengths = torch.tensor([len(rows) for rows in known])
    found = known_draws(values, lengths, torch.tensor(drawn), 7)
    assert found.tolist() == [[row in rows for row in own] for rows, own in zip(known, drawn, strict=True)]
