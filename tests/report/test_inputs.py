"""Inputs of a report: the day, the days beside it, and the errors for unreadable files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scrollpast.errors import UserError
from scrollpast.report.inputs import read_inputs
from scrollpast.report.page import compose
from tests.report.published import (
    BEFORE,
    COMPARISON,
    CONFIG,
    DS,
    EXAMINATION,
    EXPOSURE,
    HEALTH,
    Output,
    write_json,
)


def test_the_days_beside_the_one_make_the_trend(output: Output) -> None:
    inputs = output.inputs()
    assert [day.ds for day in inputs.days] == [BEFORE, DS]
    assert not inputs.are_days_named


def test_of_several_days_the_latest_is_reported_on_and_no_other_joins(output: Output) -> None:
    third = output.root / "negatives" / "ds=2026-11-19"
    shutil.copytree(output.day.parent / f"ds={BEFORE}", third)
    inputs = output.inputs(output.day, output.day.parent / f"ds={BEFORE}")
    assert inputs.day.manifest.ds == DS
    assert [day.ds for day in inputs.days] == [BEFORE, DS]
    assert inputs.are_days_named


def test_a_day_that_is_held_has_the_published_ones_beside_it(output: Output) -> None:
    held = output.day.parent / "held" / f"ds={DS}"
    shutil.move(output.day, held)
    inputs = output.inputs(held)
    assert [day.ds for day in inputs.days] == [BEFORE, DS]


def test_a_broken_day_beside_the_one_is_left_out_by_name(output: Output) -> None:
    (output.day.parent / f"ds={BEFORE}" / "manifest.json").write_text("{}", encoding="utf-8")
    inputs = output.inputs()
    assert [day.ds for day in inputs.days] == [DS]
    assert inputs.left_out == [f"ds={BEFORE}"]


def test_the_examination_is_found_where_the_day_says(output: Output) -> None:
    table = str(output.root / "examination" / "table.parquet")
    output.change(config={"mining": {"examined": {"table": table}}})
    found = output.inputs(examination=None).examined
    assert found is not None and found.estimates is not None
    assert list(found.estimates.surfaces) == ["feed", "search"]


def test_a_table_of_examination_serves_without_its_estimation(output: Output, tmp_path: Path) -> None:
    rows = [{"surface": "feed", "position": p, "probability": 1 / (p + 1)} for p in (1, 0)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "mine.parquet")
    found = output.inputs(examination=str(tmp_path / "mine.parquet")).examined
    assert found is not None and found.estimates is None
    assert found.table["feed"].positions == [0, 1]
    assert found.table["feed"].low == found.table["feed"].probability == [1.0, 0.5]


def test_a_table_that_has_gone_since_is_no_mistake(output: Output) -> None:
    output.change(config={"mining": {"examined": {"table": "gone/table.parquet"}}})
    assert output.inputs(examination=None).examined is None


def test_the_last_evaluated_checkpoint_speaks_for_a_run(output: Output) -> None:
    checkpoints = output.root / "run" / "checkpoints"
    shutil.copytree(checkpoints / "step=00000003", checkpoints / "step=00000001")
    (checkpoints / "step=00000009").mkdir()
    (run,) = output.inputs().runs
    assert run.metrics is not None and run.metrics.step == 3


def test_runs_of_the_same_name_are_told_apart(output: Output) -> None:
    shutil.copytree(output.root / "run", output.root / "other" / "run")
    runs = [str(output.root / "run"), str(output.root / "other" / "run"), str(output.root / "run") + "/"]
    assert [run.name for run in output.inputs(runs=runs).runs] == ["run", runs[1]]


def missing(*path: str) -> Any:
    return lambda output: output.root.joinpath(*path).unlink()


def broken(*path: str, content: str = '{"schema_version": 1}') -> Any:
    return lambda output: output.root.joinpath(*path).write_text(content, encoding="utf-8")


def changed(path: tuple[str, ...], content: Any, **fields: Any) -> Any:
    return lambda output: write_json(output.root.joinpath(*path), {**content, **fields})


DAY = ("negatives", f"ds={DS}")
FAULTS = {
    "manifest missing": (missing(*DAY, "manifest.json"), "expected a manifest, which publishes a day"),
    "manifest broken": (broken(*DAY, "manifest.json"), "manifest.json"),
    "exposure missing": (missing(*DAY, "exposure", "part-0.json"), "found no such file"),
    "exposure broken": (broken(*DAY, "exposure", "part-0.json"), "part-0.json, catalogue"),
    "Lorenz curve": (
        changed((*DAY, "exposure", "part-0.json"), EXPOSURE, lorenz={"ads": [0.0, 1.0], "negatives": [0.0]}),
        "ads and negatives must be equally long",
    ),
    "health": (lambda output: output.change(health={**HEALTH, "figures": 3}), "health, figures"),
    "examination": (broken("examination", "examination.json", content="{"), "expected JSON"),
    "curve of examination": (
        changed(
            ("examination", "examination.json"), EXAMINATION,
            surfaces={"feed": {**EXAMINATION["surfaces"]["feed"], "chosen": "guessed"}},
        ),
        "chosen is guessed",
    ),
    "not a number": (
        broken("comparison", "comparison.json", content='{"baseline": {"arm": "a", "ratio": NaN}}'), "comparison.json",
    ),
    "comparison": (
        changed(("comparison", "comparison.json"), COMPARISON, rows=[{"metric": "auc"}]), "comparison.json, rows.0.arm",
    ),
    "comparison missing": (missing("comparison", "comparison.json"), "compare_negatives wrote with --out"),
    "curve missing": (missing("run", "curve.jsonl"), "train_two_tower wrote with --out"),
    "curve": (broken("run", "curve.jsonl", content='{"step": 1}\n{"loss": 1}\n'), "curve.jsonl, line 2"),
    "metrics": (broken("run", "checkpoints", "step=00000003", "metrics.json"), "metrics.json, checkpoint"),
    "revocations": (
        lambda output: next((output.day / "revocations").iterdir()).unlink(), "the revocations that the manifest names",
    ),
    "shard": (lambda output: next(output.day.glob("bucket=00002/*")).write_bytes(b""), "bucket=00002"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_missing_or_broken_is_the_users_to_mend(output: Output, fault: str) -> None:
    spoil, told = FAULTS[fault]
    spoil(output)
    with pytest.raises(UserError) as raised:
        compose(output.inputs())
    assert told in str(raised.value)
    assert raised.value.remedy


def test_a_folder_that_is_no_day_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the folder ds=… of a published day"):
        read_inputs([str(tmp_path)], [], None, None, None)


def test_what_a_later_version_adds_is_passed_over(output: Output) -> None:
    write_json(output.root / "comparison" / "comparison.json", {**COMPARISON, "colour": "blue"})
    output.change(config={**CONFIG, "colour": "blue"})
    assert output.inputs().comparison == output.inputs().comparison is not None
