"""Shared modules of the benchmarks: costs of real processes, comparison of records, and Spark's event log."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scripts.bench.benchmarking import Cost, ProgramFailed, machine, render_costs, run
from scripts.bench.compare_records import differences, flat_records

from scrollpast.record_schema import record_schema
from scrollpast.shards.manifest import write_shard

ROOT = Path(__file__).parents[2]
BENCH_MINING = ROOT / "scripts" / "bench" / "bench_mining.py"
CHILD = "import time; held = bytearray(b'x' * {size}); time.sleep(1.5)"


def test_a_program_is_weighed_with_its_children() -> None:
    child = CHILD.format(size=120 << 20)
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    cost = run([sys.executable, "-c", parent])
    assert cost.seconds > 1.5
    assert 120 / 1024 < cost.peak_gib < 1
    assert 0 < cost.cpu_seconds < cost.seconds * 2
    assert not cost.failure


def test_a_program_that_fails_says_how_and_what_it_took() -> None:
    with pytest.raises(ProgramFailed, match="out of memory") as failed:
        run([sys.executable, "-c", "import sys; print('rows: 5'); sys.exit('out of memory')"])
    assert failed.value.cost.failure == "exit code 1: out of memory"
    assert failed.value.cost.seconds > 0


def test_a_result_does_not_name_folders_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--rows", "5", "--out", "/here", "--results=/there", "--folder", "/elsewhere", "--seeds", "1,2"]
    monkeypatch.setattr(sys, "argv", [str(ROOT / "scripts" / "bench" / "bench_mining.py"), *words])
    assert machine()["command"] == "scripts/bench/bench_mining.py --rows 5 --seeds 1,2"


def test_a_table_of_costs_has_ratios_and_tells_failures() -> None:
    costs = {
        "ours": [Cost(s, 1.0, 2 * s) for s in (9.0, 10.0, 30.0)],
        "theirs": [Cost(20.0, 3.0, 5.0), Cost(20.0, 4.0, 5.0, "exit code 137: killed")],
    }
    own, other, failure = render_costs(costs, "ours").splitlines()[1:]
    assert own.split() == ["ours", "10.0", "9.0–30.0", "20", "1.00"]
    assert other.split() == ["theirs", "20.0", "20.0–20.0", "0.50", "5", "4.00"]
    assert failure.strip() == "did not end: exit code 137: killed"


def _shard(folder: Path, bucket: int, users: list[int], **values: list[list[float]]) -> Path:
    """A shard of one positive and two served negatives a user, or as many as given; other values are 1."""
    sides = {"positive": [1] * len(users), "negative": [2] * len(users)}
    for name, column in values.items():
        sides[name.split("_")[0]] = [len(row) for row in column]
    schema = record_schema(())
    columns = [pa.array(users, pa.int64())]
    for name in schema.names[1:]:
        value = 0 if name == "negative_kind" else 1
        filled = [[value] * length for length in sides[name.split("_")[0]]]
        columns.append(pa.array(values.get(name, filled), schema.field(name).type))
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    return folder / write_shard(str(folder), bucket, batch).path


def test_records_are_compared_whatever_their_order_and_shards(tmp_path: Path) -> None:
    ads = [[11, 12], [21, 22]]
    ours = [_shard(tmp_path / "ours", 0, [1, 2], negative_ad_id=ads)]
    theirs = [
        _shard(tmp_path / "theirs", 0, [2], negative_ad_id=[[22, 21]]),
        _shard(tmp_path / "theirs", 1, [1], negative_ad_id=[[11, 12]]),
    ]
    (own, totals), (other, other_totals) = flat_records(ours), flat_records(theirs)
    assert totals == other_totals == {"positive": 2, "negative": 4}
    assert differences(own, other, cap=64) is None


@pytest.mark.parametrize(
    ("name", "values", "cap", "found"),
    [
        ("negative_ad_id", [[11, 12], [21, 23]], 64, "negatives: ad_id differs in 1 rows"),
        ("negative_ad_id", [[11, 12], [21]], 64, "negatives: 4 of ours, 3 of theirs"),
        ("positive_ad_id", [[7], [1]], 64, "positives: ad_id differs in 1 rows"),
        ("positive_weight", [[1], [0.5]], 64, "positives: weight differs in 1 rows"),
        # Of users at the cap only the number and the times have to agree.
        ("negative_ad_id", [[11, 12], [21, 23]], 2, None),
        ("negative_served_at_ms", [[1, 1], [1, 3]], 2, "negatives: served_at_ms differs in 1 rows"),
    ],
)
def test_what_differs_is_named(
    tmp_path: Path, name: str, values: list[list[float]], cap: int, found: str | None
) -> None:
    served = {"negative_ad_id": [[11.0, 12.0], [21.0, 22.0]]}
    ours = _shard(tmp_path / "ours", 0, [1, 2], **served)
    changed = {name: values} if name.startswith("negative") else {**served, name: values}
    theirs = _shard(tmp_path / "theirs", 0, [1, 2], **changed)
    (own, _), (other, _) = flat_records([ours]), flat_records([theirs])
    assert differences(own, other, cap) == found


def test_one_user_in_so_many_is_kept_and_all_are_counted(tmp_path: Path) -> None:
    users = list(range(1, 2001))
    sides, totals = flat_records([_shard(tmp_path, 0, users)], one_in=10)
    assert totals == {"positive": 2000, "negative": 4000}
    kept = np.unique(sides["positive"]["user"])
    assert 120 < len(kept) < 280
    assert np.array_equal(kept, np.unique(sides["negative"]["user"]))


@pytest.mark.slow
def test_mining_is_measured_and_its_stages_are_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, str(BENCH_MINING), "--rows", "2e4", "--peers", "", "--runs", "1",
            "--buckets", "4", "--skew", "user", "--results", str(tmp_path),
        ],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "mining_2e4_user_skew.txt").read_text()
    assert table.splitlines()[0].startswith("date")
    for line in ("scan impressions", "decide buckets", "write shards", "bytes shuffled for each row"):
        assert line in table
    (cost,) = json.loads((tmp_path / "mining_2e4_user_skew.json").read_text())["runs"]["scrollpast"]
    assert cost["seconds"] > 1 and cost["peak_gib"] > 0.1 and not cost["failure"]


def test_an_unknown_peer_is_refused_at_once() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH_MINING), "--peers", "duckdb,flink"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--peers: expected names of duckdb, polars, pyspark, found flink" in done.stderr
