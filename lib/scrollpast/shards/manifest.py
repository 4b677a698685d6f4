"""A day's folder: shards are written freely, the manifest publishes them, and what it does not name is swept."""

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
    """A shard's path in the day's folder: ``bucket=00017/part-<first 16 hex of sha256>.tfrecord``."""
    return f"bucket={bucket:05d}/part-{sha256[:16]}.tfrecord"


def write_shard(
    day_uri: str, bucket: int, batch: pa.RecordBatch, published: Container[str] = ()
) -> ShardEntry:
    """Encode the rows as records and write them below ``day_uri``, named by content; returns the entry.

    A retry or a speculative twin of a task writes the same bytes to the same name. Nothing is published.

    Args:
        published: paths that are there already and stay as they are.

    Raises:
        UserError: the file system is unknown, or a column has a type that no feature has.
    """
    from scrollpast.shards.codec import (
        encode_records,
    )  # numba is slow to import; readers of manifests need none

    content = encode_records(batch)
    sha256 = hashlib.sha256(content).hexdigest()
    entry = ShardEntry(shard_path(bucket, sha256), bucket, batch.num_rows, content.nbytes, sha256)
    if entry.path not in published:
        filesystem, folder = files.resolve(day_uri)
        files.write_atomically(filesystem, files.join(folder, entry.path), content)
    return entry


def day_folder(uri: str | os.PathLike[str]) -> str:
    """The day's folder of a URI that names it or its manifest."""
    text = os.fspath(uri).rstrip("/")
    return (
        text[: -len(MANIFEST_NAME)].rstrip("/") or "."
        if text.endswith("/" + MANIFEST_NAME)
        else ("." if text == MANIFEST_NAME else text)
    )


def is_published(day_uri: str) -> bool:
    """Whether the day's manifest is there."""
    filesystem, folder = files.resolve(day_uri)
    return files.exists(filesystem, files.join(folder, MANIFEST_NAME))


def read_manifest(uri: str) -> Manifest:
    """The manifest of a day, by the URI of its folder or of the manifest itself.

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
    """Publish the day: write ``manifest.json``, whole or not at all. Call it after every shard is written.

    With ``replace=False`` one of two concurrent publishers wins: on a local file system by a hard link, on S3
    by a conditional put if s3fs is installed, on HDFS by a rename that overwrites nothing. Elsewhere the check
    comes just before the write. A job that changes a published day passes the manifest that it read as
    ``replacing``: what another job published since then is never lost (`write_over` of the file system).

    Args:
        replace: replace whatever is published, for folders that no other job writes to.
        replacing: the manifest that is to be replaced.

    Raises:
        UserError: neither is given, and the day is published already, or was meanwhile.
        DayChangedError: the day has another manifest than ``replacing``, or none; nothing was published.
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
            expected="a day that is not published",
            found="a manifest that was published meanwhile",
            remedy="run again to compare with it, or replace it with --overwrite",
        ) from error


class DayChangedError(ScrollpastError):
    """A day that another job replaced while this one worked on it."""


def _is_manifest(expected: Manifest, place: str) -> Callable[[pa.Buffer], bool]:
    return lambda content: Manifest.from_json(content.to_pybytes(), place) == expected


def _changed_meanwhile(place: str) -> DayChangedError:
    return DayChangedError(
        place,
        expected="the manifest that this run read",
        found="another one: another job replaced the day meanwhile",
        remedy="run again",
    )


def unpublish(day_uri: str, manifest: Manifest) -> None:
    """Remove the manifest of a day, so that nobody begins to read it.

    Raises:
        DayChangedError: the day has another manifest by now; it stays published.
    """
    filesystem, folder = files.resolve(day_uri)
    place = files.join(day_uri, MANIFEST_NAME)
    if not files.delete_unchanged(
        filesystem, files.join(folder, MANIFEST_NAME), _is_manifest(manifest, place)
    ):
        raise _changed_meanwhile(place)


def published_manifest(day_uri: str) -> Manifest | None:
    """The manifest of a day; None where the day is not published.

    Raises:
        CorruptShardError: the manifest is malformed.
    """
    return read_manifest(day_uri) if is_published(day_uri) else None


def sweep_orphans(day_uri: str, manifest: Manifest, *, older_than_s: float) -> list[str]:
    """Remove what killed tasks and replaced runs left: files the manifest does not name.

    Looked at: ``bucket=…``, ``ledger``, ``quarantine``, ``exposure`` and ``revocations`` folders, and temporary files
    anywhere in the day's folder. The manifest and files of other names are never touched.

    Args:
        older_than_s: grace in seconds since the file's last change, for a run that is writing now.

    Returns:
        The removed paths, relative to the day's folder, sorted.
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
    """The files that a run may have written below a day's folder, relative to it; the manifest is none of them."""
    return frozenset(path for path, _ in _written_by_runs(*files.resolve(day_uri)))


def remove_unpublished(day_uri: str, paths: Iterable[str]) -> None:
    """Remove files of a run that was not published, and the folders that are empty then.

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
    """Remove the files that the block writes if it fails: who reads shards by their names alone must find none of them.

    Yields:
        The files that were there before, as `list_day` gives them.
    """
    before = list_day(day_uri)
    try:
        yield before
    except BaseException:
        with contextlib.suppress(OSError, ScrollpastError):
            remove_unpublished(day_uri, list_day(day_uri) - before)
        raise


def check_all_there(day_uri: str, manifest: Manifest) -> None:
    """Check that every file that a manifest names is there, just before it is published.

    Raises:
        ScrollpastError: a file is gone: another run of the same day failed meanwhile, and removed what it wrote.
    """
    missing = sorted(set(manifest.paths) - list_day(day_uri))
    if missing:
        raise ScrollpastError(
            files.join(day_uri, missing[0]),
            expected=f"the {len(manifest.paths):,} files that were written",
            found=f"{len(missing):,} of them gone: another run of this day ended meanwhile",
            remedy="run again",
        )


def _written_by_runs(filesystem: fs.FileSystem, folder: str) -> Iterator[tuple[str, fs.FileInfo]]:
    """The files below a day's folder that runs write, by their paths relative to it; not the manifest."""
    for info in files.list_files(filesystem, folder):
        path = info.path[len(folder) :].lstrip("/")
        if path.startswith(_SWEPT_FOLDERS) or files.is_temporary(path):
            yield path, info


def _changed_at(info: fs.FileInfo) -> float:
    # A file system that tells no time gives no proof of age: the file stays.
    return info.mtime.timestamp() if info.mtime is not None else float("inf")
