"""Records of published days as Arrow batches, verified, in manifest order, resumable at every batch."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyarrow import compute

from scrollpast.errors import CorruptShardError, UserError
from scrollpast.record_schema import HISTORY_AD_ID, NEGATIVE_FEATURES, POSITIVE_FEATURES, record_schema
from scrollpast.shards import filesystem as files
from scrollpast.shards.codec import decode_frames
from scrollpast.shards.framing import Frames, index_frames
from scrollpast.shards.manifest import Manifest, ShardEntry, day_folder, read_manifest
from scrollpast.shards.revocations import RevokedNegatives, read_revocations, revoked_by_bucket

_STATE_VERSION = 1


@dataclass(frozen=True)
class PublishedShard:
    """Shard of a published day: the day's folder (URI), its date, and the manifest's entry."""

    day_uri: str
    ds: str
    entry: ShardEntry
    revoked: RevokedNegatives | None = field(default=None, compare=False, repr=False)
    """Revoked negatives of the shard, which readers leave out."""

    @property
    def uri(self) -> str:
        """Place of the shard in messages."""
        return files.join(self.day_uri, self.entry.path)

    @property
    def remedy(self) -> str:
        """Remedy where the content differs from the manifest."""
        return f"mine ds={self.ds} again with --overwrite"


def published_shards(day_uri: str, manifest: Manifest) -> list[PublishedShard]:
    """Shards of a published day, with their revoked negatives.

    Raises:
        CorruptShardError: the day's revocations are missing or corrupt.
    """
    folder = day_folder(day_uri)
    revoked = revoked_by_bucket(read_revocations(folder, manifest.revocation_file))
    return [
        PublishedShard(folder, manifest.ds, entry, revoked.get(entry.bucket)) for entry in manifest.shards
    ]


def read_shard_content(shard: PublishedShard, *, verify: bool = True) -> tuple[pa.Buffer, Frames]:
    """Read the bytes of a shard and its records' places; memory holds one whole shard.

    Args:
        verify: check the content's SHA-256 and, where it differs, every payload's CRC, to find the corrupt record.
            Sizes, counts, and the CRCs of lengths are always checked.

    Raises:
        CorruptShardError: the file is missing or differs from its manifest entry; names record and byte where the
            frames show them.
    """
    entry = shard.entry
    filesystem, path = files.resolve(shard.uri)
    try:
        content = files.read_all(filesystem, path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _differs(shard, f"a file of {entry.num_bytes:,} bytes", "no such file") from error
    frames = index_frames(content, shard.uri, verify_payloads=False, remedy=shard.remedy)
    if content.size != entry.num_bytes:
        raise _differs(shard, f"{entry.num_bytes:,} bytes", f"{content.size:,}")
    if len(frames) != entry.num_records:
        raise _differs(shard, f"{entry.num_records:,} records", f"{len(frames):,}")
    if verify and (digest := hashlib.sha256(content).hexdigest()) != entry.sha256:
        # The digest covers every payload and detects corruption; the CRCs locate the record.
        index_frames(content, shard.uri, verify_payloads=True, remedy=shard.remedy)
        raise _differs(shard, f"sha256 {entry.sha256}", digest)
    return content, frames


def decode_shard(
    shard: PublishedShard,
    content: pa.Buffer,
    frames: Frames,
    schema: pa.Schema,
    *,
    first: int = 0,
    stop: int | None = None,
    verify: bool = True,
) -> pa.RecordBatch:
    """Decode records ``first`` to ``stop`` of a shard's content, without its revoked negatives.

    Args:
        verify: check that the lists of one side are equally long.

    Raises:
        CorruptShardError: a record is malformed, or its lists differ in length.
    """
    revoked = shard.revoked if shard.revoked is not None and shard.revoked.concerns(schema) else None
    read = schema if revoked is None else revoked.needed_beside(schema)
    batch = decode_frames(content, frames, read, shard.uri, first=first, stop=stop, remedy=shard.remedy)
    if verify or revoked is not None:
        check_sides(batch, shard.uri, first, shard.remedy)
    return batch if revoked is None else revoked.drop(batch).select(schema.names)


class ShardReader:
    """Iterator over the records of published days, batch by batch; a batch never spans two shards.

    Args:
        manifests: URIs of days' folders or of their manifests, read in this order.
        features: names of the wanted features; None = all of the record's schema.
        optional: names of features that are read besides ``features`` where the days hold them.
        batch_records: the largest number of records of a batch; the last batch of a shard may be shorter.
        verify: check digests (see `read_shard_content`), and that the lists of one side are equally long.
        state: continue at the position of a reader's ``state()``.

    Raises:
        UserError: a day is not published, days differ in their user features or their user key, or a name is no
            feature.
        CorruptShardError: a manifest or, while iterating, a shard is corrupt.
    """

    def __init__(
        self,
        manifests: Sequence[str],
        *,
        features: Sequence[str] | None = None,
        optional: Sequence[str] = (),
        batch_records: int = 4096,
        verify: bool = True,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        if batch_records < 1:
            raise UserError(
                "batch_records", expected="1 or more", found=str(batch_records), remedy="raise it"
            )
        self.days: list[Manifest] = [read_manifest(uri) for uri in manifests]
        _check_one_user_key(self.days)
        # Shards are independent: ranks and workers can divide this list.
        self.shards = [
            shard
            for uri, day in zip(manifests, self.days, strict=True)
            for shard in published_shards(uri, day)
        ]
        self.schema = _schema(self.days, features, optional)
        self._batch_records = batch_records
        self._verify = verify
        self._shard_index = 0
        self._record = 0
        if state is not None:
            self.restore(state)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Batches from the current position to the end; `rewind` before the next epoch."""
        while self._shard_index < len(self.shards):
            shard = self.shards[self._shard_index]
            content, frames = read_shard_content(shard, verify=self._verify)
            while self._record < len(frames):
                stop = min(self._record + self._batch_records, len(frames))
                batch = decode_shard(
                    shard, content, frames, self.schema, first=self._record, stop=stop, verify=self._verify
                )
                # The position moves before the batch is yielded: state() then includes this batch.
                self._record = stop
                yield batch
            self._shard_index += 1
            self._record = 0

    def rewind(self) -> None:
        """Go back to the first record."""
        self._shard_index = self._record = 0

    def state(self) -> dict[str, Any]:
        """Position after the last yielded batch, as JSON values."""
        return {
            "version": _STATE_VERSION,
            "shards": _fingerprint(self.days),
            "shard_index": self._shard_index,
            "record": self._record,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue at a position of `state`, also with other features or another batch size.

        Raises:
            UserError: the state is malformed, or belongs to other shards.
        """
        expected = _fingerprint(self.days)
        if state.get("version") != _STATE_VERSION or state.get("shards") != expected:
            raise UserError(
                "state of the reader",
                expected=f"version {_STATE_VERSION} and shards {expected}",
                found=f"version {state.get('version')} and shards {state.get('shards')}",
                remedy="restore it with the same days, without a later mining run or revocation, "
                "or start from the beginning",
            )
        index, record = state.get("shard_index"), state.get("record")
        sizes = [shard.entry.num_records for shard in self.shards] + [0]
        if not (
            isinstance(index, int)
            and isinstance(record, int)
            and 0 <= index < len(sizes)
            and 0 <= record <= sizes[index]
        ):
            raise UserError(
                "state of the reader",
                expected="shard_index and record inside the shards",
                found=f"{index!r} and {record!r}",
                remedy="start from the beginning",
            )
        self._shard_index, self._record = index, record


def check_sides(batch: pa.RecordBatch, place: str, first_record: int, remedy: str) -> None:
    """Check that the lists of one side (positive, negative) are equally long in every record.

    Raises:
        CorruptShardError: names the first record and the two features that differ.
    """
    for side in (POSITIVE_FEATURES, NEGATIVE_FEATURES):
        names = [name for name in side if name in batch.schema.names]
        if not names:
            continue
        wanted = compute.list_value_length(batch.column(names[0])).fill_null(0)
        for name in names[1:]:
            lengths = compute.list_value_length(batch.column(name)).fill_null(0)
            if not lengths.equals(wanted):
                row = compute.index(compute.equal(lengths, wanted), False).as_py()
                raise CorruptShardError(
                    f"{place}, record {first_record + row:,}, feature {name}",
                    expected=f"{wanted[row]} values, as many as {names[0]} has",
                    found=str(lengths[row]),
                    remedy=remedy,
                )


def _check_one_user_key(days: Sequence[Manifest]) -> None:
    """Check that all days' user ids were hashed with the same key, or all without a key."""
    keys = {day.user_key: day.ds for day in days}
    if len(keys) > 1:
        found = ", ".join(f"{key or 'no key'} (ds={ds})" for key, ds in keys.items())
        raise UserError(
            "user_key of the days",
            expected="days whose user ids were hashed with the same key",
            found=found,
            remedy="mine the other days again with the same privacy.user_key_env, or read the days separately",
        )


def _schema(
    days: Sequence[Manifest], features: Sequence[str] | None, optional: Sequence[str] = ()
) -> pa.Schema:
    for day in days[1:]:
        if features is None and day.records != days[0].records:
            raise UserError(
                f"days {days[0].ds} and {day.ds}",
                expected="the same user features",
                found=f"{_of_users(days[0])} and {_of_users(day)}",
                remedy="name the features to read",
            )
    schemas = [day.records for day in days] or [record_schema()]
    if features is None:
        return schemas[0]
    for schema in schemas:
        for name in features:
            if name not in schema.names:
                close = difflib.get_close_matches(name, schema.names, n=1)
                raise UserError(
                    f"feature {name}",
                    expected=f"one of {', '.join(schema.names)}",
                    found=f"{name!r}",
                    remedy=f"did you mean {close[0]}?" if close else "choose one of these features",
                )
    present = [name for name in optional if any(name in schema.names for schema in schemas)]
    for name in present:
        lacking = [day.ds for day, schema in zip(days, schemas, strict=True) if name not in schema.names]
        if lacking:
            raise UserError(
                f"feature {name}",
                expected="in all days, or in none",
                found=f"none in {', '.join(lacking)}",
                remedy="mine these days again with the same options",
            )
    return pa.schema([schemas[0].field(name) for name in (*features, *present)])


def _of_users(day: Manifest) -> list[str]:
    return [*day.user_features, *([HISTORY_AD_ID] if day.has_user_history else [])]


def _fingerprint(days: Sequence[Manifest]) -> str:
    """Digest of all inputs that decide the records of a reader of the days."""
    lines = [f"{day.ds} {entry.path} {entry.sha256}" for day in days for entry in day.shards]
    lines += [f"{day.ds} {day.revocation_file}" for day in days if day.revocation_file is not None]
    text = "\n".join(lines)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _differs(shard: PublishedShard, expected: str, found: str) -> CorruptShardError:
    return CorruptShardError(shard.uri, expected=expected, found=found, remedy=shard.remedy)
