"""Vocabulary of days: the reference in a manifest, and the choice where days name several vocabularies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.training.data.days import records, vocabulary, write_day

from scrollpast.errors import CorruptShardError, UserError
from scrollpast.shards.manifest import publish_manifest, read_manifest
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.shards.vocabulary_of_days import (
    build_command,
    name_vocabulary,
    referenced_vocabulary,
    resolve_vocabulary,
    vocabulary_reference,
)


def _words(num_ads: int, **changes: Any) -> Vocabulary:
    """The first ads of one long list: those with more extend those with fewer."""
    fields: dict[str, Any] = {
        "ad_ids": np.concatenate([[0], np.arange(101, 101 + num_ads)]),
        "counts": np.concatenate([[0], np.ones(num_ads)]),
        "feature_codes": {},
        "values": {},
        "num_user_rows": 10,
    }
    return Vocabulary(**(fields | changes))


@pytest.fixture
def days(tmp_path: Path) -> list[str]:
    random = np.random.Generator(np.random.Philox(1))
    dates = ("2026-11-19", "2026-11-20", "2026-11-21")
    return [write_day(tmp_path, [records(random, 0, 3)], ds=ds) for ds in dates]


def _name(day: str, words: Vocabulary, out: Path) -> str:
    uri = words.write(str(out))
    name_vocabulary(day, read_manifest(day), uri)
    return uri


# Reference to a vocabulary in a manifest


@pytest.mark.parametrize(
    ("day", "folder", "reference"),
    [
        ("/out/ds=1", "/out/vocabulary/v=a", "../vocabulary/v=a"),
        ("/out/ds=1/manifest.json", "/out/deep/er/vocabulary/v=a", "../deep/er/vocabulary/v=a"),
        ("/out/ds=1", "/out/ds=1/vocabulary/v=a", "vocabulary/v=a"),
        ("/out/ds=1", "/other/vocabulary/v=a", "/other/vocabulary/v=a"),
        ("/out/ds=1", "/outer/vocabulary/v=a", "/outer/vocabulary/v=a"),
        ("/out/days/ds=1", "/out/vocabulary/v=a", "/out/vocabulary/v=a"),
        ("file:///out/ds=1", "/out/vocabulary/v=a/", "../vocabulary/v=a"),
        ("memory://out/ds=1", "memory://out/vocabulary/v=a", "../vocabulary/v=a"),
        ("memory://out/ds=1", "memory://other/vocabulary/v=a", "memory://other/vocabulary/v=a"),
        ("memory://out/ds=1", "/out/vocabulary/v=a", "/out/vocabulary/v=a"),
        ("/out/ds=1", "memory://out/vocabulary/v=a", "memory://out/vocabulary/v=a"),
    ],
)
def test_a_vocabulary_beside_the_day_is_named_relative_to_it_and_any_other_by_its_place(
    day: str, folder: str, reference: str
) -> None:
    assert vocabulary_reference(day, folder) == reference
    found = referenced_vocabulary(day, reference)
    assert found.removeprefix("file://") == folder.rstrip("/")


def test_relative_places_are_those_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert vocabulary_reference("ds=1", "vocabulary/v=a") == "../vocabulary/v=a"
    assert vocabulary_reference("ds=1", "../v=a") == str(tmp_path.parent / "v=a")
    assert referenced_vocabulary("ds=1", "../vocabulary/v=a") == str(tmp_path / "vocabulary" / "v=a")


def test_naming_changes_one_line_of_the_manifest(tmp_path: Path, days: list[str]) -> None:
    path = Path(days[0]) / "manifest.json"
    before = path.read_text()
    uri = _words(3).write(str(tmp_path))
    assert name_vocabulary(str(path), read_manifest(days[0]), uri)
    version = _words(3).version
    assert path.read_text() == before.replace('"ads": null', f'"ads": "../vocabulary/v={version}"')


def test_a_manifest_that_names_it_already_is_left_alone(tmp_path: Path, days: list[str]) -> None:
    uri = _name(days[0], _words(3), tmp_path)
    manifest = read_manifest(days[0])
    absolute = replace(manifest, ads=uri)
    for written in (manifest, absolute):  # however it names it
        publish_manifest(days[0], written, replace=True)
        inode = (Path(days[0]) / "manifest.json").stat().st_ino
        assert not name_vocabulary(days[0], manifest, uri)
        assert (Path(days[0]) / "manifest.json").stat().st_ino == inode
        assert read_manifest(days[0]) == written


def test_a_newer_vocabulary_takes_the_place_of_an_older_one(tmp_path: Path, days: list[str]) -> None:
    for num_ads in (3, 4):
        _name(days[0], _words(num_ads), tmp_path)
        assert read_manifest(days[0]).ads == f"../vocabulary/v={_words(num_ads).version}"


def test_a_day_that_was_mined_again_meanwhile_is_not_named(tmp_path: Path, days: list[str]) -> None:
    counted = read_manifest(days[0])
    other = replace(read_manifest(days[1]), ds=counted.ds)
    publish_manifest(days[0], other, replace=True)
    uri = _words(3).write(str(tmp_path))
    with pytest.raises(UserError, match=r"ds=2026-11-19/manifest.json: .*mined again meanwhile; build the"):
        name_vocabulary(days[0], counted, uri)
    assert read_manifest(days[0]) == other


def test_a_manifest_that_cannot_be_written_is_told_with_what_to_do(
    tmp_path: Path, days: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    uri = _words(3).write(str(tmp_path))
    monkeypatch.setattr("os.replace", refuse)  # rights do not stop a test that runs as root
    with pytest.raises(UserError, match=rf"found PermissionError: Permission denied; .*vocabulary to {uri}$"):
        name_vocabulary(days[0], read_manifest(days[0]), uri)
    assert [path.name for path in Path(days[0]).glob(".*")] == []


# Choice of a vocabulary


def test_the_vocabulary_that_the_days_name_is_taken(tmp_path: Path, days: list[str]) -> None:
    for day in days:
        _name(day, vocabulary(), tmp_path)
    found, uri = resolve_vocabulary(days, None)
    assert found.version == vocabulary().version
    assert uri == f"{tmp_path}/vocabulary/v={found.version}"


def test_days_and_vocabulary_move_together(tmp_path: Path, days: list[str]) -> None:
    for day in days:
        _name(day, _words(3), tmp_path)
    moved = shutil.move(tmp_path, tmp_path.with_name("moved"))
    there = [f"{moved}/{Path(day).name}" for day in days]
    assert resolve_vocabulary(there, None)[0].version == _words(3).version


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_of_several_the_one_that_extends_all_others_is_taken(
    tmp_path: Path, days: list[str], order: tuple[int, ...]
) -> None:
    for day, place in zip(days, order, strict=True):
        _name(day, _words((2, 5, 9)[place]), tmp_path)
    assert resolve_vocabulary(days, None)[0].num_rows == 10


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_one_that_extends_two_which_do_not_extend_each_other_is_found(
    tmp_path: Path, days: list[str], order: tuple[int, ...]
) -> None:
    with_feature = {"values": {"color": ("red",)}}
    several = [
        _words(2, feature_codes={"color": np.array([0, 1, 0])}, **with_feature),
        _words(3),
        _words(4, feature_codes={"color": np.array([0, 1, 0, 1, 1])}, **with_feature),
    ]
    assert not several[1].extends(several[0]) and not several[0].extends(several[1])
    for day, place in zip(days, order, strict=True):
        _name(day, several[place], tmp_path)
    assert resolve_vocabulary(days, None)[0].version == several[2].version


@pytest.mark.parametrize("order", list(permutations(range(2))))
def test_of_those_that_mean_the_same_the_newest_is_taken_for_its_counts(
    tmp_path: Path, days: list[str], order: tuple[int, ...]
) -> None:
    twins = [
        _words(3, created_at=f"2026-11-2{n}T00:00:00+00:00", counts=np.array([0, n, n, n])) for n in (1, 2)
    ]
    for day, place in zip(days, order, strict=False):
        _name(day, twins[place], tmp_path)
    assert resolve_vocabulary(days, None)[0].version == twins[1].version


def test_a_day_that_names_none_fits_any(tmp_path: Path, days: list[str]) -> None:
    _name(days[1], _words(3), tmp_path)
    assert resolve_vocabulary(days, None)[0].num_rows == 4


def test_days_that_name_none_are_refused_with_what_to_do(days: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        resolve_vocabulary(days, None)
    assert str(caught.value) == (
        f"{', '.join(days)}: expected a vocabulary that the manifest of a day names, found none; "
        f"set training.vocabulary, or build one from these days: {build_command(days)}"
    )


def test_a_given_vocabulary_goes_over_the_one_that_is_named(tmp_path: Path, days: list[str]) -> None:
    _name(days[0], _words(3), tmp_path)
    newer = _words(5).write(str(tmp_path))
    found, uri = resolve_vocabulary(days, newer)
    assert (found.num_rows, uri) == (6, newer)
    assert resolve_vocabulary(days[1:], newer)[0].num_rows == 6


@pytest.mark.parametrize("num_given", [None, 1])
def test_a_day_whose_vocabulary_is_not_extended_is_named_with_both_versions(
    tmp_path: Path, days: list[str], num_given: int | None
) -> None:
    stranger = _name(days[1], _words(2, num_user_rows=99), tmp_path)
    if num_given is None:
        _name(days[0], _words(3), tmp_path)
        expected, given = _words(3), None
    else:
        expected = _words(num_given)
        given = expected.write(str(tmp_path))
    with pytest.raises(UserError) as caught:
        resolve_vocabulary(days, given)
    assert str(caught.value) == (
        f"{days[1]}/manifest.json, ads: expected vocabulary {expected.version}, or a vocabulary that it extends, "
        f"found vocabulary {_words(2, num_user_rows=99).version} ({stranger}), which it does not extend; "
        "build a vocabulary from all of these days, with this vocabulary as its parent to keep its rows: "
        + build_command(days, "--parent", stranger)
    )


def test_a_named_vocabulary_that_is_gone_is_told_with_the_day_that_names_it(
    tmp_path: Path, days: list[str]
) -> None:
    gone = _name(days[1], _words(3), tmp_path)
    given = _words(9).write(str(tmp_path / "elsewhere"))
    shutil.rmtree(gone)
    for uri in (None, given):
        with pytest.raises(UserError) as caught:
            resolve_vocabulary(days, uri)
        assert str(caught.value) == (
            f"{days[1]}/manifest.json, ads: expected the vocabulary {gone}, which the day names, "
            "found no vocabulary.json in it; "
            f"restore it, or build the vocabulary of this day again: {build_command(days[1:2])}"
        )


def test_a_given_vocabulary_of_the_version_that_is_named_may_lie_elsewhere(
    tmp_path: Path, days: list[str]
) -> None:
    gone = _name(days[0], _words(3), tmp_path)
    given = _words(3).write(str(tmp_path / "elsewhere"))
    shutil.rmtree(gone)
    assert resolve_vocabulary(days, given)[0].version == _words(3).version


def _changed(folder: Path) -> None:
    about = json.loads((folder / "vocabulary.json").read_text())
    (folder / "vocabulary.json").write_text(json.dumps(about | {"num_user_rows": 11}))


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (_changed, r"found \w{16} instead of content of version \w{16} \(.*vocabulary.json\)"),
        (
            lambda folder: (folder / "ads.parquet").unlink(),
            r"instead of a vocabulary's three files \(.*v=\w{16}\)",
        ),
    ],
)
def test_a_damaged_vocabulary_is_told_with_the_day_that_names_it(
    tmp_path: Path, days: list[str], damage: Callable[[Path], Any], found: str
) -> None:
    damage(Path(_name(days[1], _words(3), tmp_path)))
    with pytest.raises(CorruptShardError, match=rf"ds=2026-11-20/manifest.json, ads: .*{found}"):
        resolve_vocabulary(days, None)


def test_a_day_that_is_not_published_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a manifest, which publishes a day, found no such file"):
        resolve_vocabulary([str(tmp_path)], None)
