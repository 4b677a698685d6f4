"""Contracts of the input tables, checked before a row is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pt

from scrollpast.errors import UserError

REQUEST_ID = "request_id"
USER_ID = "user_id"
AD_ID = "ad_id"
SERVED_AT = "served_at"
SURFACE = "surface"
POSITION = "position"
DWELL_MS = "dwell_ms"
KIND = "kind"
ENGAGED_AT = "engaged_at"
IS_RANDOM = "is_random"
CREATED_AT = "created_at"

WHOLE_SURFACE = "all"
"""Surface of an impression without a surface."""


@dataclass(frozen=True)
class ColumnType:
    """A family of Arrow types that a column may have."""

    name: str
    accepts: Callable[[pa.DataType], bool]
    nullable: bool = True
    """True: a row may lack the value, and a file of several may lack the column."""


def _is_text(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)) or (
        bool(pt.is_dictionary(kind)) and _is_text(kind.value_type)
    )


def _is_whole(kind: pa.DataType) -> bool:
    # An unsigned 64-bit id above 2⁶³ does not fit int64; all other types widen without loss.
    return bool(pt.is_integer(kind)) and kind != pa.uint64()


def are_same_keys(here: pa.DataType, there: pa.DataType) -> bool:
    """True if values of the two types of identifiers can be equal."""
    return pt.is_null(here) or pt.is_null(there) or _is_text(here) == _is_text(there)


IDENTIFIER = ColumnType("string or long", lambda kind: _is_text(kind) or _is_whole(kind), nullable=False)
NULLABLE_IDENTIFIER = ColumnType(
    "string or long (nulls allowed)", lambda kind: IDENTIFIER.accepts(kind) or pt.is_null(kind)
)
TIMESTAMP = ColumnType("timestamp (UTC)", pt.is_timestamp, nullable=False)
NULLABLE_TIMESTAMP = ColumnType(
    "timestamp (UTC, nulls allowed)", lambda kind: bool(pt.is_timestamp(kind)) or pt.is_null(kind)
)
TEXT = ColumnType("string", lambda kind: _is_text(kind) or pt.is_null(kind))
NAME = ColumnType("string", TEXT.accepts, nullable=False)
NULLABLE_INTEGER = ColumnType("int (nulls allowed)", lambda kind: _is_whole(kind) or pt.is_null(kind))
NULLABLE_NUMBER = ColumnType(
    "double (nulls allowed)", lambda kind: _is_whole(kind) or pt.is_floating(kind) or pt.is_null(kind)
)
BOOLEAN = ColumnType("boolean (nulls allowed)", lambda kind: pt.is_boolean(kind) or pt.is_null(kind))
CATEGORY = ColumnType(
    "string, long or boolean",
    lambda kind: IDENTIFIER.accepts(kind) or pt.is_boolean(kind) or pt.is_null(kind),
)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind))


IDENTIFIERS = ColumnType(
    "list of string or long",
    lambda kind: pt.is_null(kind) or (_is_list(kind) and NULLABLE_IDENTIFIER.accepts(kind.value_type)),
)


@dataclass(frozen=True)
class TableContract:
    """Required columns of a table, and optional columns that are read if they exist."""

    name: str
    required: dict[str, ColumnType]
    optional: dict[str, ColumnType]

    def extended(self, columns: Iterable[tuple[str, ColumnType]]) -> TableContract:
        """Contract with further required columns, for example configured features."""
        extra = {name: kind for name, kind in columns if name not in self.required}
        optional = {name: kind for name, kind in self.optional.items() if name not in extra}
        return TableContract(self.name, {**self.required, **extra}, optional)

    def columns_in(self, schema: pa.Schema) -> list[str]:
        """Columns to read from a table with this schema, in the contract's order."""
        return [name for name in {**self.required, **self.optional} if name in schema.names]

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Names of the columns that hold ids."""
        columns = {**self.required, **self.optional}
        return tuple(name for name, kind in columns.items() if kind in (IDENTIFIER, NULLABLE_IDENTIFIER))

    @property
    def lists(self) -> tuple[str, ...]:
        """Names of the columns that hold lists of ids."""
        columns = {**self.required, **self.optional}
        return tuple(name for name, kind in columns.items() if kind is IDENTIFIERS)

    def check(self, schema: pa.Schema, place: str, *, is_part: bool = False) -> None:
        """Check a schema against the contract.

        Args:
            is_part: the schema is that of one file of several, which may lack a nullable column.

        Raises:
            UserError: naming the table, the column, what was expected and what was found.
        """
        missing = [name for name in self.required if name not in schema.names]
        if missing and not (is_part and all(self.required[name].nullable for name in missing)):
            wanted = ", ".join(f"{name} ({self.required[name].name})" for name in missing)
            raise UserError(
                f"{self.name} ({place})",
                expected=f"the column{'s' if len(missing) > 1 else ''} {wanted}",
                found=f"only {', '.join(sorted(schema.names)) or 'no columns'}",
                remedy="rename or add the column where the table is made",
            )
        for name in self.columns_in(schema):
            wanted_type = self.required.get(name) or self.optional[name]
            found = schema.field(name).type
            if not wanted_type.accepts(found):
                raise UserError(
                    f"{self.name}.{name} ({place})",
                    expected=wanted_type.name,
                    found=str(found),
                    remedy="cast the column where the table is made",
                )

    def check_same_keys(self, schema: pa.Schema, place: str, other: pa.Schema, other_place: str) -> None:
        """Compare the types of the identifiers of two schemas: a string never equals a long.

        Raises:
            UserError: an identifier is a string here and a long there.
        """
        for name in self.identifiers:
            if name not in schema.names or name not in other.names:
                continue
            here, there = schema.field(name).type, other.field(name).type
            if are_same_keys(here, there):
                continue
            raise UserError(
                f"{self.name}.{name} ({place})",
                expected=f"{there}, as in {other_place}",
                found=str(here),
                remedy="give both the same type: a string never equals a long",
            )


IMPRESSIONS = TableContract(
    "impressions",
    required={
        REQUEST_ID: IDENTIFIER,
        USER_ID: IDENTIFIER,
        AD_ID: IDENTIFIER,
        SERVED_AT: TIMESTAMP,
        POSITION: NULLABLE_INTEGER,
        DWELL_MS: NULLABLE_INTEGER,
    },
    optional={SURFACE: TEXT},
)
ENGAGEMENTS = TableContract(
    "engagements",
    required={USER_ID: IDENTIFIER, AD_ID: IDENTIFIER, KIND: NAME, ENGAGED_AT: TIMESTAMP},
    optional={REQUEST_ID: NULLABLE_IDENTIFIER},
)
ADS = TableContract("ads", required={AD_ID: IDENTIFIER}, optional={})
AGED_ADS = TableContract("ads", required=ADS.required, optional={CREATED_AT: NULLABLE_TIMESTAMP})
"""Optional column: the creation time of an ad separates new ads."""
USERS = TableContract("users", required={USER_ID: IDENTIFIER}, optional={})


def users_contract(user_features: Iterable[str], history: str | None) -> TableContract:
    """Contract of the table of users: the column of the history, and the user features that the table may hold."""
    lists = [] if history is None else [(history, IDENTIFIERS)]
    contract = USERS.extended(lists)
    return TableContract(contract.name, contract.required, dict.fromkeys(user_features, CATEGORY))
