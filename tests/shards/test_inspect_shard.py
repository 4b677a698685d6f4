import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from tests.shards.conftest import ROOT

from scrollpast.shards.codec import encode_records
from scrollpast.shards.display import readable_records, record_text
from scrollpast.shards.manifest import read_manifest


def inspect(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "inspect_shard.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_values_are_shown_as_a_person_reads_them() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "user_id": pa.array([7]),
            "negative_kind": pa.array([[2, 9]], pa.list_(pa.int64())),
            "negative_served_at_ms": pa.array([[1_795_000_000_123, -1]], pa.list_(pa.int64())),
            "negative_weight": pa.array([[0.1, 1]], pa.list_(pa.float32())),
            "positive_ad_id": pa.array([[]], pa.list_(pa.int64())),
            "user_age": pa.array([None], pa.int64()),
        }
    )
    (record,) = readable_records(batch, {"save": 2})
    assert record_text(1234, record).splitlines() == [
        "record 1,234",
        "  user_id  7",
        "  0 positives",
        "  2 negatives",
        "    kind              served_at_ms  weight",
        "    save  2026-11-18T11:06:40.123Z     0.1",
        "       9                   unknown     1.0",
    ]


def test_long_lists_are_cut_and_counted() -> None:
    record = {"user_id": 7, "positive_ad_id": list(range(1000, 1100))}
    assert record_text(0, record, most=2).splitlines()[2:] == [
        "  100 positives",
        "    ad_id",
        "     1000",
        "     1001",
        "    … and 98 more",
    ]
    assert record_text(0, record, most=0).splitlines()[2:] == ["  100 positives", "    … and 100 more"]


def test_lists_that_do_not_run_in_parallel_are_shown_one_by_one() -> None:
    record = {"positive_ad_id": [1, 2], "positive_kind": ["click"]}
    assert record_text(0, record).splitlines() == [
        "record 0",
        "  positive_ad_id  1  2",
        "  positive_kind   click",
    ]


def test_a_day_is_shown_and_verified(day: str) -> None:
    done = inspect(day, "--limit", "1")
    assert done.returncode == 0
    assert "record 0\n  user_id   0\n" in done.stdout
    assert "record 1" not in done.stdout
    assert done.stdout.endswith(
        "8 records in 2 shards, 5,123 bytes: all valid\n".replace("5,123", size_of(day))
    )


def size_of(day: str) -> str:
    return f"{sum(entry.num_bytes for entry in read_manifest(day).shards):,}"


def test_a_file_of_a_day_takes_names_from_its_manifest(day: str) -> None:
    shard = Path(day) / read_manifest(day).shards[1].path
    done = inspect(shard, "--json", "--limit", "2", "--feature", "user_id", "--feature", "positive_kind")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"user_id": 1000, "positive_kind": [6]},
        {"user_id": 1001, "positive_kind": [0]},
    ]
    assert "3 records in 1 shard" in done.stderr


def test_any_tfrecord_file_is_shown(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"text": pa.array(["hello"]), "ids": pa.array([[1, -1]])})
    (tmp_path / "any.tfrecord").write_bytes(encode_records(batch))
    done = inspect(tmp_path / "any.tfrecord")
    assert done.stdout.splitlines() == [
        "record 0",
        "  ids   1  unknown",
        "  text  hello",
        f"1 record in 1 shard, {(tmp_path / 'any.tfrecord').stat().st_size} bytes: all valid",
    ]


def test_a_corrupt_shard_is_exit_code_1(day: str) -> None:
    shard = Path(day) / read_manifest(day).shards[1].path
    content = bytearray(shard.read_bytes())
    content[50] ^= 1
    shard.write_bytes(content)
    done = inspect(day, "--limit", "0")
    assert done.returncode == 1
    assert done.stderr.startswith(f"inspect_shard: error: {shard}, record 0, byte 0: expected CRC 0x")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "error: nowhere/manifest.json: expected a manifest"),
        (["{day}", "--feature", "negativ_ad_id"], "--feature: expected one of user_id, "),
        (["{day}", "--limit", "-1"], "expected a whole number, 0 or more, found '-1'"),
        ([], "the following arguments are required"),
    ],
)
def test_a_mistake_of_the_users_is_exit_code_2(day: str, arguments: list[str], message: str) -> None:
    done = inspect(*(argument.format(day=day) for argument in arguments))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error(day: str) -> None:
    command = f"{sys.executable} {ROOT}/scripts/inspect_shard.py {day} --limit 8 --json; echo $? >&2"
    done = subprocess.run(
        ["bash", "-c", f"({command}) | head -n 1"], capture_output=True, text=True, check=False
    )
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().endswith("0")


def test_help_needs_no_library() -> None:
    done = inspect("--help")
    assert done.returncode == 0
    assert "FILE|DAY_FOLDER" in done.stdout
