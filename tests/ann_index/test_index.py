"""The index finds what is near, whatever the size of the catalogue, and says nothing on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrollpast.ann_index.index import AdIndex, search_in
from scrollpast.errors import ScrollpastError
from scrollpast.shards import filesystem as files
from tests.object_store import object_store


def ads(count: int, dim: int = 16, *, seed: int = 0) -> Any:
    """Embeddings of length 1 in clusters, as those of ads are; row 0 is there too."""
    generator = np.random.Generator(np.random.Philox(seed))
    centres = generator.normal(size=(20, dim))
    found = centres[generator.integers(0, 20, count + 1)] + 0.4 * generator.normal(size=(count + 1, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def exact(users: Any, ad_RD: Any, k: int) -> Any:
    scores = users @ ad_RD.T
    scores[:, 0] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def recall(found: Any, expected: Any) -> float:
    return float(np.mean([len({*a} & {*b}) / len(b) for a, b in zip(found, expected, strict=True)]))


def test_a_flat_index_is_exact() -> None:
    ad_RD, users = ads(500), ads(30, seed=1)
    rows, scores = AdIndex.build(ad_RD, "flat").search(users, 10)
    np.testing.assert_equal(rows, exact(users, ad_RD, 10))
    np.testing.assert_allclose(scores, np.take_along_axis(users @ ad_RD.T, rows, axis=1), rtol=1e-5)


@pytest.mark.parametrize(("kind", "least"), [("ivf_flat", 0.9), ("ivf_pq", 0.4)])
def test_an_approximate_index_finds_most_of_it(kind: Any, least: float) -> None:
    ad_RD, users = ads(20_000), ads(200, seed=1)
    found = recall(AdIndex.build(ad_RD, kind).search(users, 10)[0], exact(users, ad_RD, 10))
    assert least < found
    assert kind == "ivf_flat" or found < 1.0


@pytest.mark.parametrize("kind", ["flat", "ivf_flat", "ivf_pq"])
@pytest.mark.parametrize("count", [0, 1, 5, 77, 78, 200, 3000])
def test_a_catalogue_may_be_small(kind: Any, count: int, capfd: pytest.CaptureFixture[str]) -> None:
    rows, _ = AdIndex.build(ads(count), kind).search(ads(3, seed=1), 8)
    assert rows.shape == (4, 8)
    assert rows.max() <= count
    assert 0 not in rows
    if count >= 200:
        assert (rows > 0).all()
    assert capfd.readouterr().err == "", "FAISS has nothing to warn of"


def test_the_same_seed_gives_the_same_index() -> None:
    ad_RD, users = ads(5000), ads(50, seed=1)
    for kind in ("ivf_flat", "ivf_pq"):
        first, second = (AdIndex.build(ad_RD, kind, seed=3).search(users, 20) for _ in range(2))
        np.testing.assert_equal(first, second)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    ad_RD, users = ads(3000), ads(50, seed=1)
    for kind in ("flat", "ivf_flat", "ivf_pq"):
        built = AdIndex.build(ad_RD, kind)
        built.save(str(tmp_path / "ads.faiss"))
        np.testing.assert_equal(
            AdIndex.load(str(tmp_path / "ads.faiss")).search(users, 5), built.search(users, 5)
        )


def test_it_is_read_from_an_object_store_too(tmp_path: Path) -> None:
    ad_RD, users = ads(3000), ads(50, seed=1)
    built = AdIndex.build(ad_RD)
    built.save(str(tmp_path / "ads.faiss"))
    with object_store() as bucket:
        filesystem, path = files.resolve(f"{bucket}/ads.faiss")
        files.write_atomically(filesystem, path, (tmp_path / "ads.faiss").read_bytes())
        np.testing.assert_equal(AdIndex.load(f"{bucket}/ads.faiss").search(users, 5), built.search(users, 5))
        with pytest.raises(ScrollpastError, match="found no file"):
            AdIndex.load(f"{bucket}/other.faiss")


def test_what_is_no_index_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ScrollpastError, match="found no file"):
        AdIndex.load(str(tmp_path / "ads.faiss"))
    (tmp_path / "ads.faiss").write_bytes(b"something else")
    with pytest.raises(ScrollpastError, match="expected a FAISS index"):
        AdIndex.load(str(tmp_path / "ads.faiss"))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 2000), st.integers(1, 300), st.sampled_from([None, 1, 4]))
def test_a_user_gets_as_many_ads_as_there_are_and_the_same_in_any_company(
    seed: int, num_ads: int, k: int, num_probes: int | None
) -> None:
    random = np.random.Generator(np.random.Philox(seed))
    ad_RD, user_UD = (random.standard_normal((count, 8), np.float32) for count in (num_ads + 1, 40))
    search = search_in(AdIndex.build(ad_RD), ad_RD)
    together = search(user_UD, k, num_probes)
    found = min(k, num_ads)
    assert (together[:, :found] > 0).all()
    assert (together[:, found:] == -1).all()
    assert all(len(set(rows)) == found for rows in together[:, :found].tolist())
    assert [search(user_UD[at : at + 1], k, num_probes)[0].tolist() for at in range(40)] == together.tolist()


def test_one_list_of_an_index_holds_fewer_ads_than_are_asked_for() -> None:
    """The fault: without the exact search the rest of a short answer is -1."""
    random = np.random.Generator(np.random.Philox(3))
    ad_RD, user_UD = (random.standard_normal((count, 8), np.float32) for count in (2001, 40))
    index = AdIndex.build(ad_RD)
    assert (index.search(user_UD, 300, num_probes=1)[0] < 0).any()
    assert (search_in(index, ad_RD)(user_UD, 300, 1) > 0).all()
