"""The estimation from its command line: a simulated log in, a table that mining takes out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from scrollpast.mining.examination.table import read_examination
from scrollpast.simulation.log import LogRequest, simulate_log
from scrollpast.simulation.shape import shape_from
from tests.jobs.job_runs import JobRun, run_job

LAST_DAY = np.datetime64("2026-11-20").item()
FOLDER = Path("examination") / "ds=2026-11-20"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clicks enough for every estimator, a third of all slots filled by lot."""
    folder = tmp_path_factory.mktemp("log")
    shape = shape_from(["random_slot_share=0.3", "served_relevance=0.3", "share_of_users_who_click=1"])
    simulate_log(LogRequest(300_000, 3, LAST_DAY, seed=5, shape=shape), folder)
    return folder


def estimate(log: Path, out: Path, *arguments: str) -> JobRun:
    tables = [f"--{name}={log / name}" for name in ("impressions", "engagements")]
    days = ("--date", "2026-11-20", "--days", "3", "--as-of", "2026-11-28")
    return run_job("estimate_examination", *days, *tables, "--out", out, *arguments)


def test_every_estimator_finds_the_planted_curve(log: Path, tmp_path: Path, spark: SparkSession) -> None:
    # The only bot of a log so small makes a thousand impressions a day; its clicks know no position.
    bots_out = ("--set", "mining.max_impressions_per_user_day=500")
    run = estimate(log, tmp_path, "--set", "mining.score_column=ranker_score", *bots_out)
    assert (run.exit_code, run.stderr) == (0, "")
    found = json.loads((tmp_path / FOLDER / "examination.json").read_text())
    planted = read_examination(str(log / "truth_examination"))
    assert set(found["surfaces"]) == set(planted)
    held = []
    for surface, result in found["surfaces"].items():
        assert set(result["estimates"]) == {"randomised", "harvested", "regressed"}
        for one in result["estimates"].values():
            truth = planted[surface][one["positions"]]
            held += list((one["low"] <= truth) & (truth <= one["high"]))
            assert np.mean(np.abs(np.array(one["probability"]) / truth - 1)) < 0.25
    assert np.mean(held) > 0.8


def test_the_table_is_what_mining_takes(log: Path, tmp_path: Path, spark: SparkSession) -> None:
    run = estimate(log, tmp_path)
    uri = tmp_path / FOLDER / "table.parquet"
    assert f"--set mining.examined.table={uri}" in run.stdout
    table = pq.read_table(uri)
    assert table.column_names == ["surface", "position", "probability", "low", "high", "estimator", "level"]
    curves = read_examination(str(uri))
    assert set(curves) == {"feed", "search", "related"}
    assert all(np.all((curve > 0) & (curve <= 1)) for curve in curves.values())


def test_the_same_log_gives_the_same_bytes(log: Path, tmp_path: Path, spark: SparkSession) -> None:
    for out, partitions in ((tmp_path / "a", 2), (tmp_path / "b", 5)):
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
        estimate(log, out)
    spark.conf.set("spark.sql.shuffle.partitions", 2)
    for name in ("table.parquet", "examination.json"):
        assert (tmp_path / "a" / FOLDER / name).read_bytes() == (tmp_path / "b" / FOLDER / name).read_bytes()


def test_a_log_without_final_labels_is_told(log: Path, tmp_path: Path, spark: SparkSession) -> None:
    run = estimate(log, tmp_path, "--as-of", "2026-11-18T01:00:00")
    assert run.exit_code == 2
    assert "labels are final" in run.stderr
    assert not (tmp_path / FOLDER).exists()


def test_times_in_nanoseconds_are_read_as_mining_reads_them(
    log: Path, tmp_path: Path, spark: SparkSession
) -> None:
    for name, time in (("impressions", "served_at"), ("engagements", "engaged_at")):
        table = pq.read_table(log / name)
        at = table.schema.get_field_index(time)
        finer = table.set_column(at, time, table[time].cast(pa.timestamp("ns", "UTC")))
        (tmp_path / "ns" / name).mkdir(parents=True)
        pq.write_table(finer, tmp_path / "ns" / name / "part-0.parquet")
    for name, source in (("us", log), ("ns", tmp_path / "ns")):
        run = estimate(source, tmp_path / "out" / name)
        assert (run.exit_code, run.stderr) == (0, "")
    content = [(tmp_path / "out" / name / FOLDER / "table.parquet").read_bytes() for name in ("us", "ns")]
    assert content[0] == content[1]


def test_a_log_without_positions_is_told_so(log: Path, tmp_path: Path, spark: SparkSession) -> None:
    table = pq.read_table(log / "impressions")
    at = table.schema.get_field_index("position")
    bare = table.set_column(at, "position", pa.nulls(len(table), pa.int32()))
    (tmp_path / "impressions").mkdir()
    pq.write_table(bare, tmp_path / "impressions" / "part-0.parquet")
    run = estimate(log, tmp_path, "--impressions", str(tmp_path / "impressions"))
    assert run.exit_code == 2
    assert "expected impressions with a position, found " in run.stderr
    assert "; log the position; without positions nothing can be estimated" in run.stderr


def test_engagements_without_requests_are_told(log: Path, tmp_path: Path, spark: SparkSession) -> None:
    bare = pq.read_table(log / "engagements").drop(["request_id"])
    (tmp_path / "engagements").mkdir()
    pq.write_table(bare, tmp_path / "engagements" / "part-0.parquet")
    run = estimate(log, tmp_path, "--engagements", str(tmp_path / "engagements"))
    assert run.exit_code == 2
    assert "request_id, from which the position of the engagement follows" in run.stderr
