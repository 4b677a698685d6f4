"""Revocations of published negatives that later engagements contradict; every reader leaves these negatives out.

Shards stay unchanged. A day's revocations are one Parquet file that its manifest names: user_id, ad_id and
served_at_ms identify the negative, reason and engaged_at_ms the engagement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scrollpast.errors import CorruptShardError
from scrollpast.record_schema import NEGATIVE_FEATURES, USER_ID
from scrollpast.shards import filesystem as files

FOLDER = "revocations"
AD_ID, SERVED_AT_MS, BUCKET, REASON, ENGAGED_AT_MS = (
    "ad_id",
    "served_at_ms",
    "bucket",
    "reason",
    "engaged_at_ms",
)
SCHEMA = pa.schema(
    [
        (USER_ID, pa.int64()),
        (AD_ID, pa.int64()),
        (SERVED_AT_MS, pa.int64()),
        (BUCKET, pa.int32()),
        (REASON, pa.string()),
        (ENGAGED_AT_MS, pa.int64()),
    ]
)
_KEYS = {USER_ID: USER_ID, AD_ID: "negative_ad_id", SERVED_AT_MS: "negative_served_at_ms"}
"""Columns of revocations by the features of a record that they are compared with."""


@dataclass(frozen=True)
class RevokedNegatives:
    """Revocations of one bucket of one day, for `drop`: sorted keys int64, and their combinations."""

    keys: tuple[NDArray[np.int64], ...]
    combinations: NDArray[np.int64]

    @classmethod
    def of(cls, table: pa.Table) -> RevokedNegatives:
        """Build from rows of `SCHEMA`."""
        columns = [table[name].to_numpy() for name in _KEYS]
        keys = tuple(np.unique(column) for column in columns)
        assert np.prod([float(len(key)) for key in keys]) < 2**62, "more revocations than negatives can be"
        places = [np.searchsorted(key, column) for key, column in zip(keys, columns, strict=True)]
        return cls(keys, np.unique(_combined(keys, places)))

    def needed_beside(self, schema: pa.Schema) -> pa.Schema:
        """Schema with the features that identify a negative, if it has any feature of negatives."""
        if not self.concerns(schema):
            return schema
        fields = [
            pa.field(USER_ID, pa.int64()),
            *(pa.field(name, NEGATIVE_FEATURES[name]) for name in _FEATURES),
        ]
        return pa.schema([*schema, *(field for field in fields if field.name not in schema.names)])

    def concerns(self, schema: pa.Schema) -> bool:
        """True if the schema has a feature of negatives."""
        return any(name in NEGATIVE_FEATURES for name in schema.names)

    def drop(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Remove the revoked negatives from the records, whose lists of one side have to be equally long."""
        users = batch[USER_ID].to_numpy()
        if not np.isin(users, self.keys[0]).any():
            return batch
        lengths = pc.list_value_length(batch[_FEATURES[0]]).fill_null(0).to_numpy()
        values = [users.repeat(lengths), *(batch[name].flatten().to_numpy() for name in _FEATURES)]
        places = [
            np.minimum(np.searchsorted(key, value), len(key) - 1)
            for key, value in zip(self.keys, values, strict=True)
        ]
        is_known = np.logical_and.reduce(
            [key[place] == value for key, place, value in zip(self.keys, places, values, strict=True)]
        )
        is_kept = ~(is_known & np.isin(_combined(self.keys, places), self.combinations))
        record = np.arange(len(users)).repeat(lengths)
        kept_lengths = np.bincount(record[is_kept], minlength=len(users))
        offsets = pa.array(np.append(0, np.cumsum(kept_lengths)).astype(np.int32))
        mask = pa.array(is_kept)
        columns = [
            pa.ListArray.from_arrays(offsets, column.flatten().filter(mask)).cast(column.type)
            if name in NEGATIVE_FEATURES
            else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


_FEATURES = tuple(_KEYS.values())[1:]


def _combined(keys: tuple[NDArray[np.int64], ...], places: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Combined number of the places in all keys."""
    combined = np.zeros(1, np.int64)
    for key, place in zip(keys, places, strict=True):
        combined = combined * len(key) + place
    return combined


def write_revocations(table: pa.Table, day_uri: str) -> str:
    """Write the revocations of a day, sorted, named by content; returns the path relative to the day's folder."""
    order = [(name, "ascending") for name in (BUCKET, *_KEYS)]
    sink = pa.BufferOutputStream()
    pq.write_table(table.select(SCHEMA.names).sort_by(order).combine_chunks(), sink, compression="zstd")
    return files.write_named(sink.getvalue(), FOLDER, "parquet", day_uri)


def read_revocations(day_uri: str, path: str | None) -> pa.Table:
    """Read the revocations of a day, by the path in its manifest; empty without a path.

    Raises:
        CorruptShardError: the file is missing or corrupt.
    """
    if path is None:
        return SCHEMA.empty_table()
    place = files.join(day_uri, path)
    store, inside = files.resolve(place)
    remedy = "put the file back, or revoke the day's negatives again from the engagements"
    try:
        content = files.read_all(store, inside)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CorruptShardError(
            place, expected="the revocations that the manifest names", found="no such file", remedy=remedy
        ) from error
    digest = hashlib.sha256(content).hexdigest()[:16]
    if f"part-{digest}.parquet" != path.rpartition("/")[2]:
        raise CorruptShardError(
            place, expected="the content of its name", found=f"part-{digest}", remedy=remedy
        )
    return pq.read_table(pa.BufferReader(content)).cast(SCHEMA)


def revoked_by_bucket(table: pa.Table) -> dict[int, RevokedNegatives]:
    """Revoked negatives by bucket."""
    buckets = table[BUCKET].to_numpy()
    return {
        bucket: RevokedNegatives.of(table.filter(pa.array(buckets == bucket)))
        for bucket in np.unique(buckets).tolist()
    }
