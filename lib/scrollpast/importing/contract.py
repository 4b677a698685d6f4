"""The tables that an import writes, with the types of the input contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import pyarrow as pa

UTC_TIME = pa.timestamp("us", tz="UTC")
TABLES = ("impressions", "engagements", "ads")
USERS = "users"
"""Table of logs that describe their users"""
POSITIVE_KINDS = ("click", "long_click", "save", "conversion")

Column: TypeAlias = pa.Array | pa.ChunkedArray


def impressions_schema(id_type: pa.DataType, request_type: pa.DataType, **extra: pa.DataType) -> pa.Schema:
    """Schema of impressions: one row is one shown ad; ``extra`` columns describe the user or the moment."""
    columns = {
        "request_id": request_type,
        "user_id": id_type,
        "ad_id": id_type,
        "served_at": UTC_TIME,
        "surface": pa.string(),
        "position": pa.int32(),
        "dwell_ms": pa.int32(),
        "propensity": pa.float64(),
        "is_random": pa.bool_(),
    }
    return pa.schema({**columns, **extra})


def engagements_schema(id_type: pa.DataType, request_type: pa.DataType) -> pa.Schema:
    """Schema of engagements: one row is one action of a user on an ad."""
    return pa.schema(
        {
            "user_id": id_type,
            "ad_id": id_type,
            "kind": pa.string(),
            "engaged_at": UTC_TIME,
            "request_id": request_type,
            "value": pa.float64(),
        }
    )


def ads_schema(id_type: pa.DataType, category_type: pa.DataType, **extra: pa.DataType) -> pa.Schema:
    """Schema of ads: one row is one ad."""
    columns = {
        "ad_id": id_type,
        "advertiser_id": pa.int64(),
        "category_id": category_type,
        "created_at": UTC_TIME,
    }
    return pa.schema({**columns, **extra})


def users_schema(id_type: pa.DataType, lists: Iterable[str], **features: pa.DataType) -> pa.Schema:
    """Schema of users: one row is one user before the log; ``lists`` hold ids of ads, oldest first."""
    return pa.schema({"user_id": id_type, **features, **{name: pa.list_(id_type) for name in lists}})


def table_of(schema: pa.Schema, columns: Mapping[str, Column], num_rows: int) -> pa.Table:
    """Table of the schema; a column that is not given is null in every row.

    Args:
        schema: names and types.
        columns: arrays [num_rows]; cast to the schema's types.
        num_rows: rows of the table.
    """
    unknown = sorted(set(columns) - set(schema.names))
    assert not unknown, unknown
    arrays = [
        columns[field.name].cast(field.type) if field.name in columns else pa.nulls(num_rows, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)
