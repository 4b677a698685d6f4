"""The ``tf.train.Example`` codec: Arrow batches to TFRecord bytes and back, no Python object a row."""

from __future__ import annotations

from scrollpast.shards.decoding import decode_frames, decode_records
from scrollpast.shards.encoding import encode_records

__all__ = ["decode_frames", "decode_records", "encode_records"]
