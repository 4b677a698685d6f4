"""TensorFlow reads what we write, and we read what TensorFlow writes, value for value and byte for byte."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.shards.conftest import ROOT, records

from scrollpast.shards.codec import decode_records, encode_records
from scrollpast.shards.framing import frame

PYTHON = Path(
    os.environ.get("SCROLLPAST_TENSORFLOW_PYTHON", ROOT / ".envs" / "tensorflow" / "bin" / "python")
)
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.skipif(
        not PYTHON.exists(),
        reason=f"no TensorFlow at {PYTHON}: scripts/test.sh makes it, SCROLLPAST_TENSORFLOW_PYTHON names another",
    ),
]

Peer = Callable[..., None]
TYPES = {"int64": pa.list_(pa.int64()), "float": pa.list_(pa.float32()), "bytes": pa.list_(pa.binary())}


@pytest.fixture(scope="module")
def peer() -> Peer:
    def run(*arguments: str | Path) -> None:
        script = Path(__file__).with_name("tensorflow_peer.py")
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": "",
            "CUDA_VISIBLE_DEVICES": "",
        }
        done = subprocess.run(
            [PYTHON, script, *arguments], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr

    return run


def any_records(num_records: int) -> list[dict[str, Any]]:
    """Records of all kinds and lengths: negatives, extremes, empty lists, bytes of any value."""
    draw = random.Random(20261121)

    def values(kind: str) -> list[Any]:
        count = draw.choice([0, 1, 1, 2, 7, 40, 130])
        if kind == "int64":
            bounds = [(0, 127), (-(2**63), 2**63 - 1), (10**6, 10**9), (-1, -1), (2**63 - 1, 2**63 - 1)]
            return [draw.randint(*draw.choice(bounds)) for _ in range(count)]
        if kind == "float":
            return [struct.unpack("<f", struct.pack("<f", draw.uniform(-1e6, 1e6)))[0] for _ in range(count)]
        return [draw.randbytes(draw.randrange(200)).decode("latin-1") for _ in range(count)]

    # No name begins with another one: there Python's protobuf puts the longer one first, and plain order does not.
    names = ["ids", "weights", "é", "z" * 200, "A"]
    kinds = ["int64", "float", "bytes", "int64", "bytes"]
    return [
        {name: [kind, values(kind)] for name, kind in zip(names, kinds, strict=True) if draw.random() < 0.8}
        for _ in range(num_records)
    ]


def as_batch(records: list[dict[str, Any]]) -> pa.RecordBatch:
    kinds = {name: kind for record in records for name, (kind, _) in record.items()}
    columns = {}
    for name, kind in kinds.items():
        rows = [record[name][1] if name in record else None for record in records]
        if kind == "bytes":
            rows = [row and [value.encode("latin-1") for value in row] for row in rows]
        columns[name] = pa.array(rows, TYPES[kind])
    return pa.RecordBatch.from_pydict(columns)


def test_we_write_the_bytes_that_tensorflow_writes_and_read_them_back(tmp_path: Path, peer: Peer) -> None:
    wanted = any_records(300)
    (tmp_path / "records.json").write_text(json.dumps(wanted))
    peer("write", tmp_path / "records.json", tmp_path / "tensorflow.tfrecord")
    theirs = (tmp_path / "tensorflow.tfrecord").read_bytes()
    batch = as_batch(wanted)
    assert bytes(encode_records(batch)) == theirs
    assert decode_records(theirs, batch.schema, "tensorflow.tfrecord").equals(batch)


def test_tensorflow_parses_every_record_of_ours(tmp_path: Path, peer: Peer) -> None:
    batch = records(0, 500)
    (tmp_path / "ours.tfrecord").write_bytes(encode_records(batch))
    is_float = {name: "weight" in name for name in batch.schema.names}
    kinds = {name: "float" if is_float[name] else "int64" for name in batch.schema.names}
    (tmp_path / "read.json").write_text(json.dumps(kinds))
    peer("read", tmp_path / "ours.tfrecord", tmp_path / "read.json")
    ours = [
        {name: value if isinstance(value, list) else [value] for name, value in row.items()}
        for row in batch.to_pylist()
    ]
    assert json.loads((tmp_path / "read.json").read_text()) == ours


def test_protobuf_and_we_agree_on_unusual_but_lawful_bytes(tmp_path: Path, peer: Peer) -> None:
    """Lists that are not packed, several lists in one feature, a name twice, value before key."""

    def message(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    def example(*features: bytes) -> bytes:
        entries = [message(1, message(1, b"ids") + message(2, feature)) for feature in features]
        return frame(message(1, b"".join(entries)))

    unpacked, packed, floats = (
        message(3, b"\x08\x01\x08\x7f"),
        message(3, message(1, b"\x02\x03")),
        message(2, b""),
    )
    content = b"".join(
        [
            example(unpacked),
            example(unpacked + packed),
            example(packed + floats + unpacked),
            example(packed, unpacked),
            frame(message(1, message(1, message(2, packed) + message(1, b"ids")))),
            frame(message(1, b"") + message(1, message(1, message(1, b"ids") + message(2, packed)))),
        ]
    )
    (tmp_path / "unusual.tfrecord").write_bytes(content)
    peer("parse", tmp_path / "unusual.tfrecord", tmp_path / "parsed.json")
    theirs = [record["ids"][1] for record in json.loads((tmp_path / "parsed.json").read_text())]
    ours = decode_records(content, pa.schema([("ids", TYPES["int64"])]), "unusual.tfrecord")
    assert ours.column(0).to_pylist() == theirs
