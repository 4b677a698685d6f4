"""Strategies of the cap by user: the registry, and one from outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from scrollpast.errors import UserError
from scrollpast.mining.rules.strategies import Crowded, Strategy, register, strategy_names, unregister
from tests.mining.in_process import rules_of
from tests.mining.rules.test_decide import impression, records, run


def largest_ids(crowded: Crowded) -> tuple[NDArray[np.generic], ...]:
    return (-crowded.rows["ad"],)


def test_a_strategy_from_outside_decides_once_it_is_registered(tmp_path: Path) -> None:
    own = Strategy("largest_ids", largest_ids)
    register(own)
    try:
        rules = rules_of(negatives_per_user=2, strategy="largest_ids")
        (record,) = records(run([impression(ad) for ad in range(10, 20)], [], rules, tmp_path), tmp_path)
        assert sorted(record["negative_ad_id"]) == [18, 19]
        with pytest.raises(ValueError, match="'largest_ids': expected a new name"):
            register(Strategy("largest_ids", largest_ids, reads_stratum=True))
    finally:
        unregister(own)
    with pytest.raises(
        UserError, match=r"mining.strategy: expected one of uniform, recent, hardest, stratified"
    ):
        rules_of(strategy="largest_ids")
    assert strategy_names() == ("uniform", "recent", "hardest", "stratified")
