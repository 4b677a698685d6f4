"""Runs in an environment with TensorFlow and without this library: what TensorFlow reads and writes.

    python tensorflow_peer.py read IN.tfrecord IN_OUT.json tf.data + parse_example of the features that the JSON names
    python tensorflow_peer.py parse IN.tfrecord OUT.json   protobuf over every record
    python tensorflow_peer.py write IN.json OUT.tfrecord   TFRecordWriter + tf.train.Example

Records are JSON objects: name → [kind, values]; bytes as text, one character a byte (Latin-1).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

KINDS = {"int64": tf.int64, "float": tf.float32, "bytes": tf.string}


def plain(values: Any) -> list[Any]:
    return [value.decode("latin-1") if isinstance(value, bytes) else value for value in values]


def read(source: str, target: str) -> None:
    wanted = json.loads(Path(target).read_text())  # name → kind
    features = {name: tf.io.RaggedFeature(KINDS[kind]) for name, kind in wanted.items()}
    dataset = tf.data.TFRecordDataset(source).batch(64)
    records: list[dict[str, Any]] = []
    for batch in dataset:
        columns = {name: column.to_list() for name, column in tf.io.parse_example(batch, features).items()}
        records += [{name: plain(columns[name][row]) for name in columns} for row in range(len(batch))]
    Path(target).write_text(json.dumps(records))


def parse(source: str, target: str) -> None:
    records = []
    for payload in tf.data.TFRecordDataset(source).as_numpy_iterator():
        example = tf.train.Example.FromString(payload)
        values = {}
        for name, feature in example.features.feature.items():
            kind = feature.WhichOneof("kind")
            values[name] = [kind, plain(getattr(feature, kind).value)]
        records.append(values)
    Path(target).write_text(json.dumps(records))


def write(source: str, target: str) -> None:
    with tf.io.TFRecordWriter(target) as writer:
        for record in json.loads(Path(source).read_text()):
            features = {name: feature(kind, values) for name, (kind, values) in record.items()}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString(deterministic=True))


def feature(kind: str, values: list[Any]) -> tf.train.Feature:
    if kind == "int64":
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    if kind == "float":
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(
        bytes_list=tf.train.BytesList(value=[value.encode("latin-1") for value in values])
    )


if __name__ == "__main__":
    {"read": read, "parse": parse, "write": write}[sys.argv[1]](*sys.argv[2:])
