"""The table: the same numbers for people and for programs, as the module says, in 100 columns."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from scrollpast.config import load_config
from scrollpast.training.comparison import table as module
from scrollpast.training.comparison.arms import plan
from scrollpast.training.comparison.table import About, ComparisonTable, lower_is_better, notes_of
from scrollpast.training.comparison.verdicts import judge

METRICS = ["recall@100", "served share in top 100", "slices/recall@100, new ads"]
ABOUT = About(
    seeds=[0, 1],
    num_users=200,
    num_new_users=20,
    num_ads=1234,
    days={"naive": ["days/ds=2026-11-20"]},
    evaluated_on=["days/ds=2026-11-21"],
    vocabulary="0123456789abcdef",
    notes=["a note"],
)


@pytest.fixture(scope="module")
def table() -> ComparisonTable:
    """A long name, a better and a worse arm, two that have no days, and a metric that nobody has."""
    overrides = [
        "own_arms={eighteen_letters_x: {like: naive}}",
        "arms=[random, naive, filtered, eighteen_letters_x, all]",
        "ratios=[2, 1024]",
    ]
    options = load_config(None, [f"comparison.{override}" for override in overrides]).comparison
    planned = plan(options, ["naive"])
    generator = np.random.Generator(np.random.Philox(1))
    users = generator.random(200) / 2
    numbers = {}
    for at, cell in enumerate(planned.cells):
        values = users + 0.1 * at + generator.normal(0, 0.01, (2, 200))
        numbers[cell.name, METRICS[0]] = values
        numbers[cell.name, METRICS[1]] = values
        numbers[cell.name, METRICS[2]] = np.full((2, 200), np.nan)
    judged = judge(numbers, "random", lower_is_better(), num_resamples=200)
    return ComparisonTable(planned, METRICS, judged, ABOUT)


def test_baselines_follow_the_arms_and_count_for_no_verdict_of_arms(table: ComparisonTable) -> None:
    name = "positives, last 24 h"
    judged = {**table.judged, **{(name, metric): table.judged["naive@2", metric] for metric in METRICS}}
    whole = replace(table, judged=judged, about=replace(ABOUT, baselines=[name]))
    assert whole.to_json()["baselines"] == [name]
    assert whole.to_json()["num_verdicts"] == table.to_json()["num_verdicts"]
    of_metric = [row["arm"] for row in whole.rows() if row["metric"] == METRICS[0]]
    assert of_metric[-1] == name and of_metric[:-1] == [cell.arm for cell in table.planned.cells]
    lines = whole.text().splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.startswith(f"  {name} ") for line in lines)


def test_the_text_fits_100_columns_and_says_every_verdict(table: ComparisonTable) -> None:
    lines = table.text().splitlines()
    assert max(map(len, lines)) <= 100
    line = next(line for line in lines if line.split()[:1] == ["eighteen_letters_x@1024"])
    assert line.endswith("  better")
    assert sum(line.endswith("  better") for line in lines) == 4
    assert sum(line.endswith("  worse") for line in lines) == 4
    assert "recall@100, higher is better; differences from random" in lines
    assert "served share in top 100, lower is better; differences from random" in lines
    assert "95 % for all 8" in lines[0]
    assert "skipped: filtered: the arm needs days of the set filtered, and no such days are given" in lines
    assert lines[-1] == "note: a note"
    assert "200 users, 20 of them new, 1,234 ads, 2 seeds" in lines


def test_programs_read_what_people_read(table: ComparisonTable, tmp_path: Path) -> None:
    table.write(str(tmp_path))
    assert (tmp_path / "comparison.txt").read_text() == table.text()
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content == table.to_json()
    assert content["num_verdicts"] == 8
    assert content["baseline"] == {"arm": "random", "ratio": 0}
    assert [skipped["arm"] for skipped in content["skipped"]] == ["filtered", "all"]
    rows = content["rows"]
    assert rows == pq.read_table(tmp_path / "comparison.parquet").to_pylist()
    assert [(row["metric"], row["arm"], row["ratio"]) for row in rows] == [
        (metric, cell.arm, cell.ratio) for metric in METRICS for cell in table.planned.cells
    ]
    for row in rows[:5]:
        name = f"{row['arm']}@{row['ratio']}" if row["ratio"] else row["arm"]
        line = next(line for line in table.text().splitlines() if line.split()[:1] == [name])
        assert line.split()[1] == f"{row['value']:.4f}"
        assert (row["verdict"] or "") in line


def test_a_row_of_the_baseline_has_no_difference_and_one_that_nobody_has_no_value(
    table: ComparisonTable,
) -> None:
    rows = table.rows()
    baseline, nobody = rows[0], rows[-1]
    assert baseline["value"] is not None
    fields = ("difference", "difference_low", "difference_high", "joint_low", "joint_high", "verdict")
    assert [baseline[name] for name in fields] == [None] * 6
    assert (nobody["num_users"], nobody["value"], nobody["verdict"]) == (0, None, None)


def test_the_module_documents_every_field(table: ComparisonTable) -> None:
    head, _, of_rows = str(module.__doc__).partition("A row, in JSON")
    documented = [re.findall(r"``(\w+)``", line.split("|")[1]) for line in head.splitlines() if "|" in line]
    assert {name for names in documented for name in names} == table.to_json().keys()
    documented = [
        re.findall(r"``(\w+)``", line.split("|")[1]) for line in of_rows.splitlines() if "|" in line
    ]
    assert [name for names in documented for name in names] == list(table.rows()[0])


def test_notes_say_what_intervals_leave_out(table: ComparisonTable) -> None:
    assert notes_of(table.judged, 2, num_ads=101) == []
    assert notes_of(table.judged, 1, num_ads=101) == [
        "one seed: the intervals do not cover the variation between seeds"
    ]
    few = {key: judged and replace(judged, num_users=29) for key, judged in table.judged.items()}
    assert [note.partition(":")[0] for note in notes_of(few, 2, num_ads=101)] == [
        "recall@100",
        "served share in top 100",
    ]


def test_a_cut_that_holds_the_whole_catalogue_is_noted(table: ComparisonTable) -> None:
    for num_ads in (99, 100):
        assert notes_of(table.judged, 2, num_ads=num_ads) == [
            f"recall@K and top K are trivial at K = 100: the catalogue has {num_ads} ads"
        ]
