"""Towers and days that do not fit each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from scripts.bench.synthetic_days import plant_towers

from scrollpast.errors import UserError
from scrollpast.mining.neighbours.inputs import check_fit
from scrollpast.training.serving.export_files import read_export
from tests.mining.neighbours.planted_world import OPTIONS, PLAN


def test_a_tower_that_reads_passed_ads_is_refused(tmp_path: Path) -> None:
    plant_towers(PLAN, tmp_path)
    export = read_export(str(tmp_path))
    check_fit(OPTIONS, [], export)
    towers = replace(export, user_tower={**export.user_tower, "max_passed": 8})
    expected = "expected a user tower that reads histories alone, found one that reads up to 8 ads"
    with pytest.raises(UserError, match=expected):
        check_fit(OPTIONS, [], towers)
