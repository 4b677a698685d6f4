"""Manifests that several jobs replace at once: nothing that one of them published is lost."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
from tests.object_store import object_store
from tests.shards.conftest import PublishDay

from scrollpast.errors import UserError
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import (
    DayChangedError,
    Manifest,
    is_published,
    publish_manifest,
    published_manifest,
    read_manifest,
    unpublish,
)

WORKERS, TIMES = 4, 6


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URI of an empty bucket; the environment leads to the server while the tests of this file run."""
    with object_store() as uri:
        yield uri


@pytest.fixture(params=["local", "s3"])
def day(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    folder = str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket")
    # One bucket serves all tests of this file: every test has a folder of its own.
    return f"{folder}/{tmp_path.name}/ds=2026-11-21"


def add_one(day: str) -> None:
    """Change the manifest as a job does: read it, work, replace what was read; begin again where it is another."""
    while True:
        before = read_manifest(day)
        try:
            publish_manifest(day, replace(before, num_revoked=before.num_revoked + 1), replacing=before)
        except DayChangedError:
            continue
        return


def add_often(day: str) -> None:
    for _ in range(TIMES):
        add_one(day)


@pytest.mark.slow
def test_no_update_of_several_threads_is_lost(day: str, publish_day: PublishDay) -> None:
    publish_day(day)
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(add_often, [day] * WORKERS))
    assert read_manifest(day).num_revoked == WORKERS * TIMES


def test_no_update_of_several_processes_is_lost(tmp_path: Path, publish_day: PublishDay) -> None:
    day = str(tmp_path / "ds=2026-11-21")
    publish_day(day)
    processes = [get_context("spawn").Process(target=add_often, args=(day,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert read_manifest(day).num_revoked == 2 * TIMES
    # The lock is the folder's own: nothing is left in it.
    assert not [path for path in Path(day).iterdir() if path.name not in ("manifest.json", "bucket=00000")
                and not path.name.startswith("bucket=")]  # fmt: skip


def publish(day: str, manifest: Manifest) -> None:
    publish_manifest(day, manifest, replace=False)


CHANGES: dict[str, Callable[[str, Manifest], None]] = {
    "replaced": lambda day, before: publish_manifest(day, replace(before, num_forgotten=7), replacing=before),
    "removed": unpublish,
}


@pytest.mark.parametrize("change", CHANGES)
def test_who_read_an_older_manifest_loses_and_changes_nothing(
    day: str, publish_day: PublishDay, change: str
) -> None:
    publish_day(day)
    before = read_manifest(day)
    CHANGES[change](day, before)
    between = published_manifest(day)
    for late in (
        lambda: publish_manifest(day, replace(before, num_revoked=1), replacing=before),
        lambda: unpublish(day, before),
    ):
        with pytest.raises(
            DayChangedError, match=r"manifest\.json: expected the manifest that this run read"
        ) as lost:
            late()
        assert lost.value.exit_code == 1
        assert published_manifest(day) == between


def test_a_day_that_was_published_meanwhile_is_not_replaced_by_a_first_publication(
    day: str, publish_day: PublishDay
) -> None:
    manifest = publish_day(day)
    with pytest.raises(UserError, match="published meanwhile"):
        publish_manifest(day, replace(manifest, num_revoked=1), replacing=None)
    assert read_manifest(day) == manifest


def after_the_look(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Let another job act once, between the next look at a manifest and what follows from it."""
    original, waiting = Manifest.from_json, [action]

    def look(content: str | bytes, place: str) -> Manifest:
        found = original(content, place)
        if waiting:
            waiting.pop()()
        return found

    monkeypatch.setattr(Manifest, "from_json", staticmethod(look))


def test_a_publication_that_looked_just_before_another_one_loses_at_the_store(
    bucket: str, publish_day: PublishDay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The put itself is conditional: another job's put between the look and it makes it fail."""
    day = f"{bucket}/updates/ds=2026-11-25"
    publish_day(day)
    before = read_manifest(day)
    after_the_look(monkeypatch, lambda: publish_manifest(day, replace(before, num_forgotten=7), replace=True))
    with pytest.raises(DayChangedError):
        publish_manifest(day, replace(before, num_revoked=1), replacing=before)
    assert read_manifest(day).num_forgotten == 7
    assert is_published(day) and files.resolve(day)[0].type_name == "s3"


@pytest.mark.parametrize("are_files_locked", [True, False])
def test_a_mount_that_locks_no_folder_has_its_manifests_replaced_all_the_same(
    tmp_path: Path, publish_day: PublishDay, monkeypatch: pytest.MonkeyPatch, are_files_locked: bool
) -> None:
    """NFS wants a lock's file open for writing; some mounts have no locks."""
    flock, locked = fcntl.flock, []

    def of_mount(descriptor: int, operation: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if is_folder or not are_files_locked:
            raise OSError(errno.EBADF if are_files_locked else errno.ENOLCK, "no locks")
        flock(descriptor, operation)
        locked.append(descriptor)

    monkeypatch.setattr(fcntl, "flock", of_mount)
    day = str(tmp_path / "ds=2026-11-21")
    publish_day(day)
    if are_files_locked:
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(add_often, [day] * WORKERS))
    else:
        add_often(day)
    assert read_manifest(day).num_revoked == (WORKERS if are_files_locked else 1) * TIMES
    assert bool(locked) == are_files_locked


def test_a_lock_that_fails_for_another_reason_is_a_failure(
    tmp_path: Path, publish_day: PublishDay, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = str(tmp_path / "ds=2026-11-21")
    before = publish_day(day)

    def broken(*_: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="the disk is broken"):
        publish_manifest(day, replace(before, num_revoked=1), replacing=before)
    assert read_manifest(day) == before


def test_a_manifest_that_is_removed_just_before_the_put_is_one_that_changed(
    bucket: str, publish_day: PublishDay, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = f"{bucket}/updates/ds=2026-11-26"
    publish_day(day)
    before = read_manifest(day)
    filesystem, folder = files.resolve(day)
    after_the_look(monkeypatch, lambda: files.delete_file(filesystem, files.join(folder, "manifest.json")))
    with pytest.raises(DayChangedError):
        publish_manifest(day, replace(before, num_revoked=1), replacing=before)
    assert not is_published(day)
