"""The vocabulary: look-ups against dicts, files that come back, versions that name their content."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.errors import CorruptShardError, UserError
from scrollpast.hashing import xxhash64
from scrollpast.shards.vocabulary import Vocabulary

IDS = st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5) | st.sampled_from([k << 32 for k in range(9)])


def _vocabulary(**changes: Any) -> Vocabulary:
    fields: dict[str, Any] = {
        "ad_ids": np.array([0, 70, 0, -3]),
        "counts": np.array([0, 5, 2, 0]),
        "feature_codes": {"advertiser": np.array([0, 2, 1, 0])},
        "values": {"advertiser": ("acme", "bolt"), "user_age": ("30", "-7", "20")},
        "num_user_rows": 11,
        "days": ("2026-11-20", "2026-11-21"),
        "created_at": "2026-11-22T00:00:00+00:00",
        "raw_ids": pa.array(["x", None, "z"]),
    }
    return Vocabulary(**(fields | changes))


@given(known=st.lists(IDS, unique=True, max_size=40), wanted=st.lists(IDS, max_size=40))
def test_an_ad_has_the_row_where_it_stands_and_a_stranger_row_0(known: list[int], wanted: list[int]) -> None:
    words = _vocabulary(
        ad_ids=np.array([0, *known], np.int64), counts=np.zeros(len(known) + 1), feature_codes={}, values={}
    )
    row_of = {ad: row for row, ad in enumerate(known, 1)}
    found = words.ad_rows(np.array(known + wanted, np.int64))
    assert found.tolist() == [row_of.get(ad, 0) for ad in known + wanted]


@given(users=st.lists(IDS, max_size=20), num_user_rows=st.integers(2, 2**31))
def test_a_users_row_is_its_hash_and_never_0(users: list[int], num_user_rows: int) -> None:
    ids = np.array(users, np.int64)
    rows = _vocabulary(num_user_rows=num_user_rows).user_rows(ids)
    assert rows.tolist() == [1 + int(h) % (num_user_rows - 1) for h in xxhash64(ids)]


def test_a_users_feature_has_the_code_of_its_value_and_a_stranger_code_0() -> None:
    words = _vocabulary()
    assert words.user_codes("age", np.array([20, -7, 30, 31, -1])).tolist() == [3, 2, 1, 0, 0]
    assert words.features == {"advertiser": 3, "user_age": 4}
    assert words.user_features == {"age": 4}


def test_log_q_is_the_logarithm_of_the_share_of_a_smoothed_power_of_the_count() -> None:
    masses = [(count + 1) ** 0.75 for count in (5, 2, 0)]
    expected = [1 / sum(masses), *(mass / sum(masses) for mass in masses)]
    log_q = _vocabulary().log_q(0.75)
    assert log_q.dtype == np.float32
    np.testing.assert_allclose(log_q, np.log(expected), rtol=1e-6)
    np.testing.assert_allclose(_vocabulary().log_q(0.0), [-math.log(3)] * 4, rtol=1e-6)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    words = _vocabulary()
    uri = words.write(str(tmp_path))
    assert uri == f"{tmp_path}/vocabulary/v={words.version}"
    for place in (uri, f"{uri}/vocabulary.json", str(tmp_path), str(tmp_path / "vocabulary")):
        found = Vocabulary.read(place)
        assert found.version == words.version
        assert found.ad_ids.tolist() == words.ad_ids.tolist()
        assert found.counts.tolist() == words.counts.tolist()
        assert found.feature_codes["advertiser"].tolist() == [0, 2, 1, 0]
        assert found.raw_ids is not None and found.raw_ids.to_pylist() == ["x", None, "z"]
        assert (found.values, found.days, found.created_at) == (words.values, words.days, words.created_at)


def test_the_folder_can_be_read_without_this_library(tmp_path: Path) -> None:
    folder = Path(_vocabulary().write(str(tmp_path)))
    assert pq.read_table(folder / "ads.parquet").to_pylist() == [
        {"row": 1, "ad_id": 70, "raw_id": "x", "count": 5, "advertiser": 2},
        {"row": 2, "ad_id": 0, "raw_id": None, "count": 2, "advertiser": 1},
        {"row": 3, "ad_id": -3, "raw_id": "z", "count": 0, "advertiser": 0},
    ]
    assert pq.read_table(folder / "features.parquet").to_pylist()[:3] == [
        {"feature": "advertiser", "code": 1, "value": "acme"},
        {"feature": "advertiser", "code": 2, "value": "bolt"},
        {"feature": "user_age", "code": 1, "value": "30"},
    ]
    about = json.loads((folder / "vocabulary.json").read_text())
    assert about["num_rows"] == 4 and about["features"] == {"advertiser": 3, "user_age": 4}


@pytest.mark.parametrize(
    "change",
    [
        {"ad_ids": np.array([0, 71, 0, -3])},
        {"counts": np.array([0, 5, 2, 1])},
        {"feature_codes": {"advertiser": np.array([0, 2, 2, 0])}},
        {"values": {"advertiser": ("acme", "bolts"), "user_age": ("30", "-7", "20")}},
        {"num_user_rows": 12},
        {"days": ("2026-11-20",)},
        {"parent": "0123456789abcdef"},
        {"raw_ids": pa.array(["x", "", "z"])},
        {"raw_ids": pa.array(["xz", None, ""])},
        {"raw_ids": None},
    ],
)
def test_the_version_changes_with_the_content(change: dict[str, Any]) -> None:
    assert _vocabulary(**change).version != _vocabulary().version


def test_the_version_does_not_change_with_the_time_or_with_how_arrow_lays_out_a_column() -> None:
    sliced = pa.array(["q", "x", None, "z", "q"]).slice(1, 3)
    assert _vocabulary(created_at="", raw_ids=sliced).version == _vocabulary().version


@given(sizes=st.lists(st.integers(0, 6), min_size=3, max_size=3), same=st.booleans())
def test_of_the_beginnings_of_one_list_the_longer_extends_the_shorter(sizes: list[int], same: bool) -> None:
    def first(num_ads: int) -> Vocabulary:
        codes = np.arange(num_ads + 1) % 4
        return _vocabulary(
            ad_ids=np.arange(num_ads + 1),
            counts=np.full(num_ads + 1, num_ads if same else 1),
            feature_codes={"advertiser": codes},
            values={"advertiser": tuple("abc"[: min(num_ads, 3)]), "user_age": tuple("0123456"[:num_ads])},
            raw_ids=None,
        )

    for newer in sizes:
        for older in sizes:
            assert first(newer).extends(first(older)) == (newer >= older)


MORE: dict[str, Any] = {
    "ad_ids": np.array([0, 70, 0, -3, 9]),
    "counts": np.array([0, 1, 1, 1, 8]),
    "feature_codes": {"advertiser": np.array([0, 2, 1, 0, 3]), "color": np.array([0, 1, 1, 1, 1])},
    "values": {
        "color": ("red",),
        "user_age": ("30", "-7", "20", "4"),
        "advertiser": ("acme", "bolt", "core"),
    },
    "days": ("2026-11-22",),
    "parent": "0123456789abcdef",
    "raw_ids": None,
}


def test_more_ads_values_and_features_extend_a_vocabulary_whatever_was_counted() -> None:
    assert _vocabulary(**MORE).extends(_vocabulary())
    assert not _vocabulary().extends(_vocabulary(**MORE))


@pytest.mark.parametrize(
    "change",
    [
        {"ad_ids": np.array([0, 70, -3, 0, 9])},
        {"num_user_rows": 12},
        {"values": MORE["values"] | {"advertiser": ("bolt", "acme", "core")}},
        {"values": MORE["values"] | {"user_age": ("30", "-7")}},
        {"values": {name: texts for name, texts in MORE["values"].items() if name != "user_age"}},
    ],
)
def test_whatever_gets_another_meaning_does_not_extend(change: dict[str, Any]) -> None:
    assert not _vocabulary(**(MORE | change)).extends(_vocabulary())


def test_an_ad_that_moved_to_another_category_is_the_same_ad() -> None:
    moved = MORE | {"feature_codes": MORE["feature_codes"] | {"advertiser": np.array([0, 2, 1, 1, 3])}}
    assert _vocabulary(**moved).extends(_vocabulary())


def test_a_feature_that_is_gone_is_missed_even_without_values() -> None:
    older = _vocabulary(values={"advertiser": ("acme", "bolt"), "user_age": ()})
    newer = _vocabulary(values={"advertiser": ("acme", "bolt")})
    assert older.extends(newer) and not newer.extends(older)


def test_writing_again_leaves_what_is_there(tmp_path: Path) -> None:
    uri = _vocabulary().write(str(tmp_path))
    before = (Path(uri) / "vocabulary.json").stat().st_mtime_ns
    assert replace(_vocabulary(), created_at="later").write(str(tmp_path)) == uri
    assert (Path(uri) / "vocabulary.json").stat().st_mtime_ns == before


def test_of_two_vocabularies_one_has_to_be_named(tmp_path: Path) -> None:
    uris = [_vocabulary(num_user_rows=rows).write(str(tmp_path)) for rows in (10, 20)]
    with pytest.raises(UserError, match=r"found 2: .*v=.*; name one of them"):
        Vocabulary.read(str(tmp_path))
    assert Vocabulary.read(uris[1]).num_user_rows == 20


def test_a_folder_without_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"vocabulary.json in it; build one: .* jobs/build_vocabulary.py DAY --out FOLDER"
    ):
        Vocabulary.read(str(tmp_path))


def _rewritten(folder: Path) -> None:
    table = pq.read_table(folder / "ads.parquet")
    pq.write_table(table.set_column(1, "ad_id", pa.array([71, 0, -3])), folder / "ads.parquet")


def _of_another_schema(folder: Path) -> None:
    path = folder / "vocabulary.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_rewritten, r"expected content of version \w{16}, found \w{16}; build the vocabulary again"),
        (_of_another_schema, r"schema_version: expected 1, found 2"),
        (lambda folder: (folder / "ads.parquet").unlink(), r"expected a vocabulary's three files, found "),
        (
            lambda folder: (folder / "features.parquet").write_bytes(b"PAR1"),
            r"expected a vocabulary's three files",
        ),
        (
            lambda folder: (folder / "vocabulary.json").write_text("{}"),
            r"schema_version: expected 1, found None",
        ),
        (
            lambda folder: (folder / "vocabulary.json").write_text("[]"),
            r"expected a vocabulary's three files",
        ),
    ],
)
def test_a_damaged_vocabulary_is_not_taken(
    tmp_path: Path, damage: Callable[[Path], Any], message: str
) -> None:
    uri = _vocabulary().write(str(tmp_path))
    damage(Path(uri))
    with pytest.raises(CorruptShardError, match=message):
        Vocabulary.read(uri)


def test_an_ad_that_stands_twice_is_refused() -> None:
    words = _vocabulary(ad_ids=np.array([0, 70, 4, 70]))
    with pytest.raises(CorruptShardError, match=r"row 3: expected every ad once, found ad 70 again"):
        words.ad_rows(np.array([70]))


@pytest.mark.parametrize("num_user_rows", [1, 0, 2**31 + 1])
def test_a_table_of_users_without_room_is_refused(num_user_rows: int) -> None:
    with pytest.raises(UserError, match=r"num_user_rows: expected 2 to 2,147,483,648"):
        _vocabulary(num_user_rows=num_user_rows)
