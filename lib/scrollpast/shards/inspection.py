"""Verification of a path: one TFRecord file, with or without a manifest beside it, or a day."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from scrollpast.compiled import as_bytes_array
from scrollpast.errors import UserError
from scrollpast.record_schema import record_schema
from scrollpast.shards import filesystem as files
from scrollpast.shards.codec import decode_frames
from scrollpast.shards.display import found_schema
from scrollpast.shards.framing import Frames, index_frames
from scrollpast.shards.manifest import MANIFEST_NAME, Manifest, is_published, read_manifest
from scrollpast.shards.reader import PublishedShard, check_sides, read_shard_content

_BATCH_RECORDS = 4096
_RECORDS_LOOKED_AT = 1000


@dataclass(frozen=True)
class InspectedShard:
    """Content of a shard with valid frames; its messages are checked as batches are read."""

    place: str
    remedy: str
    content: pa.Buffer
    frames: Frames
    schema: pa.Schema

    @property
    def num_bytes(self) -> int:
        return int(self.content.size)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Decode and check all records.

        Raises:
            CorruptShardError: a message is malformed, or the lists of one side differ in length.
        """
        for first in range(0, len(self.frames), _BATCH_RECORDS):
            stop = min(first + _BATCH_RECORDS, len(self.frames))
            batch = decode_frames(
                self.content, self.frames, self.schema, self.place, first=first, stop=stop, remedy=self.remedy
            )
            check_sides(batch, self.place, first, self.remedy)
            yield batch


@dataclass(frozen=True)
class Inspection:
    """A day with its manifest, or one file with the manifest of its day, if the manifest exists."""

    path: str
    manifest: Manifest | None
    published: tuple[PublishedShard, ...]

    def shards(self) -> Iterator[InspectedShard]:
        """Read and verify the shards, one at a time.

        Raises:
            CorruptShardError: a file is missing or corrupt.
        """
        for shard in self.published:
            content, frames = read_shard_content(shard)
            schema = self.manifest.records if self.manifest else record_schema()
            yield InspectedShard(shard.uri, shard.remedy, content, frames, schema)
        if not self.published and self.manifest is None:
            filesystem, path = files.resolve(self.path)
            content = files.read_all(filesystem, path)
            frames = index_frames(content, self.path)
            schema = found_schema(as_bytes_array(content), frames, _RECORDS_LOOKED_AT)
            yield InspectedShard(self.path, "write the file again from its source", content, frames, schema)


def open_inspection(path: str, features: Sequence[str]) -> Inspection:
    """Open ``path`` as a TFRecord file, a day's folder, or a day's manifest.

    Raises:
        UserError: ``path`` does not exist, or one of ``features`` is not a feature of the day.
    """
    filesystem, inside = files.resolve(path)
    if path.endswith(MANIFEST_NAME) or not files.exists(filesystem, inside):
        manifest = read_manifest(path)
        folder = path[: -len(MANIFEST_NAME)] or "." if path.endswith(MANIFEST_NAME) else path
        inspection = Inspection(
            path, manifest, tuple(PublishedShard(folder, manifest.ds, entry) for entry in manifest.shards)
        )
    else:
        inspection = _inspect_file(path)
    if inspection.manifest is not None:
        known = inspection.manifest.records.names
        for name in features:
            if name not in known:
                raise UserError(
                    "--feature", expected=f"one of {', '.join(known)}", found=name, remedy="choose one"
                )
    return inspection


def _inspect_file(path: str) -> Inspection:
    # A shard lies two levels below its manifest: ds=…/bucket=…/part-….tfrecord.
    parts = path.rsplit("/", 2)
    folder = parts[0] if len(parts) == 3 else "."
    if len(parts) > 1 and is_published(folder or "/"):
        manifest = read_manifest(folder or "/")
        below = "/".join(parts[-2:])
        for entry in manifest.shards:
            if entry.path == below:
                return Inspection(path, manifest, (PublishedShard(folder or "/", manifest.ds, entry),))
    return Inspection(path, None, ())
