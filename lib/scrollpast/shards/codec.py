"""The ``tf.train.Example`` codec: Arrow batches to TFRecord bytes and back, no Python object a row."""

from __future__ import annotations

from scrollpast.shards.encoding import encode_records

__all__ = ["encode_records"]
