"""Arrow columns as the flat NumPy arrays that the compiled codec works on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from scrollpast.compiled import as_bytes_array, frozen
from scrollpast.errors import UserError

# Field numbers of tf.train.Feature's oneof.
BYTES_LIST, FLOAT_LIST, INT64_LIST = 1, 2, 3
LIST_NAMES = {0: "no list", BYTES_LIST: "bytes_list", FLOAT_LIST: "float_list", INT64_LIST: "int64_list"}


@dataclass(frozen=True)
class FeatureType:
    """Feature type of a column: ``kind`` (BYTES_LIST …) and whether a row holds exactly one value."""

    kind: int
    is_scalar: bool


@dataclass(frozen=True)
class FeatureColumn:
    """One column of n rows as the values of a feature.

    Row i holds ``values[offsets[i]:offsets[i + 1]]`` if ``present[i]``, and has no such feature otherwise.
    Numbers: ``values`` int64 or float32 [m]. Bytes: ``values`` uint8, and value j of the column is
    ``values[value_offsets[j]:value_offsets[j + 1]]`` (int64 [m + 1]; empty for numbers).
    """

    name: str
    kind: int
    values: np.ndarray
    value_offsets: np.ndarray
    offsets: np.ndarray
    present: np.ndarray


def feature_type(field: pa.Field) -> FeatureType:
    """Feature type of an Arrow field.

    Raises:
        UserError: the type is not int64, float32, binary, string, or a list of these.
    """
    kind = field.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    value_type = kind.value_type if is_list else kind
    if value_type == pa.int64():
        return FeatureType(INT64_LIST, not is_list)
    if value_type == pa.float32():
        return FeatureType(FLOAT_LIST, not is_list)
    if _is_bytes(value_type):
        return FeatureType(BYTES_LIST, not is_list)
    raise UserError(
        f"column {field.name}",
        expected="int64, float32, binary, string or a list of these",
        found=str(kind),
        remedy="cast the column before writing records",
    )


def feature_columns(batch: pa.RecordBatch) -> list[FeatureColumn]:
    """Columns of ``batch``, sorted by the bytes of their names.

    Raises:
        UserError: an unsupported type, two columns with the same name, or a null inside a list.
    """
    names = batch.schema.names
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise UserError(
            f"column {', '.join(twice)}",
            expected="distinct column names",
            found="several",
            remedy="rename the columns: a record's features are a map",
        )
    return [
        _feature_column(batch.schema.field(name), batch.column(name))
        for name in sorted(names, key=str.encode)
    ]


def _feature_column(field: pa.Field, array: pa.Array) -> FeatureColumn:
    form = feature_type(field)
    present = np.ones(len(array), np.uint8)
    if array.null_count:
        present = array.is_valid().to_numpy(zero_copy_only=False)
    if form.is_scalar:
        values, offsets = array, np.arange(len(array) + 1)
    else:
        values, offsets = array.values, array.offsets.to_numpy()
        if values.null_count and array.flatten().null_count:
            raise UserError(
                f"column {field.name}",
                expected="lists without nulls, which a feature cannot hold",
                found=f"{array.flatten().null_count} nulls inside lists",
                remedy="fill the nulls (-1 is unknown) or drop them",
            )
    data, value_offsets = _flat_values(values, form.kind)
    return FeatureColumn(
        name=field.name,
        kind=form.kind,
        values=data,
        value_offsets=value_offsets,
        offsets=frozen(offsets, np.int64),
        present=frozen(present, np.uint8),
    )


def _flat_values(values: pa.Array, kind: int) -> tuple[np.ndarray, np.ndarray]:
    """``values`` and ``value_offsets`` of a FeatureColumn, without a copy of the values."""
    if kind == BYTES_LIST:
        is_large = pa.types.is_large_binary(values.type) or pa.types.is_large_string(values.type)
        _, _, data = values.buffers()
        value_offsets = _window(values, np.dtype(np.int64 if is_large else np.int32), len(values) + 1)
        return as_bytes_array(b"" if data is None else data), frozen(value_offsets, np.int64)
    number_type = np.dtype(np.int64 if kind == INT64_LIST else np.float32)
    # A null's slot holds an arbitrary number; it is never read, since `present` is False there.
    numbers = _window(values, number_type, len(values))
    return frozen(numbers, number_type), frozen(np.empty(0, np.int64), np.int64)


def _window(array: pa.Array, dtype: np.dtype, count: int) -> np.ndarray:
    """Part of the buffer that a (possibly sliced) array uses; zeros if the array is empty and has no buffer."""
    buffer = array.buffers()[1]
    if buffer is None or len(array) == 0:
        return np.zeros(count, dtype)
    return np.frombuffer(buffer, dtype, count=count, offset=array.offset * dtype.itemsize)


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_string(kind)
        or types.is_large_binary(kind)
        or types.is_large_string(kind)
    )
