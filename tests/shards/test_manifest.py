import dataclasses
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrollpast.errors import CorruptShardError, ScrollpastError, UserError
from scrollpast.shards.manifest import (
    Manifest,
    ShardEntry,
    is_inside,
    is_published,
    publish_manifest,
    read_manifest,
    sweep_orphans,
)


@pytest.fixture
def manifest(day: str) -> Manifest:
    return read_manifest(day)


def test_a_shard_is_named_by_bucket_and_content(day: str, manifest: Manifest) -> None:
    entry = manifest.shards[1]
    content = (Path(day) / entry.path).read_bytes()
    assert entry.sha256 == hashlib.sha256(content).hexdigest()
    assert entry.path == f"bucket=00001/part-{entry.sha256[:16]}.tfrecord"
    assert (entry.bucket, entry.num_records, entry.num_bytes) == (1, 3, len(content))


def test_a_manifest_reads_back_as_it_was_written(day: str, manifest: Manifest) -> None:
    again = Manifest.from_json(manifest.to_json(), "again")
    assert again == manifest == read_manifest(f"{day}/manifest.json") == read_manifest(f"file://{day}/")
    assert again.to_json() == manifest.to_json() == (Path(day) / "manifest.json").read_text()


def test_the_json_is_the_output_contract(manifest: Manifest) -> None:
    assert list(json.loads(manifest.to_json())) == [
        *(
            "schema_version",
            "ds",
            "window_start",
            "window_end",
            "as_of",
            "num_buckets",
            "created_at",
            "config",
        ),
        *("input", "ledger", "num_records", "num_positives", "num_negatives", "kinds", "shards", "ads"),
        *("user_features", "ledger_files", "quarantine_files", "health", "exposure_file"),
        *("revocation_file", "num_revoked", "user_key", "num_forgotten", "revocations_as_of"),
        *("suppressed", "forgotten_at", "has_user_history"),
    ]
    assert list(json.loads(manifest.to_json())["shards"][0]) == [
        "path",
        "bucket",
        "num_records",
        "num_bytes",
        "sha256",
    ]


def test_the_order_of_a_map_does_not_change_the_bytes(manifest: Manifest) -> None:
    turned = dataclasses.replace(manifest, ledger=dict(reversed(manifest.ledger.items())))
    assert turned.to_json() == manifest.to_json()


LATER_FIELDS = (
    *("health", "exposure_file", "revocation_file", "num_revoked", "user_key", "num_forgotten"),
    *("revocations_as_of", "suppressed", "forgotten_at", "has_user_history"),
)
"""Fields that manifests of older days lack."""


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Manifest)])
def test_every_field_is_checked(name: str, manifest: Manifest) -> None:
    content = json.loads(manifest.to_json())
    for wrong in (3.5, True, {"x": "y"}, [1], "", -1):
        if name in ("config", "input", "health") and isinstance(wrong, dict):
            continue
        if name == "has_user_history" and wrong is True:
            continue
        with pytest.raises(CorruptShardError, match=f"^day/manifest.json, {name}"):
            Manifest.from_json(json.dumps(content | {name: wrong}), "day/manifest.json")


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(Manifest) if field.name not in LATER_FIELDS]
)
def test_every_field_is_missed(name: str, manifest: Manifest) -> None:
    content = json.loads(manifest.to_json())
    del content[name]
    with pytest.raises(
        CorruptShardError, match=f"^day/manifest.json, {name}: expected .* found no such field"
    ):
        Manifest.from_json(json.dumps(content), "day/manifest.json")


def test_a_manifest_of_an_older_day_is_read_without_what_came_later(manifest: Manifest) -> None:
    full = dataclasses.replace(
        manifest,
        health={"lag_h": 24.0},
        exposure_file="exposure/part-0.json",
        revocation_file="revocations/part-0.parquet",
        num_revoked=3,
        revocations_as_of="2026-12-09T00:00:00Z",
    )
    content = json.loads(full.to_json())
    assert Manifest.from_json(json.dumps(content), "m") == full
    older = {name: value for name, value in content.items() if name not in LATER_FIELDS}
    assert Manifest.from_json(json.dumps(older), "m") == manifest


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ShardEntry)])
def test_every_field_of_a_shard_is_missed_and_checked(name: str, manifest: Manifest) -> None:
    content = json.loads(manifest.to_json())
    for wrong in (3.5, None, True, -1, "", []):
        content["shards"][1][name] = wrong
        with pytest.raises(CorruptShardError, match=rf"^m, shards\[1\], {name}: expected"):
            Manifest.from_json(json.dumps(content), "m")
    del content["shards"][1][name]
    with pytest.raises(CorruptShardError, match=rf"^m, shards\[1\], {name}: .*found no such field"):
        Manifest.from_json(json.dumps(content), "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"schema_version": 2},
            "schema_version: expected 1, found 2; read it with the version of scrollpast",
        ),
        ({"num_records": 9}, "num_records: expected the shards' sum of 8, found 9"),
        ({"num_buckets": 1}, r"shards\[1\].bucket: expected less than num_buckets 1, found 1"),
        ({"ds": "2026-02-30"}, "ds: expected a day"),
        ({"as_of": "yesterday"}, "as_of: expected an ISO 8601 time"),
        ({"ledger": {"negative": -1}}, "ledger, negative: expected an integer, 0 or more, found -1"),
        ({"ledger_files": ["../x"]}, r"ledger_files, \[0\]: expected a path inside the day's folder"),
    ],
)
def test_a_contradiction_is_named(change: dict[str, Any], message: str, manifest: Manifest) -> None:
    content = json.loads(manifest.to_json()) | change
    with pytest.raises(CorruptShardError, match=f"^m, {message}"):
        Manifest.from_json(json.dumps(content), "m")


def test_a_shard_named_twice_is_refused(manifest: Manifest) -> None:
    twice = dataclasses.replace(manifest, shards=manifest.shards + manifest.shards, num_records=16)
    with pytest.raises(CorruptShardError, match=r"shards\[2\].path: expected every shard once"):
        Manifest.from_json(twice.to_json(), "m")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, '{"schema_version": ' + "9" * 5000 + "}", b"\xff"]
)
def test_what_is_not_a_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(CorruptShardError, match=r"^m: expected"):
        Manifest.from_json(text, "m")


def test_a_manifest_cut_at_any_byte_is_refused(manifest: Manifest) -> None:
    text = manifest.to_json().rstrip()
    for size in range(len(text)):
        with pytest.raises(CorruptShardError):
            Manifest.from_json(text[:size], "cut")


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../x", "a/../../x", "a/..", "..", ".", "", "a//b", "a/./b", "C:/x", "c:x", "s3://x/y", "file:x",
     "..\\x", "a\\..\\..\\x", "\\\\host\\x", "a\0b", "a/"],
)  # fmt: skip
def test_a_path_that_leaves_the_day_is_refused(path: str, manifest: Manifest) -> None:
    assert not is_inside(path)
    content = json.loads(manifest.to_json())
    content["shards"][0]["path"] = path
    with pytest.raises(
        CorruptShardError, match=r"shards\[0\], path: expected a path inside the day's folder"
    ):
        Manifest.from_json(json.dumps(content), "m")


def test_a_day_without_a_manifest_is_not_published(tmp_path: Path) -> None:
    assert not is_published(str(tmp_path))
    with pytest.raises(UserError, match="expected a manifest, which publishes a day, found no such file"):
        read_manifest(str(tmp_path))


def test_a_published_day_is_replaced_only_when_asked(day: str, manifest: Manifest) -> None:
    other = dataclasses.replace(manifest, created_at="2027-01-01T00:00:00Z")
    with pytest.raises(UserError, match="found a manifest that was published meanwhile"):
        publish_manifest(day, other, replace=False)
    assert read_manifest(day) == manifest
    publish_manifest(day, other, replace=True)
    assert read_manifest(day) == other


def test_of_many_publishers_at_once_one_wins(tmp_path: Path, manifest: Manifest) -> None:
    day = str(tmp_path / "raced")
    outcomes: list[ScrollpastError | int] = []
    start = threading.Barrier(6)

    def publish(number: int) -> None:
        start.wait()
        try:
            publish_manifest(day, dataclasses.replace(manifest, config={"run": number}), replace=False)
            outcomes.append(number)
        except UserError as error:
            outcomes.append(error)

    publishers = [threading.Thread(target=publish, args=(number,)) for number in range(6)]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join()
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert read_manifest(day).config == {"run": winner}
    assert os.listdir(day) == ["manifest.json"]


def test_orphans_are_swept_and_nothing_else(day: str, manifest: Manifest) -> None:
    manifest = dataclasses.replace(
        manifest,
        ledger_files=("ledger/counts.parquet",),
        quarantine_files=("quarantine/invalid.parquet",),
        exposure_file="exposure/report.json",
    )
    publish_manifest(day, manifest, replace=True)
    # A vocabulary is never swept, in the day's folder or beside it.
    vocabulary = ["vocabulary/v=0/ads.parquet", "../vocabulary/v=1/ads.parquet"]
    kept = [
        *("README", "notes/.hidden", "bucketless/x"),
        *("ledger/counts.parquet", "quarantine/invalid.parquet", "exposure/report.json"),
    ]
    orphans = [
        ".manifest.json.0123.tmp",
        "bucket=00000/.part-1.tfrecord.4567.tmp",
        "bucket=00000/part-0000000000000000.tfrecord",
        "bucket=00007/part-0000000000000000.tfrecord",
        "exposure/old.json",
        "ledger/old.parquet",
        "quarantine/deep/er.parquet",
    ]
    for name in kept + vocabulary + orphans + ["bucket=00000/young.tfrecord"]:
        path = Path(day) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        if "young" not in name:
            os.utime(path, (time.time() - 7200,) * 2)
    assert sweep_orphans(day, manifest, older_than_s=3600) == orphans
    left = {str(path.relative_to(day)) for path in Path(day).rglob("*") if path.is_file()}
    assert (Path(day) / vocabulary[1]).is_file()
    assert left == {
        *kept,
        vocabulary[0],
        "bucket=00000/young.tfrecord",
        "manifest.json",
        *(entry.path for entry in manifest.shards),
    }


def test_a_manifest_needs_no_compiler_to_be_read(
    tmp_path: Path, in_new_process: Callable[[str], str]
) -> None:
    """Schedulers and reports read manifests: they should not wait for numba."""
    assert in_new_process("import sys, scrollpast.shards.manifest; print('numba' in sys.modules)") == "False"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_json_does_not_know_as_a_number_is_refused(number: str) -> None:
    with pytest.raises(
        CorruptShardError, match=f"day/manifest.json: expected JSON, found ValueError: {number}"
    ):
        Manifest.from_json(f'{{"config": {{"x": {number}}}}}', "day/manifest.json")
