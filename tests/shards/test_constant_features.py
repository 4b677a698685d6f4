"""Notes on features that a model learns nothing from: null throughout, or one value only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.shards.constant_features import constant_feature_notes
from scrollpast.shards.vocabulary import Vocabulary


def vocabulary(
    advertiser_of_ads: Sequence[int], values: tuple[str, ...], ages: tuple[str, ...]
) -> Vocabulary:
    return Vocabulary(
        ad_ids=np.arange(len(advertiser_of_ads) + 1),
        counts=np.zeros(len(advertiser_of_ads) + 1, np.int64),
        feature_codes={"advertiser": np.array([0, *advertiser_of_ads])},
        values={"advertiser": values, "user_age": ages},
        num_user_rows=100,
    )


@pytest.mark.parametrize(
    ("codes", "values", "ages", "notes"),
    [
        ([1, 2], ("a", "b"), ("20", "30"), []),
        ([1, 0], ("a",), ("20", "30"), []),
        ([0, 0], (), ("20", "30"), ["note: ad feature advertiser of ads (logs/ads) is null throughout; fill the"]),
        ([1, 1], ("a",), ("20", "30"), ["note: ad feature advertiser of ads (logs/ads) has one value only, 'a';"]),
        ([1, 2], ("a", "b"), (), ["note: user feature age of impressions or users is null throughout; fill the"]),
        ([1, 2], ("a", "b"), ("20",), ["note: user feature age of impressions or users has one value only, '20';"]),
    ],
)  # fmt: skip
def test_a_feature_without_two_values_gets_one_note(
    codes: list[int], values: tuple[str, ...], ages: tuple[str, ...], notes: list[str]
) -> None:
    found = list(constant_feature_notes(vocabulary(codes, values, ages), "logs/ads"))
    assert [note[: len(expected)] for note, expected in zip(found, notes, strict=True)] == notes


@given(codes=st.lists(st.integers(0, 3), min_size=1))
def test_a_note_stands_exactly_where_all_ads_are_alike(codes: list[int]) -> None:
    found = list(constant_feature_notes(vocabulary(codes, ("a", "b", "c"), ("20", "30")), "ads"))
    assert len(found) == (1 if len(set(codes)) == 1 else 0)
