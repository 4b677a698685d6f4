"""The laws of a mined window on real public logs and on a simulated one with many broken rows."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from tests.jobs.job_runs import ROOT, run_here
from tests.jobs.published_days import check_laws, published, records_of, side_of


@dataclass(frozen=True)
class RealLog:
    """A public log: the folder of its files, its last day and the days of all of it, and what the README says."""

    name: str
    folder: str
    last_day: str
    num_days: int
    num_impressions: int


LOGS = [
    RealLog("kuairand", "kuairand", "2022-04-30", 7, 94_784),
    RealLog("ebnerd", "ebnerd", "2023-03-02", 8, 10_848),
    RealLog("openbandit", "open_bandit", "2019-11-30", 7, 20_000),
]


def job(name: str, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "jobs" / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT / "lib")},
    )
    assert done.returncode == 0, done.stderr


def mine_log(folder: Path, last_day: str, num_days: int, *options: str) -> Path:
    """Mine a whole log a month later, when all of its labels are final."""
    out = folder / "mined"
    settings = [
        part
        for option in ("mining.num_buckets=8", "spark.num_partitions=2", *options)
        for part in ("--set", option)
    ]
    tables = [f"--{name}={folder / name}" for name in ("impressions", "engagements", "ads")]
    run = run_here(
        "--date", last_day, "--days", str(num_days), "--as-of", "2030-01-01", *tables, f"--out={out}", *settings
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    return out


def tables_of(folder: Path) -> tuple[pa.Table, pa.Table]:
    return pq.read_table(folder / "impressions"), pq.read_table(folder / "engagements")


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.name)
def test_a_real_log_keeps_every_law(
    spark: SparkSession, real_logs: Path, tmp_path: Path, log: RealLog
) -> None:
    if not (real_logs / log.folder).is_dir():
        pytest.skip(f"no {log.folder} in {real_logs}")
    job("import_public_log.py", log.name, real_logs / log.folder, tmp_path / "log")
    out = mine_log(tmp_path / "log", log.last_day, log.num_days)
    impressions, engagements = tables_of(tmp_path / "log")
    check_laws(out, impressions, engagements, log.last_day)
    manifest = published(out, log.last_day)
    assert sum(manifest.ledger.values()) == log.num_impressions == len(impressions)
    assert manifest.ledger["negative"] > 0
    assert manifest.ledger["immature"] == 0


def test_a_users_clicked_authors_are_guarded_on_a_real_log(
    spark: SparkSession, real_logs: Path, tmp_path: Path
) -> None:
    job("import_public_log.py", "kuairand", real_logs / "kuairand", tmp_path / "log")
    plain = mine_log(tmp_path / "log", "2022-04-30", 7)
    impressions, engagements = tables_of(tmp_path / "log")
    (tmp_path / "log" / "mined").rename(tmp_path / "plain")
    guarded = mine_log(tmp_path / "log", "2022-04-30", 7, "mining.guard.keys=[advertiser_id]")
    check_laws(guarded, impressions, engagements, "2022-04-30")
    before, after = (published(out, "2022-04-30").ledger for out in (tmp_path / "plain", guarded))
    assert plain == guarded
    assert after["engaged_elsewhere"] > before["engaged_elsewhere"]
    assert after["positive"] == before["positive"]


def test_a_simulated_log_with_a_twentieth_of_broken_rows_keeps_every_law(
    spark: SparkSession, tmp_path: Path
) -> None:
    folder = tmp_path / "log"
    job("simulate_logs.py", folder, "--rows", 20_000, "--days", 3, "--set", "broken=0.05", "--processes", 1)
    out = mine_log(folder, "2026-11-20", 3)
    impressions, engagements = tables_of(folder)
    check_laws(out, impressions, engagements, "2026-11-20")
    ledger = published(out, "2026-11-20").ledger
    assert 0.03 < ledger["invalid"] / sum(ledger.values()) < 0.07
    assert len(side_of(records_of(out, "2026-11-20"), "negative")) > 0
