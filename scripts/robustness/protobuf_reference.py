"""Records as Google's protobuf reads them: a reference for scrollpast's reader."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa


class ReferenceRefuses(Exception):
    """Protobuf refuses the bytes as an Example."""


def _example_class() -> Any:
    """``tf.train.Example`` as Google's protobuf reads it, from its schema (tensorflow/core/example/*.proto)."""
    from google.protobuf import (  # type: ignore[import-untyped]
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    label, kind = descriptor_pb2.FieldDescriptorProto, descriptor_pb2.FieldDescriptorProto
    for name, value in (
        ("BytesList", kind.TYPE_BYTES),
        ("FloatList", kind.TYPE_FLOAT),
        ("Int64List", kind.TYPE_INT64),
    ):
        message = file.message_type.add(name=name)
        message.field.add(name="value", number=1, type=value, label=label.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("BytesList", "FloatList", "Int64List"), 1):
        feature.field.add(
            name=name.lower(), number=number, type=kind.TYPE_MESSAGE, type_name=f".t.{name}",
            label=label.LABEL_OPTIONAL, oneof_index=0,
        )  # fmt: skip
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kind.TYPE_STRING, label=label.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=kind.TYPE_MESSAGE, type_name=".t.Feature", label=label.LABEL_OPTIONAL
    )
    features.field.add(
        name="feature",
        number=1,
        type=kind.TYPE_MESSAGE,
        type_name=".t.Features.FeatureEntry",
        label=label.LABEL_REPEATED,
    )
    example = file.message_type.add(name="Example")
    example.field.add(
        name="features", number=1, type=kind.TYPE_MESSAGE, type_name=".t.Features", label=label.LABEL_OPTIONAL
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


_example: list[Any] = []


def reference(payload: bytes) -> dict[str, list[Any]]:
    """The features of a record as protobuf reads them.

    Raises:
        ReferenceRefuses: protobuf cannot parse the payload.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if not _example:
        _example.append(_example_class())
    try:
        parsed = _example[0].FromString(payload)
    except (DecodeError, UnicodeDecodeError) as error:
        raise ReferenceRefuses from error
    found = {}
    for name, feature in parsed.features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = [] if kind is None else list(getattr(feature, kind).value)
    return found


def agree(batch: pa.RecordBatch, wanted: list[dict[str, list[Any]]]) -> bool:
    """True if the records have the values that `reference` returns for each."""
    for name in batch.schema.names:
        for value, features in zip(batch[name].to_pylist(), wanted, strict=True):
            values = [] if value is None else value if isinstance(value, list) else [value]
            theirs = features.get(name, [])
            if pa.types.is_floating(_value_type(batch.schema.field(name).type)):
                # NaN does not equal itself, so that numbers are compared by their bits.
                if np.array(values, np.float32).tobytes() != np.array(theirs, np.float32).tobytes():
                    return False
            elif values != theirs:
                return False
    return True


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_list(kind) else kind
