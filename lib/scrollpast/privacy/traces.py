"""Search for traces of forgotten users in every file of published days, by record and by byte."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scrollpast.hashing import ID_MASK, hash_column
from scrollpast.privacy.forgetting import published_days
from scrollpast.privacy.suppression import UserSet, whole_numbers
from scrollpast.privacy.user_keys import UserKey
from scrollpast.record_schema import USER_ID
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import (
    read_manifest,
)
from scrollpast.shards.reader import decode_shard, published_shards, read_shard_content

_SHORTEST_TRACE = 5


@dataclass(frozen=True)
class Forgotten:
    """Users to forget: their names in the log, and their possible ids in records."""

    names: tuple[str, ...]
    users: UserSet
    ids: NDArray[np.int64]
    """Ids that records may hold."""

    @classmethod
    def of(cls, names: Iterable[str], key: UserKey | None) -> Forgotten:
        """Build from names in the log; without a key, a name that is a number is searched as a number and as text."""
        distinct = tuple(dict.fromkeys(names))
        users = UserSet.of(distinct, key)
        if key is not None:
            return cls(distinct, users, np.array([key.id_of(name) for name in distinct], np.int64))
        of_texts = hash_column(pa.array(distinct, pa.string()))
        return cls(distinct, users, np.concatenate([of_texts & ID_MASK, whole_numbers(distinct)]))

    @property
    def traces(self) -> tuple[bytes, ...]:
        """Byte patterns of the ids in a file: as text, as digits, as eight bytes, as a varint."""
        found = {name.encode() for name in self.names} | {
            str(number).encode() for number in self.ids.tolist()
        }
        found |= {number.to_bytes(8, "little", signed=True) for number in self.ids.tolist()}
        found |= {_varint(number) for number in self.ids.tolist()}
        # Eight bytes that are mostly zeros occur in every file.
        return tuple(sorted(trace for trace in found if len(trace.strip(b"\0")) >= _SHORTEST_TRACE))

    @property
    def num_without_traces(self) -> int:
        """Users whose id is too short to search files for its bytes: short ids occur by chance."""
        return sum(len(name.encode()) < _SHORTEST_TRACE for name in self.names)


def traces_left(folder_uri: str, users: Forgotten) -> list[str]:
    """Search every file below a folder for the users: in decoded records and rows, and in the bytes.

    Returns:
        One line for each trace; empty after a complete removal.
    """
    store, folder = files.resolve(folder_uri)
    found = []
    for day_uri in published_days(folder_uri):
        for shard in published_shards(day_uri, read_manifest(day_uri)):
            content, frames = read_shard_content(shard)
            users_of = decode_shard(shard, content, frames, pa.schema([(USER_ID, pa.int64())]))[USER_ID]
            if count := int(users.users.in_files(users_of).sum()):
                found.append(f"{shard.uri}: {count} records")
    traces = users.traces
    for info in files.list_files(store, folder):
        content = files.read_all(store, info.path)
        if info.path.endswith(".parquet"):
            table = pq.read_table(pa.BufferReader(content))
            if USER_ID in table.column_names and (count := int(users.users.in_files(table[USER_ID]).sum())):
                found.append(f"{info.path}: {count} rows")
        raw = content.to_pybytes()
        if any(_stands_in(trace, raw) for trace in traces):
            found.append(f"{info.path}: the bytes of an id")
    return found


def _stands_in(trace: bytes, content: bytes) -> bool:
    """True if an id occurs in a file; as text only where it is no part of a longer word, such as another user's name.

    Columns are searched separately, so that the bytes before a text do not hide a match.
    """
    if trace not in content:
        return False
    if not trace.isascii() or not trace.decode().isprintable():
        return True
    return re.search(rb"(?<![0-9A-Za-z])" + re.escape(trace) + rb"(?![0-9A-Za-z])", content) is not None


def _varint(number: int) -> bytes:
    """Varint of an int64 in protobuf's encoding."""
    rest, found = number & (2**64 - 1), bytearray()
    while rest > 127:
        found.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*found, rest])
