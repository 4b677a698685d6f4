"""Scores of pairs depend on the pair alone."""

from __future__ import annotations

import numpy as np

from scrollpast.mining.neighbours.retriever import Retriever


def test_a_score_is_the_inner_product_whatever_else_is_asked() -> None:
    random = np.random.Generator(np.random.Philox(1))
    ad_RD, user_UD = (random.standard_normal((count, 9), np.float32) for count in (50, 7))

    def unused(*_: object) -> np.ndarray:
        raise AssertionError("scores need neither tower nor index")

    retriever = Retriever("", (), unused, unused, np.arange(50), ad_RD)
    users, rows = (grid.ravel() for grid in np.meshgrid(np.arange(7), np.arange(50)))
    found = retriever.scores(user_UD, users, rows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.reshape(50, 7).T, user_UD @ ad_RD.T, rtol=1e-4, atol=1e-6)
    some = random.permutation(350)[:40]
    assert retriever.scores(user_UD, users[some], rows[some]).tolist() == found[some].tolist()
