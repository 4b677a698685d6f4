"""The report from its command line, over what the other jobs wrote."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from scrollpast.shards.manifest import read_manifest
from scrollpast.simulation.log import LogRequest, simulate_log
from scrollpast.simulation.shape import shape_from
from tests.jobs.job_runs import ROOT, run_job

DAYS = ("2026-11-19", "2026-11-20")


@pytest.fixture(scope="module")
def mined(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log of two days, each mined, and what is looked at in it."""
    folder = tmp_path_factory.mktemp("mined")
    from datetime import date

    shape = shape_from(["share_of_users_who_click=1", "served_relevance=0.3"])
    simulate_log(LogRequest(60_000, 2, date.fromisoformat(DAYS[-1]), seed=5, shape=shape), folder / "logs")
    tables = [f"--{name}={folder / 'logs' / name}" for name in ("impressions", "engagements")]
    for day in DAYS:
        ads = f"--ads={folder / 'logs' / 'ads'}"
        done = run_job(
            "mine_negatives", "--date", day, "--as-of", "2026-11-28", *tables, ads, "--out", folder
        )
        assert done.exit_code == 0, done.stderr
    done = run_job(
        "estimate_examination",
        "--date",
        DAYS[-1],
        "--days",
        2,
        "--as-of",
        "2026-11-28",
        *tables,
        "--out",
        folder,
    )
    assert done.exit_code == 0, done.stderr
    return folder


def test_what_the_jobs_wrote_is_reported(mined: Path, tmp_path: Path) -> None:
    day, out = mined / f"ds={DAYS[-1]}", tmp_path / "report.html"
    done = run_job(
        "write_report", day, "--examination", mined / "examination" / f"ds={DAYS[-1]}", "--out", out
    )
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"Hard negatives of 2026-11-20: 11 sections; wrote {out}\n"
    html = out.read_text(encoding="utf-8")
    manifest = read_manifest(str(day))
    for name, number in manifest.ledger.items():
        assert f'<tr><th scope="row">{name.replace("_", " ")}</th><td>{number:,}</td>' in html
    assert manifest.exposure_file is not None
    gini = json.loads((day / manifest.exposure_file).read_text())["gini"]
    assert f'<span class="value">{gini:.3f}</span>' in html
    surfaces = json.loads((mined / "examination" / f"ds={DAYS[-1]}" / "examination.json").read_text())[
        "surfaces"
    ]
    for name, surface in surfaces.items():
        assert f'<tr><th scope="row">{name}</th><td>{surface["num_impressions"]:,}</td>' in html
    assert "2 days published in the same folder, 2026-11-19 to 2026-11-20." in html


def test_the_same_days_give_the_same_bytes_in_another_process(mined: Path, tmp_path: Path) -> None:
    days = [str(mined / f"ds={day}") for day in DAYS]
    assert run_job("write_report", *days, "--out", tmp_path / "one.html").exit_code == 0
    command = [sys.executable, ROOT / "jobs" / "write_report.py", *days, "--out", tmp_path / "two.html"]
    environment = {
        "PYTHONPATH": str(ROOT / "lib"),
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "TZ": "Asia/Tokyo",
    }
    subprocess.run(command, check=True, capture_output=True, env=environment)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_neither_spark_nor_pytorch_is_needed(mined: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules.update(pyspark=None, torch=None)\n"
        "from jobs.write_report import main; sys.exit(main())"
    )
    command = [
        sys.executable,
        "-c",
        program,
        str(mined / f"ds={DAYS[0]}"),
        "--out",
        str(tmp_path / "report.html"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": f"{ROOT / 'lib'}:{ROOT}"}
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_day_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    done = run_job("write_report", tmp_path / "ds=2026-11-20")
    assert done.exit_code == 2
    assert re.fullmatch(
        r"write_report.py: error: \S+/manifest.json: expected a manifest, .*, found no such file; mine .*\n",
        done.stderr,
    )
    assert not (tmp_path / "report.html").exists()


def test_a_place_that_cannot_be_written_is_the_users_mistake(mined: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = run_job("write_report", mined / f"ds={DAYS[0]}", "--out", tmp_path / "file" / "report.html")
    assert done.exit_code == 2
    assert "expected a place to write the report to" in done.stderr
    assert done.is_calm()
