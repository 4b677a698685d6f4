"""State of a day for a scheduler: published, held or missing."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from scrollpast.config import load_config
from scrollpast.mining.gate import held_days
from scrollpast.orchestration.days import DayState, day_uri, has_arrived, held_uri, state_of

DAY = date(2026, 11, 20)


def write(path: Path, content: str = "{}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_a_day_is_where_the_mining_job_puts_it(tmp_path: Path) -> None:
    config = load_config(None, [f"output.path={tmp_path}"])
    assert day_uri(str(tmp_path), DAY) == held_days.day_uri(config, DAY)
    assert held_uri(str(tmp_path), DAY) == held_days.held_uri(config, DAY)


def test_a_day_is_missing_then_held_then_published(tmp_path: Path) -> None:
    assert state_of(str(tmp_path), DAY) is DayState.MISSING
    kept = write(tmp_path / "held" / "ds=2026-11-20" / "manifest.json")
    assert state_of(str(tmp_path), DAY) is DayState.HELD
    write(tmp_path / "ds=2026-11-20" / "manifest.json")
    assert state_of(str(tmp_path), DAY) is DayState.HELD, "the newer version waits for a person"
    kept.unlink()
    assert state_of(str(tmp_path), DAY) is DayState.PUBLISHED


def test_a_log_has_arrived_with_its_mark(tmp_path: Path) -> None:
    write(tmp_path / "ds=2026-11-20" / "part-0.parquet", "rows")
    assert not has_arrived(str(tmp_path), DAY, "ds=%Y-%m-%d", "_SUCCESS")
    write(tmp_path / "ds=2026-11-20" / "_SUCCESS", "")
    assert has_arrived(str(tmp_path), DAY, "ds=%Y-%m-%d", "_SUCCESS")
    assert not has_arrived(str(tmp_path), date(2026, 11, 21), "ds=%Y-%m-%d", "_SUCCESS")


@pytest.mark.parametrize("name", ["_temporary", ".part-0.parquet.crc", "empty.parquet"])
def test_without_a_mark_half_written_and_empty_files_are_none(tmp_path: Path, name: str) -> None:
    write(tmp_path / "2026/11/20" / name, "" if name.startswith("empty") else "x")
    assert not has_arrived(str(tmp_path), DAY, "%Y/%m/%d", "")
    write(tmp_path / "2026/11/20" / "hour=07" / "part-0.parquet", "rows")
    assert has_arrived(str(tmp_path), DAY, "%Y/%m/%d", "")
