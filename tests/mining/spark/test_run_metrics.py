"""Watching: what a run leaves for those who watch it, however it ends, and never in its way."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scrollpast.config import RunMetrics
from scrollpast.errors import HeldError, ScrollpastError, UserError
from scrollpast.mining.spark.run_metrics import prometheus_text, watch, watched_step
from tests.jobs.job_runs import mine
from tests.jobs.published_days import content_of, published
from tests.toy_logs import toy_log

PARTS = {"expected": "this", "found": "that", "remedy": "do so"}
SAMPLE = re.compile(r'scrollpast_(\w+)\{((?:\w+="(?:[^"\\\n]|\\["\\n])*",?)+)\} (\S+)')


def samples(text: str) -> dict[str, dict[str, float]]:
    """Prometheus' text by metric and labels; whatever is not of its form fails."""
    found: dict[str, dict[str, float]] = {}
    told: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# "):
            _, kind, name, rest = line.split(" ", 3)
            assert kind in {"HELP", "TYPE"} and rest
            told.add(f"{kind} {name}")
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name, labels, value = match.groups()
        assert {f"HELP scrollpast_{name}", f"TYPE scrollpast_{name}"} <= told
        assert labels not in found.setdefault(name, {}), "the same labels twice"
        found[name][labels] = float(value)
    assert text.endswith("\n")
    return found


def lines_of(folder: Path) -> list[dict[str, Any]]:
    (path,) = (folder / "runs").iterdir()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_mined_day_is_told_in_lines_and_figures(tmp_path: Path, spark: object) -> None:
    folder = toy_log().write(tmp_path / "log")
    run = mine(folder, tmp_path, "--set", f"metrics.path={tmp_path / 'metrics'}")
    assert run.exit_code == 0, run.stderr
    manifest = published(tmp_path)
    lines = lines_of(tmp_path / "metrics")
    assert [lines[0]["event"], lines[-1]["event"]] == ["start", "end"]
    assert len({line["run_id"] for line in lines}) == 1
    steps = {line["step"]: line for line in lines if line["event"] == "step"}
    assert steps["scan and decide impressions"]["rows"] == toy_log().impressions.num_rows
    found = samples((tmp_path / "metrics" / "scrollpast_mine_negatives.prom").read_text())
    outcomes = {re.findall('outcome="(.*?)"', labels)[0]: n for labels, n in found["day_impressions"].items()}
    assert outcomes == manifest.ledger
    assert list(found["day_records"].values()) == [manifest.num_records]
    sizes = sorted(entry.num_bytes for entry in manifest.shards)
    assert list(found["day_shard_bytes"].values()) == [sum(sizes)]
    assert next(iter(found["day_bucket_skew"].values())) >= 1
    assert list(found["run_exit_code"].values()) == [0]
    assert set(steps) == {re.findall('step="(.*?)"', labels)[0] for labels in found["run_step_seconds"]}


def test_metrics_change_no_byte_and_stop_no_run(tmp_path: Path, spark: object) -> None:
    folder = toy_log().write(tmp_path / "log")
    assert mine(folder, tmp_path / "plain").exit_code == 0
    (tmp_path / "file").touch()
    run = mine(folder, tmp_path / "watched", "--set", f"metrics.path={tmp_path / 'file' / 'metrics'}")
    assert run.exit_code == 0
    assert "no metrics written" in run.stderr
    assert content_of(tmp_path / "watched") == content_of(tmp_path / "plain")


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (UserError("here", **PARTS), 2),
        (HeldError("here", **PARTS), 3),
        (ScrollpastError("here", **PARTS), 1),
        (RuntimeError("broken"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_run_that_fails_leaves_its_exit_code(error: BaseException, exit_code: int, tmp_path: Path) -> None:
    with pytest.raises(type(error)), watch(RunMetrics(path=str(tmp_path)), "mine_negatives"):
        raise error
    found = samples((tmp_path / "scrollpast_mine_negatives.prom").read_text())
    assert list(found["run_exit_code"].values()) == [exit_code]
    assert "day_records" not in found
    assert lines_of(tmp_path)[-1]["exit_code"] == exit_code


def test_every_log_line_is_json_with_the_runs_id(capsys: pytest.CaptureFixture[str]) -> None:
    with watch(RunMetrics(log_format="json"), "mine_negatives") as run, watched_step("scan", 5):
        pass
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in told] == ["start", "step", "end"]
    assert {line["run_id"] for line in told} == {run.run_id}


def test_text_is_escaped_and_the_last_value_of_the_same_labels_counts() -> None:
    told = {"time": "2026-11-20T00:00:00+00:00", "run_id": "a", "job": "j", "version": "1"}
    step = told | {"event": "step", "step": 'a "b"\\\nc', "rows": None}
    text = prometheus_text([step | {"seconds": 1.0}, step | {"seconds": 2.0}])
    found = samples(text)
    assert list(found["run_step_seconds"].values()) == [2.0]
    assert "run_step_rows" not in found


def test_without_a_watch_a_step_is_told_to_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    with watched_step("scan", None):
        pass
    assert capsys.readouterr().err == ""
