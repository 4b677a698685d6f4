"""scripts/demo.sh on a small simulated log, then scripts/compare.sh on what it left."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.jobs.job_runs import ROOT, JobRun
from tests.scripts.script_runs import run_script

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("untouched_scripts"),
    pytest.mark.skipif(
        Path(sys.prefix).resolve() != (ROOT / ".venv").resolve(),
        reason="needs the environment that scripts/test.sh makes in .venv",
    ),
]


def commands_of(run: JobRun) -> list[str]:
    """The programs that a script showed before it ran them."""
    lines = [line.split() for line in run.stdout.splitlines() if line.startswith("$ ")]
    return [Path(words[2]).name for words in lines]


def test_the_demo_goes_from_logs_to_a_report_and_its_days_can_be_compared(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    demo = run_script("demo.sh", "--rows", "2e4", "--world", "plain", "--out", out, cwd=tmp_path)
    assert demo.exit_code == 0, demo.stdout + demo.stderr
    assert commands_of(demo) == [
        "simulate_logs.py", "mine_negatives.py", "inspect_shard.py", "mine_negatives.py", "build_vocabulary.py",
        "train_two_tower.py", "evaluate_two_tower.py", "estimate_examination.py", "write_report.py",
    ]  # fmt: skip
    assert f"Open {out}/report.html" in demo.stdout
    assert "Hard negatives of 2026-11-19" in demo.stdout
    (metrics,) = (out / "run" / "checkpoints").glob("*/metrics.json")
    truth = json.loads(metrics.read_text())["truth"]
    assert truth["P(want)@10"]["mean"] < truth["oracle"]["P(want)@10"]["mean"]
    assert {path.name for path in (out / "negatives").iterdir()} >= {"ds=2026-11-19", "ds=2026-11-20"}

    arms = ("random", "naive", "filtered", "neighbours")
    comparison = run_script(
        "compare.sh", "demo", "--seeds", 0, "--arms", *arms, "--ratios", 2, "--set", "training.epochs=1",
        cwd=tmp_path,
    )  # fmt: skip
    assert comparison.exit_code == 0, comparison.stdout + comparison.stderr
    assert commands_of(comparison)[-3:] == ["mine_neighbours.py", "compare_negatives.py", "write_report.py"]
    cells = ["random", "naive@2", "filtered@2", "neighbours@2"]
    table = (out / "comparison" / "comparison.txt").read_text()
    assert table.strip() in comparison.stdout
    for metric in ("recall@10", "recall@100", "ndcg@100", "auc"):
        lines = table.partition(f"\n{metric}, higher is better")[2].splitlines()[1:5]
        assert [line.split()[0] for line in lines] == cells
    assert json.loads((out / "comparison" / "comparison.json").read_text())
    report = (out / "report.html").read_text()
    assert all(cell.replace("@2", ", 2 own") in report for cell in cells)
