"""Folder of a day: shards are written first, the manifest publishes them, and unnamed files are swept."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Container, Iterable, Iterator

import pyarrow as pa
from pyarrow import fs

from scrollpast import publications
from scrollpast.errors import ScrollpastError, UserError
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest_schema import SCHEMA_VERSION, Manifest, ShardEntry, is_inside

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA_VERSION",
    "DayChangedError",
    "Manifest",
    "ShardEntry",
    "check_all_there",
    "day_folder",
    "is_inside",
    "is_published",
    "list_day",
    "publish_manifest",
    "published_manifest",
    "read_manifest",
    "remove_unpublished",
    "removed_on_failure",
    "shard_path",
    "sweep_orphans",
    "unpublish",
    "write_shard",
]

MANIFEST_NAME = "manifest.json"
_SWEPT_FOLDERS = ("bucket=", "ledger/", "quarantine/", "exposure/", "revocations/")


def shard_path(bucket: int, sha256: str) -> str:
    """Path of a shard in the day's folder: ``bucket=00017/part-<first 16 hex of sha256>.tfrecord``."""
    return f"bucket={bucket:05d}/part-{sha256[:16]}.tfrecord"


def write_shard(
    day_uri: str, bucket: int, batch: pa.RecordBatch, published: Container[str] = ()
) -> ShardEntry:
    """Encode the rows as records and write them below ``day_uri``, named by content; returns the entry.

    A retry or a speculative attempt of a task writes the same bytes to the same name. Nothing is published.

    Args:
        published: paths of existing shards, which are not written again.

    Raises:
        UserError: the file system is unknown, or a column has an unsupported type.
    """
    from scrollpast.shards.codec import (
        encode_records,
    )  # numba is slow to import; readers of manifests do not need it

    content = encode_records(batch)
    sha256 = hashlib.sha256(content).hexdigest()
    entry = ShardEntry(shard_path(bucket, sha256), bucket, batch.num_rows, content.nbytes, sha256)
    if entry.path not in published:
        filesystem, folder = files.resolve(day_uri)
        files.write_atomically(filesystem, files.join(folder, entry.path), content)
    return entry


def day_folder(uri: str | os.PathLike[str]) -> str:
    """Folder of the day whose folder or manifest the URI names."""
    text = os.fspath(uri).rstrip("/")
    return (
        text[: -len(MANIFEST_NAME)].rstrip("/") or "."
        if text.endswith("/" + MANIFEST_NAME)
        else ("." if text == MANIFEST_NAME else text)
    )


def is_published(day_uri: str) -> bool:
    """True if the day's manifest exists."""
    filesystem, folder = files.resolve(day_uri)
    return files.exists(filesystem, files.join(folder, MANIFEST_NAME))


def read_manifest(uri: str) -> Manifest:
    """Read the manifest of a day, by the URI of its folder or of the manifest.

    Raises:
        UserError: the day is not published.
        CorruptShardError: the manifest is malformed, or one of its paths leaves the day's folder.
    """
    folder_uri = day_folder(uri)
    filesystem, folder = files.resolve(folder_uri)
    place = files.join(folder_uri, MANIFEST_NAME)
    try:
        content = files.read_all(filesystem, files.join(folder, MANIFEST_NAME))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            place,
            expected="a manifest, which publishes a day",
            found="no such file",
            remedy="mine the day first, or name the folder ds=… of a published day",
        ) from error
    return Manifest.from_json(content.to_pybytes(), place)


def publish_manifest(
    day_uri: str, manifest: Manifest, *, replace: bool = False, replacing: Manifest | None = None
) -> None:
    """Publish the day: write ``manifest.json`` atomically. Call this function after every shard is written.

    With ``replace=False`` exactly one of two concurrent publishers wins: on a local file system by a hard link, on S3
    by a conditional put if s3fs is installed, on HDFS by a rename that overwrites nothing. Elsewhere the check is just
    before the write and not atomic. A job that changes a published day passes the manifest that it read as
    ``replacing``: a day published by another job since then is never lost (`write_over` of the file system).

    Args:
        replace: replace any published manifest; for folders that no other job writes to.
        replacing: the manifest to be replaced.

    Raises:
        UserError: neither is given, and the day is published, before or during the call.
        DayChangedError: the day's manifest differs from ``replacing`` or is missing; nothing was published.
    """
    filesystem, folder = files.resolve(day_uri)
    path = files.join(folder, MANIFEST_NAME)
    content = manifest.to_json().encode()
    try:
        with publications.publishing(day_uri):
            if replacing is not None:
                place = files.join(day_uri, MANIFEST_NAME)
                if not files.write_over(filesystem, path, content, _is_manifest(replacing, place)):
                    raise _changed_meanwhile(place)
            elif replace:
                files.write_atomically(filesystem, path, content)
            else:
                files.write_new(filesystem, path, content)
    except FileExistsError as error:
        raise UserError(
            files.join(day_uri, MANIFEST_NAME),
            expected="an unpublished day",
            found="a manifest that was published meanwhile",
            remedy="run again to compare with that manifest, or replace it with --overwrite",
        ) from error


class DayChangedError(ScrollpastError):
    """Error for a day that another job replaced while this job worked on the day."""


def _is_manifest(expected: Manifest, place: str) -> Callable[[pa.Buffer], bool]:
    return lambda content: Manifest.from_json(content.to_pybytes(), place) == expected


def _changed_meanwhile(place: str) -> DayChangedError:
    return DayChangedError(
        place,
        expected="the manifest that this run read",
        found="another manifest: another job replaced the day meanwhile",
        remedy="run again",
    )


def unpublish(day_uri: str, manifest: Manifest) -> None:
    """Remove the manifest of a day, so that no reader starts on it.

    Raises:
        DayChangedError: the manifest was replaced meanwhile; the day stays published.
    """
    filesystem, folder = files.resolve(day_uri)
    place = files.join(day_uri, MANIFEST_NAME)
    if not files.delete_unchanged(
        filesystem, files.join(folder, MANIFEST_NAME), _is_manifest(manifest, place)
    ):
        raise _changed_meanwhile(place)


def published_manifest(day_uri: str) -> Manifest | None:
    """Read the manifest of a day; None where the day is not published.

    Raises:
        CorruptShardError: the manifest is malformed.
    """
    return read_manifest(day_uri) if is_published(day_uri) else None


def sweep_orphans(day_uri: str, manifest: Manifest, *, older_than_s: float) -> list[str]:
    """Remove files of killed tasks and replaced runs: files that the manifest does not name.

    Scope: ``bucket=…``, ``ledger``, ``quarantine``, ``exposure`` and ``revocations`` folders, and temporary files
    anywhere in the day's folder. The manifest and files with other names are never removed.

    Args:
        older_than_s: grace in seconds since the file's last change, for a run that is writing now.

    Returns:
        Removed paths, relative to the day's folder, sorted.
    """
    filesystem, folder = files.resolve(day_uri)
    named = set(manifest.paths)
    newest_orphan = time.time() - older_than_s
    removed = []
    for path, info in _written_by_runs(filesystem, folder):
        if path not in named and _changed_at(info) <= newest_orphan:
            files.delete_file(filesystem, info.path)
            removed.append(path)
    return removed


def list_day(day_uri: str) -> frozenset[str]:
    """Relative paths of the files below a day's folder that runs write, without the manifest."""
    return frozenset(path for path, _ in _written_by_runs(*files.resolve(day_uri)))


def remove_unpublished(day_uri: str, paths: Iterable[str]) -> None:
    """Remove files of an unpublished run, and folders left empty.

    A file that the published manifest names stays.

    Args:
        paths: relative to the day's folder.
    """
    published = published_manifest(day_uri)
    removed = sorted(set(paths) - set(published.paths if published is not None else ()))
    filesystem, folder = files.resolve(day_uri)
    for path in removed:
        files.delete_file(filesystem, files.join(folder, path))
    files.remove_empty_folders(filesystem, folder, {path.rpartition("/")[0] for path in removed})


@contextlib.contextmanager
def removed_on_failure(day_uri: str) -> Iterator[frozenset[str]]:
    """Remove the files that the block writes if it fails, so that readers of shards by name find no partial day.

    Yields:
        The files that existed before, as listed by `list_day`.
    """
    before = list_day(day_uri)
    try:
        yield before
    except BaseException:
        with contextlib.suppress(OSError, ScrollpastError):
            remove_unpublished(day_uri, list_day(day_uri) - before)
        raise


def check_all_there(day_uri: str, manifest: Manifest) -> None:
    """Check that every file that a manifest names exists, just before the manifest is published.

    Raises:
        ScrollpastError: a file is missing: another run of the same day failed meanwhile, and removed its files.
    """
    missing = sorted(set(manifest.paths) - list_day(day_uri))
    if missing:
        raise ScrollpastError(
            files.join(day_uri, missing[0]),
            expected=f"the {len(manifest.paths):,} files that were written",
            found=f"{len(missing):,} of them missing: another run of this day ended meanwhile",
            remedy="run again",
        )


def _written_by_runs(filesystem: fs.FileSystem, folder: str) -> Iterator[tuple[str, fs.FileInfo]]:
    """Files below a day's folder that runs write, with their relative paths; not the manifest."""
    for info in files.list_files(filesystem, folder):
        path = info.path[len(folder) :].lstrip("/")
        if path.startswith(_SWEPT_FOLDERS) or files.is_temporary(path):
            yield path, info


def _changed_at(info: fs.FileInfo) -> float:
    # Without a modification time the age is unknown: the file stays.
    return info.mtime.timestamp() if info.mtime is not None else float("inf")
