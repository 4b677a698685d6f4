"""Readable text of records and manifests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from scrollpast.record_schema import UNKNOWN
from scrollpast.shards.columns import BYTES_LIST, FLOAT_LIST, INT64_LIST
from scrollpast.shards.framing import Frames
from scrollpast.shards.manifest_schema import Manifest
from scrollpast.shards.memory import address_of
from scrollpast.shards.parsing import next_field

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIST_TYPES = {BYTES_LIST: pa.binary(), FLOAT_LIST: pa.float32(), INT64_LIST: pa.int64()}


def readable_records(
    batch: pa.RecordBatch, kinds: Mapping[str, int], features: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Convert each record to names and readable values: times in UTC, kinds by name, -1 in an integer as "unknown".

    Args:
        kinds: the manifest's names and codes; empty = codes are shown.
        features: the features to show; empty = all. An absent feature is left out.
    """
    names_by_code = {code: name for name, code in kinds.items()}
    wanted = [name for name in batch.schema.names if not features or name in features]
    return [
        {name: _readable(name, row[name], names_by_code) for name in wanted if row[name] is not None}
        for row in batch.select(wanted).to_pylist()
    ]


def record_text(number: int, record: Mapping[str, Any], most: int | None = None) -> str:
    """Format a record as a heading, its single values, and one table a side, whose lists are parallel.

    Args:
        most: rows of a table that are shown; the remaining rows are counted. ``None`` = all.
    """
    tables = {side: _side(record, side) for side in ("positive_", "negative_")}
    in_tables = {side + name for side, table in tables.items() for name in table}
    lines = [(name, value) for name, value in record.items() if name not in in_tables]
    width = max((len(name) for name, _ in lines), default=0)
    text = [f"record {number:,}", *(f"  {name:<{width}}  {_joined(value)}" for name, value in lines)]
    for side, table in tables.items():
        if table:
            text += _table_text(_plural(len(next(iter(table.values()))), side.rstrip("_")), table, most)
    return "\n".join(text)


def _side(record: Mapping[str, Any], side: str) -> dict[str, list[Any]]:
    """Lists of one side by name, without its prefix; empty if their lengths differ."""
    columns = {
        name.removeprefix(side): value
        for name, value in record.items()
        if name.startswith(side) and isinstance(value, list)
    }
    return columns if len({len(column) for column in columns.values()}) == 1 else {}


def _table_text(title: str, table: Mapping[str, list[Any]], most: int | None) -> list[str]:
    columns = [[name, *map(_joined, values[:most])] for name, values in table.items()]
    widths = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    text = ["    " + "  ".join(map(str.rjust, row, widths)) for row in rows]
    more = len(next(iter(table.values()))) - (len(text) - 1)
    return [f"  {title}", *(text if len(text) > 1 else []), *([f"    … and {more:,} more"] if more else [])]


def summary_text(num_shards: int, num_records: int, num_bytes: int, manifest: Manifest | None) -> str:
    """Last line of the output: counts of verified shards and records."""
    counted = (
        f"{_plural(num_records, 'record')} in {_plural(num_shards, 'shard')}, {num_bytes:,} bytes: all valid"
    )
    if manifest is None:
        return counted
    return (
        f"ds={manifest.ds}, {manifest.num_positives:,} positives, {manifest.num_negatives:,} negatives in the day; "
        + counted
    )


def found_schema(data: np.ndarray, frames: Frames, num_records: int) -> pa.Schema:
    """Schema of the features in the first ``num_records`` records of a file, for a file without a manifest.

    All features are lists: a sample of records cannot show that a feature has one value in every record.
    """
    kinds: dict[str, int] = {}
    for start, length in zip(frames.starts[:num_records], frames.lengths[:num_records], strict=True):
        for field, features_end in _contents(data, int(start), int(start + length), 1):
            for entry, entry_end in _contents(data, field, features_end, 1):
                keys = list(_contents(data, entry, entry_end, 1))
                name = bytes(data[keys[-1][0] : keys[-1][1]]).decode(errors="replace") if keys else ""
                for value, value_end in _contents(data, entry, entry_end, 2):
                    for kind in _LIST_TYPES:
                        if any(True for _ in _contents(data, value, value_end, kind)):
                            kinds[name] = kind
    return pa.schema([pa.field(name, pa.list_(_LIST_TYPES[kinds[name]])) for name in sorted(kinds)])


def _contents(data: np.ndarray, at: int, stop: int, field_number: int) -> list[tuple[int, int]]:
    """Places of the contents of length-delimited fields with one field number, up to the first malformed byte."""
    found = []
    while at < stop:
        tag, body, end = next_field(address_of(data), at, stop)
        if end < 0:
            break
        if tag == field_number << 3 | 2:
            found.append((body, end))
        at = end
    return found


def _readable(name: str, value: Any, names_by_code: Mapping[int, str]) -> Any:
    if isinstance(value, list):
        return [_readable(name, entry, names_by_code) for entry in value]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, float):
        return float(f"{value:.7g}")  # the digits that a float32 holds
    if value == UNKNOWN:
        return "unknown"
    if name.endswith("_at_ms"):
        return _utc(value)
    return names_by_code.get(value, value) if name.endswith("_kind") else value


def _utc(milliseconds: int) -> str | int:
    try:
        time = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return milliseconds
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _joined(value: Any) -> str:
    if isinstance(value, list):
        return "  ".join(_joined(entry) for entry in value) if value else "(none)"
    return value if isinstance(value, str) else json.dumps(value)


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
