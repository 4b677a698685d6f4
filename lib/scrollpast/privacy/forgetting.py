"""Removal of users from published days: their records, invalid rows and revocations, and every file that holds them.

A day is published again as in mining: first new files, named by their content, then the manifest in one step. Then the
old files are removed. An interrupted run can be run again. Only files that hold one of the users are rewritten; records
of other users keep their bytes.

Jobs that publish days call `publish_obeying`, so that a published day holds no user of the suppression list.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scrollpast.errors import UserError
from scrollpast.privacy.suppression import LIST_NAME, UserSet, folder_of, read_suppressed
from scrollpast.privacy.user_keys import UserKey, check_user_key
from scrollpast.record_schema import NEGATIVE_FEATURES, POSITIVE_FEATURES, USER_ID
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import (
    MANIFEST_NAME,
    DayChangedError,
    Manifest,
    ShardEntry,
    check_all_there,
    publish_manifest,
    published_manifest,
    remove_unpublished,
    removed_on_failure,
    write_shard,
)
from scrollpast.shards.reader import PublishedShard, decode_shard, published_shards, read_shard_content

_ATTEMPTS = 5
"""Attempts at a day that other jobs replace meanwhile."""
_DAY = re.compile(r"(?:.*/)?ds=\d{4}-\d{2}-\d{2}")
"""Smallest number of bytes of an id that files are searched for; shorter ids are found by chance."""


@dataclass
class ForgottenDay:
    """Result for one day."""

    uri: str
    num_records: int = 0
    num_broken_rows: int = 0
    num_revocations: int = 0
    removed: list[str] = field(default_factory=list)
    """Removed files, relative to the day's folder."""
    manifest: Manifest | None = None
    """The new manifest; None where the day is unchanged, or was removed meanwhile."""

    @property
    def is_changed(self) -> bool:
        return bool(self.num_records or self.num_broken_rows or self.num_revocations)


def published_days(folder_uri: str) -> list[str]:
    """URIs of all days below a folder, including held days.

    Raises:
        UserError: the folder holds no day.
    """
    store, folder = files.resolve(folder_uri)
    found = []
    for info in files.list_files(store, folder):
        inside, _, name = info.path[len(folder) :].lstrip("/").rpartition("/")
        if name == MANIFEST_NAME and _DAY.fullmatch(inside):
            found.append(files.join(folder_uri, inside))
    if not found:
        raise UserError(
            folder_uri,
            expected="a folder with published days (ds=…)",
            found="none",
            remedy="name their folder",
        )
    return found


def forget(day_uri: str, users: UserSet, key: UserKey | None) -> ForgottenDay:
    """Publish a day without these users, and remove files that the new manifest does not name.

    A day that another job replaces meanwhile is read again, so that the change is kept and the users are removed. A day
    that is removed meanwhile is skipped.

    Raises:
        UserError: the day was mined with another key.
        CorruptShardError: a file of the day is corrupt; nothing was published.
        DayChangedError: other jobs replaced the day in every attempt.
    """
    for _ in range(_ATTEMPTS - 1):
        with suppress(DayChangedError):
            return _forget_once(day_uri, users, key)
    return _forget_once(day_uri, users, key)


def _forget_once(day_uri: str, users: UserSet, key: UserKey | None) -> ForgottenDay:
    before = published_manifest(day_uri)
    if before is None:  # a held day that was mined again and published, or swept
        return ForgottenDay(day_uri)
    check_user_key(key, before.user_key, day_uri)
    return _publish_without(day_uri, before, users, before.suppressed)


def _publish_without(day_uri: str, before: Manifest, users: UserSet, suppressed: str | None) -> ForgottenDay:
    """Replace a published manifest by a manifest without the users, and remove every file that it does not name."""
    with removed_on_failure(day_uri) as there:
        manifest, done = _without_users(day_uri, before, users)
        # Files of an interrupted run or of a replaced day may hold the users too, whatever their age.
        orphans = there - set(manifest.paths)
        if done.is_changed or orphans or suppressed != before.suppressed:
            # The time makes every new manifest different: a job that read the old manifest cannot publish any more,
            # and so cannot name a removed file.
            done.manifest = replace(
                manifest, suppressed=suppressed, forgotten_at=datetime.now(UTC).isoformat()
            )
            publish_manifest(day_uri, done.manifest, replacing=before)
    if done.manifest is not None:
        remove_unpublished(day_uri, orphans)
        done.removed = sorted(orphans)
    return done


def _without_users(day_uri: str, manifest: Manifest, users: UserSet) -> tuple[Manifest, ForgottenDay]:
    """Rewrite the files of a day that hold the users, without these users; nothing is published."""
    done = ForgottenDay(day_uri)
    kept, num_positives, num_negatives = _without_records(day_uri, manifest, users, done)
    quarantine = [
        _without_rows(day_uri, path, "quarantine", users, done, "num_broken_rows")
        for path in manifest.quarantine_files
    ]
    revocations = manifest.revocation_file
    if revocations is not None:
        revocations = _without_rows(day_uri, revocations, "revocations", users, done, "num_revocations")
    without = replace(
        manifest,
        shards=kept,
        num_records=manifest.num_records - done.num_records,
        num_positives=manifest.num_positives - num_positives,
        num_negatives=manifest.num_negatives - num_negatives,
        quarantine_files=tuple(path for path in quarantine if path is not None),
        revocation_file=revocations,
        num_revoked=manifest.num_revoked - done.num_revocations,
        num_forgotten=manifest.num_forgotten + done.num_records,
    )
    return without, done


def publish_obeying(
    day_uri: str, manifest: Manifest, *, replacing: Manifest | None, folders: Sequence[str] = ()
) -> Manifest:
    """Publish a day without the users of the suppression list; returns the published manifest.

    The list is read before and after publication, so that users added since the day was mined are removed.

    Args:
        manifest: names the day's files, all of which are written; its ``suppressed`` is the digest of the applied list.
        replacing: the manifest to be replaced; None = the day has to be unpublished.
        folders: folders of days whose lists apply too, beside the list of the day's own folder.

    Raises:
        UserError: the day is published and ``replacing`` is None, or a list does not fit the day.
        DayChangedError: the day's manifest differs from ``replacing``; nothing was published.
        ScrollpastError: a file of the day is missing; nothing was published.
    """
    written = manifest.paths
    users = _suppressed_for(day_uri, manifest, folders)
    if users.digest != manifest.suppressed:
        manifest = replace(_without_users(day_uri, manifest, users)[0], suppressed=users.digest)
    check_all_there(day_uri, manifest)
    publish_manifest(day_uri, manifest, replacing=replacing)
    remove_unpublished(day_uri, written)
    return obey(day_uri, manifest, folders)


def obey(day_uri: str, manifest: Manifest, folders: Sequence[str] = ()) -> Manifest:
    """Remove users from a published day who were added to the suppression list after the day was written.

    Args:
        manifest: the published manifest.
        folders: folders of days whose lists apply too.

    Returns:
        The manifest published afterwards: unchanged where the day holds none of these users.
    """
    for _ in range(_ATTEMPTS):
        users = _suppressed_for(day_uri, manifest, folders)
        if users.digest == manifest.suppressed:
            return manifest
        if not _holds_one_of(day_uri, manifest, users):
            return manifest
        with suppress(DayChangedError):
            done = _publish_without(day_uri, manifest, users, users.digest)
            manifest = done.manifest or manifest
            continue
        current = published_manifest(day_uri)
        if current is None:
            return manifest
        manifest = current
    raise DayChangedError(
        files.join(day_uri, MANIFEST_NAME),
        expected="a day that no other job replaces while the users of the suppression list are removed from it",
        found=f"other jobs replaced it, or changed the list, {_ATTEMPTS} times",
        remedy="run again",
    )


def _suppressed_for(day_uri: str, manifest: Manifest, folders: Sequence[str]) -> UserSet:
    users = read_suppressed(folder_of(day_uri), *folders)
    if len(users) and users.user_key != manifest.user_key:
        raise UserError(
            files.join(folder_of(day_uri), LIST_NAME),
            expected=f"users under the key of the day {manifest.ds}, {manifest.user_key or 'which has none'}",
            found=f"users under {users.user_key or 'no key'}",
            remedy="mine the day with the key of the list, or into another folder",
        )
    return users


def _holds_one_of(day_uri: str, manifest: Manifest, users: UserSet) -> bool:
    buckets = users.buckets(manifest.num_buckets)
    records = pa.schema([(USER_ID, pa.int64())])
    for shard in published_shards(day_uri, manifest):
        if shard.entry.bucket in buckets:
            content, frames = read_shard_content(shard)
            if users.in_files(decode_shard(shard, content, frames, records)[USER_ID]).any():
                return True
    store, root = files.resolve(day_uri)
    paths = [*manifest.quarantine_files, *filter(None, [manifest.revocation_file])]
    return any(users.in_files(_read_parquet(store, files.join(root, path))[USER_ID]).any() for path in paths)


def _read_parquet(store: pa.fs.FileSystem, path: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(files.read_all(store, path)))


def _without_records(
    day_uri: str, manifest: Manifest, users: UserSet, done: ForgottenDay
) -> tuple[tuple[ShardEntry, ...], int, int]:
    """Rewrite the shards of the users' buckets; returns all shards, and counts of removed positives and negatives."""
    buckets = users.buckets(manifest.num_buckets)
    entries: list[ShardEntry] = []
    num_positives = num_negatives = 0
    for shard in _with_all_negatives(day_uri, manifest):
        entry = shard.entry
        if entry.bucket not in buckets:
            entries.append(entry)
            continue
        content, frames = read_shard_content(shard)
        batch = decode_shard(shard, content, frames, manifest.records)
        theirs = pa.array(users.in_files(batch[USER_ID]))
        gone = batch.filter(theirs)
        if not len(gone):
            entries.append(entry)
            continue
        done.num_records += len(gone)
        num_positives += _num_values(gone, next(iter(POSITIVE_FEATURES)))
        num_negatives += _num_values(gone, next(iter(NEGATIVE_FEATURES)))
        if len(gone) < len(batch):
            entries.append(write_shard(day_uri, entry.bucket, batch.filter(pc.invert(theirs))))
    return tuple(entries), num_positives, num_negatives


def _with_all_negatives(day_uri: str, manifest: Manifest) -> Iterator[PublishedShard]:
    """Shards with all negatives: readers leave revoked negatives out, but the files keep them."""
    for shard in published_shards(day_uri, manifest):
        yield replace(shard, revoked=None)


def _num_values(batch: pa.RecordBatch, name: str) -> int:
    return int(pc.sum(pc.list_value_length(batch[name])).as_py() or 0)


def _without_rows(
    day_uri: str, path: str, folder: str, users: UserSet, done: ForgottenDay, count: str
) -> str | None:
    """Remove the users' rows from a Parquet file of the day; returns its path, or None if no row is left."""
    store, root = files.resolve(day_uri)
    table = _read_parquet(store, files.join(root, path))
    is_theirs = users.in_files(table[USER_ID])
    num_theirs = int(is_theirs.sum())
    if not num_theirs:
        return path
    setattr(done, count, getattr(done, count) + num_theirs)
    left = table.filter(pa.array(~is_theirs))
    if not left.num_rows:
        return None
    sink = pa.BufferOutputStream()
    pq.write_table(left.combine_chunks(), sink, compression="zstd")
    return files.write_named(sink.getvalue(), folder, "parquet", day_uri)


def names_of(path: str | None, given: Sequence[str]) -> list[str]:
    """Names of the users to forget: the given names, and the lines of a file ("-": standard input).

    Raises:
        UserError: no name is given, or the file cannot be read.
    """
    lines: list[str] = []
    if path == "-":
        lines = sys.stdin.read().splitlines()
    elif path is not None:
        try:
            store, inside = files.resolve(path)
            lines = files.read_all(store, inside).to_pybytes().decode().splitlines()
        except (FileNotFoundError, UnicodeDecodeError) as error:
            raise UserError(
                f"--users {path}", expected="a text file, a user a line", found=type(error).__name__,
                remedy="pass a text file, or - for standard input",
            ) from error  # fmt: skip
    names = [name for name in (*given, *(line.strip() for line in lines)) if name]
    if not names:
        raise UserError("--user", expected="at least one user", found="none", remedy="pass --user or --users")
    return names
