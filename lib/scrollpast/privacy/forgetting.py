"""Take users out of published days: their records, broken rows and revocations, and every file that still holds them.

A day is published anew as it is mined: new files first, named by their content, then the manifest, at once; then the
old files go. A run that is interrupted is run again. Only files that hold one of the users are written; what a bucket
has of other users keeps its bytes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scrollpast.errors import UserError
from scrollpast.example import NEGATIVE_FEATURES, POSITIVE_FEATURES, USER_ID, record_schema
from scrollpast.hashing import ID_MASK, bucket_of, hash_column, xxhash64
from scrollpast.privacy.user_keys import UserKey, check_user_key
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import (
    MANIFEST_NAME,
    DayChangedError,
    Manifest,
    ShardEntry,
    publish_manifest,
    published_manifest,
    read_manifest,
    sweep_orphans,
    write_shard,
)
from scrollpast.shards.reader import PublishedShard, decode_shard, published_shards, read_shard_content

_ATTEMPTS = 5
"""Attempts at a day that other jobs replace meanwhile."""
_DAY = re.compile(r"(?:.*/)?ds=\d{4}-\d{2}-\d{2}")
_SHORTEST_TRACE = 5
"""Bytes of an id that are looked for in whole files; fewer are found by chance everywhere."""


@dataclass(frozen=True)
class Forgotten:
    """The users to forget: how the log names them, and which ids and buckets that may have become."""

    names: tuple[str, ...]
    ids: NDArray[np.int64]
    hashes: NDArray[np.int64]
    """What the bucket of each id goes by."""

    @classmethod
    def of(cls, names: Iterable[str], key: UserKey | None) -> Forgotten:
        """A name that is a number may be a number or a text in the log: without a key both are looked for."""
        distinct = tuple(dict.fromkeys(names))
        if key is not None:
            ids = np.array([key.id_of(name) for name in distinct], np.int64)
            return cls(distinct, ids, xxhash64(ids))
        of_texts = hash_column(pa.array(distinct, pa.string()))
        whole = [int(name) for name in distinct if re.fullmatch(r"-?\d{1,19}", name)]
        numbers = np.array([number for number in whole if -(2**63) <= number < 2**63], np.int64)
        ids = np.concatenate([of_texts & ID_MASK, numbers])
        return cls(distinct, ids, np.concatenate([of_texts, xxhash64(numbers)]))

    def buckets(self, num_buckets: int) -> frozenset[int]:
        """The buckets that may hold one of them."""
        return frozenset(bucket_of(self.hashes, num_buckets).tolist())

    def are_in(self, column: pa.ChunkedArray | pa.Array) -> pa.Array | pa.ChunkedArray:
        """Which rows are theirs, by a column of ids or of the log's own names: no nulls."""
        wanted = (
            pa.array(self.ids) if pa.types.is_integer(column.type) else pa.array(self.names).cast(column.type)
        )
        return pc.is_in(column, value_set=wanted)

    @property
    def traces(self) -> tuple[bytes, ...]:
        """How one of them may stand in a file: as text, as digits, as eight bytes, as a varint."""
        found = {name.encode() for name in self.names} | {
            str(number).encode() for number in self.ids.tolist()
        }
        found |= {number.to_bytes(8, "little", signed=True) for number in self.ids.tolist()}
        found |= {_varint(number) for number in self.ids.tolist()}
        # Eight bytes that are mostly zeros stand in every file.
        return tuple(sorted(trace for trace in found if len(trace.strip(b"\0")) >= _SHORTEST_TRACE))


@dataclass
class ForgottenDay:
    """What became of one day."""

    uri: str
    num_records: int = 0
    num_broken_rows: int = 0
    num_revocations: int = 0
    removed: list[str] = field(default_factory=list)
    """Files that are gone, relative to the day's folder."""

    @property
    def is_changed(self) -> bool:
        return bool(self.num_records or self.num_broken_rows or self.num_revocations)


def published_days(folder_uri: str) -> list[str]:
    """The URIs of all days below a folder, those that the gate holds too.

    Raises:
        UserError: there is none.
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


def forget(day_uri: str, users: Forgotten, key: UserKey | None) -> ForgottenDay:
    """Publish a day without these users, and remove what the new manifest does not name.

    A day that another job replaces meanwhile is read again, so that the change is kept and the user is not. A day
    that is gone meanwhile is left alone.

    Raises:
        UserError: the day was mined with another key.
        CorruptShardError: a file of the day is not what was written; nothing was published.
        DayChangedError: other jobs replaced the day again and again.
    """
    for _ in range(_ATTEMPTS - 1):
        with suppress(DayChangedError):
            return _forget_once(day_uri, users, key)
    return _forget_once(day_uri, users, key)


def _forget_once(day_uri: str, users: Forgotten, key: UserKey | None) -> ForgottenDay:
    before = published_manifest(day_uri)
    if before is None:  # a held day that was mined again and published, or swept
        return ForgottenDay(day_uri)
    manifest = before
    check_user_key(key, manifest.user_key, day_uri)
    done = ForgottenDay(day_uri)
    kept, num_positives, num_negatives = _without_records(day_uri, manifest, users, done)
    quarantine = [
        _without_rows(day_uri, path, "quarantine", users, done, "num_broken_rows")
        for path in manifest.quarantine_files
    ]
    revocations = manifest.revocation_file
    if revocations is not None:
        revocations = _without_rows(day_uri, revocations, "revocations", users, done, "num_revocations")
    if done.is_changed:
        manifest = replace(
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
        publish_manifest(day_uri, manifest, replacing=before)
    # Also what an interrupted run, or a day that was replaced, has left: it may hold them, whatever its age.
    done.removed = sweep_orphans(day_uri, manifest, older_than_s=0)
    return done


def traces_left(folder_uri: str, users: Forgotten) -> list[str]:
    """Look for the users in every file below a folder: in decoded records and rows, and in the bytes themselves.

    Returns:
        What was found, a line each; none is as it should be.
    """
    store, folder = files.resolve(folder_uri)
    found = []
    for day_uri in published_days(folder_uri):
        for shard in published_shards(day_uri, read_manifest(day_uri)):
            content, frames = read_shard_content(shard)
            users_of = decode_shard(shard, content, frames, pa.schema([(USER_ID, pa.int64())]))[USER_ID]
            if (count := pc.sum(users.are_in(users_of)).as_py()) or 0:
                found.append(f"{shard.uri}: {count} records")
    traces = users.traces
    for info in files.list_files(store, folder):
        content = files.read_all(store, info.path)
        if info.path.endswith(".parquet"):
            table = pq.read_table(pa.BufferReader(content))
            if USER_ID in table.column_names and (count := pc.sum(users.are_in(table[USER_ID])).as_py()):
                found.append(f"{info.path}: {count} rows")
        raw = content.to_pybytes()
        if any(_stands_in(trace, raw) for trace in traces):
            found.append(f"{info.path}: the bytes of an id")
    return found


def _without_records(
    day_uri: str, manifest: Manifest, users: Forgotten, done: ForgottenDay
) -> tuple[tuple[ShardEntry, ...], int, int]:
    """Write the shards of their buckets anew; returns all shards, and the positives and negatives that went."""
    buckets = users.buckets(manifest.num_buckets)
    entries: list[ShardEntry] = []
    num_positives = num_negatives = 0
    for shard in _with_all_negatives(day_uri, manifest):
        entry = shard.entry
        if entry.bucket not in buckets:
            entries.append(entry)
            continue
        content, frames = read_shard_content(shard)
        batch = decode_shard(shard, content, frames, record_schema(manifest.user_features))
        theirs = users.are_in(batch[USER_ID])
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
    """The shards as they were written: what was revoked is left out by readers, and stays in the file."""
    for shard in published_shards(day_uri, manifest):
        yield replace(shard, revoked=None)


def _num_values(batch: pa.RecordBatch, name: str) -> int:
    return int(pc.sum(pc.list_value_length(batch[name])).as_py() or 0)


def _without_rows(
    day_uri: str, path: str, folder: str, users: Forgotten, done: ForgottenDay, count: str
) -> str | None:
    """A Parquet file of the day without their rows; its path, which is new if there were any, None if none is left."""
    store, root = files.resolve(day_uri)
    table = pq.read_table(pa.BufferReader(files.read_all(store, files.join(root, path))))
    theirs = users.are_in(table[USER_ID])
    num_theirs = int(pc.sum(theirs).as_py() or 0)
    if not num_theirs:
        return path
    setattr(done, count, getattr(done, count) + num_theirs)
    left = table.filter(pc.invert(theirs))
    if not left.num_rows:
        return None
    sink = pa.BufferOutputStream()
    pq.write_table(left.combine_chunks(), sink, compression="zstd")
    return files.write_named(sink.getvalue(), folder, "parquet", day_uri)


def _stands_in(trace: bytes, content: bytes) -> bool:
    """Whether an id stands in a file; as text only where it is no part of a longer word, such as another user's name.

    Columns are read besides, so that nothing hangs on what stands before a text by chance.
    """
    if trace not in content:
        return False
    if not trace.isascii() or not trace.decode().isprintable():
        return True
    return re.search(rb"(?<![0-9A-Za-z])" + re.escape(trace) + rb"(?![0-9A-Za-z])", content) is not None


def _varint(number: int) -> bytes:
    """As protobuf writes an int64."""
    rest, found = number & (2**64 - 1), bytearray()
    while rest > 127:
        found.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*found, rest])


def names_of(path: str | None, given: Sequence[str]) -> list[str]:
    """The users to forget: those given, and the lines of a file ("-": standard input).

    Raises:
        UserError: there is none, or no such file.
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
                remedy="name one, or - for standard input",
            ) from error  # fmt: skip
    names = [name for name in (*given, *(line.strip() for line in lines)) if name]
    if not names:
        raise UserError("--user", expected="at least one user", found="none", remedy="pass --user or --users")
    return names
