"""Rows and codes from counts and a catalogue: frequent ones first, and a parent's never move."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.config import load_config
from scrollpast.errors import UserError
from scrollpast.mining.vocabulary.build import catalogue_rows
from scrollpast.mining.vocabulary.cli import days_of
from scrollpast.mining.vocabulary.rows import Counts, lay_out
from scrollpast.shards.manifest import Manifest
from scrollpast.shards.vocabulary import Vocabulary
from tests.mining.published import write_day


def _counts(
    positives: dict[int, int], negatives: dict[int, int] | None = None, ages: dict[int, int] | None = None
) -> Counts:
    negatives = negatives or {}
    ads = sorted(positives.keys() | negatives.keys())
    user_values = {} if ages is None else {"age": (np.array(list(ages)), np.array(list(ages.values())))}
    return Counts(
        np.array(ads, np.int64),
        np.array([positives.get(ad, 0) for ad in ads], np.int64),
        np.array([negatives.get(ad, 0) for ad in ads], np.int64),
        user_values,
    )


def _catalogue(*rows: tuple[int | None, str | None, str | None]) -> pa.Table:
    ads, raw_ids, categories = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "ad": pa.array(ads, pa.int64()),
            "raw_id": pa.array(raw_ids, pa.string()),
            "category": pa.array(categories, pa.string()),
        }
    )


def _laid_out(counts: Counts, catalogue: pa.Table, **options: Any) -> Vocabulary:
    return lay_out(
        counts, catalogue, **({"days": ["2026-11-21"], "num_user_rows": 10, "max_codes": 100} | options)
    )


def test_ads_with_more_positives_come_first_then_with_more_negatives_then_the_rest_of_the_catalogue() -> None:
    counts = _counts({5: 1, 6: 3, 7: 1}, {5: 2, 7: 9, 8: 1})
    words = _laid_out(counts, _catalogue((9, None, None), (1, None, None), (6, None, None)))
    assert words.ad_ids[1:].tolist() == [6, 7, 5, 8, 1, 9]
    assert words.counts.tolist() == [0, 3, 1, 1, 0, 0, 0]


def test_the_value_of_most_ads_has_code_1_and_null_is_unknown() -> None:
    catalogue = _catalogue((1, "a", "x"), (2, "b", "y"), (3, "c", "y"), (4, "d", None))
    words = _laid_out(_counts({1: 4, 2: 3, 3: 2, 4: 1, 5: 0}), catalogue)
    assert words.values["category"] == ("y", "x")
    assert words.feature_codes["category"].tolist() == [0, 2, 1, 1, 0, 0]
    assert words.raw_ids is not None and words.raw_ids.to_pylist() == ["a", "b", "c", "d", None]


def test_rare_values_beyond_the_most_codes_are_unknown() -> None:
    catalogue = _catalogue((1, None, "x"), (2, None, "y"), (3, None, "y"), (4, None, "z"))
    words = _laid_out(_counts({1: 1}, ages={30: 2, 20: 5, -1: 9, 40: 1}), catalogue, max_codes=3)
    assert words.values == {"category": ("y", "x"), "user_age": ("20", "30")}
    assert words.feature_codes["category"][words.ad_rows(np.array([4]))].tolist() == [0]


def test_of_several_rows_of_an_ad_the_least_counts_in_any_order() -> None:
    rows = [(1, "a", "y"), (1, "a", "x"), (1, "a", None), (None, "n", "x")]
    for order in (rows, rows[::-1]):
        words = _laid_out(_counts({1: 1}), _catalogue(*order))
        assert words.num_rows == 2
        assert words.values["category"][words.feature_codes["category"][1] - 1] == "x"


ADS = st.dictionaries(st.integers(1, 30), st.integers(0, 9), max_size=15)
CATEGORIES = st.dictionaries(st.integers(1, 30), st.none() | st.sampled_from("abcdef"), max_size=15)


@given(first=ADS, second=ADS, listed=CATEGORIES, listed_later=CATEGORIES, max_codes=st.integers(2, 8))
def test_what_a_parent_gave_a_row_or_a_code_keeps_it(
    first: dict[int, int],
    second: dict[int, int],
    listed: dict[int, str | None],
    listed_later: dict[int, str | None],
    max_codes: int,
) -> None:
    def catalogue(of: dict[int, str | None]) -> pa.Table:
        return _catalogue(*((ad, f"ad-{ad}", category) for ad, category in of.items()))

    parent = _laid_out(_counts(first), catalogue(listed), max_codes=max_codes)
    child = _laid_out(_counts(second), catalogue(listed_later), max_codes=max_codes, parent=parent)
    assert child.parent == parent.version
    assert child.ad_ids[: parent.num_rows].tolist() == parent.ad_ids.tolist()
    known = parent.values["category"]
    assert child.values["category"][: len(known)] == known
    assert sorted(child.ad_ids[1:].tolist()) == sorted({*first, *second, *listed, *listed_later})
    for row, ad in enumerate(child.ad_ids[1:].tolist(), 1):
        assert child.counts[row] == second.get(ad, 0)
        now = listed_later.get(ad)
        code = int(child.feature_codes["category"][row])
        if ad in listed_later:
            assert code == (child.values["category"].index(now) + 1 if now in child.values["category"] else 0)
        elif row < parent.num_rows:
            assert code == parent.feature_codes["category"][row]
        is_named = ad in listed or ad in listed_later
        if child.raw_ids is not None:
            assert child.raw_ids[row - 1].as_py() == (f"ad-{ad}" if is_named else None)
    frequent = [-second.get(ad, 0) for ad in child.ad_ids[parent.num_rows :].tolist()]
    assert frequent == sorted(frequent)


def test_a_parent_with_other_features_is_refused() -> None:
    parent = _laid_out(_counts({1: 1}), _catalogue((1, None, "x")))
    with pytest.raises(
        UserError, match=r"features: expected \['category'\], found \['category', 'user_age'\]"
    ):
        _laid_out(_counts({1: 1}, ages={20: 1}), _catalogue((1, None, "x")), parent=parent)
    with pytest.raises(UserError, match=r"num_user_rows: expected 10, found 11"):
        _laid_out(_counts({1: 1}), _catalogue((1, None, "x")), parent=parent, num_user_rows=11)


def test_text_ids_get_the_number_that_records_carry_and_keep_their_text() -> None:
    from scrollpast.hashing import hash_column, ids_of

    schema = pa.schema([("ad", pa.int64()), ("raw_id", pa.string()), ("is_video", pa.string())])
    texts = pa.array(["n1", None, "n2"])
    rows = catalogue_rows(pa.record_batch({"ad_id": texts, "is_video": [True, False, None]}), schema)
    kept = pa.array(["n1", "n2"])
    assert rows.column("ad").to_pylist() == ids_of(kept, hash_column(kept)).tolist()
    assert rows.column("raw_id").to_pylist() == ["n1", "n2"]
    assert Counter(rows.column("is_video").to_pylist()) == {"true": 1, None: 1}


def test_days_are_counted_by_the_windows_of_their_data_sets(tmp_path: Path) -> None:
    template = write_day(str(tmp_path), load_config(None, [f"output.path={tmp_path}"]))

    def manifest(start: str, end: str) -> Manifest:
        return replace(template, window_start=start, window_end=end)

    eight = manifest("2026-11-13T00:00:00+00:00", "2026-11-21T00:00:00+00:00")
    one = manifest("2026-11-21T00:00:00+00:00", "2026-11-22T00:00:00+00:00")
    overlapping = manifest("2026-11-18T00:00:00+00:00", "2026-11-20T00:00:00+00:00")
    to_the_second = manifest("2026-11-23T00:00:00+00:00", "2026-11-23T23:59:59+00:00")
    assert days_of([eight]) == "8 days"
    assert days_of([one]) == "1 day"
    assert days_of([eight, one, overlapping, to_the_second]) == "10 days"
