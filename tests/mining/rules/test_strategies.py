"""Strategies of the cap by user: the registry, and one from outside."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from scrollpast.errors import UserError
from scrollpast.mining.rules.attributes import AdAttributes
from scrollpast.mining.rules.strategies import STRATEGIES, Crowded, Strategy
from scrollpast.outcomes import Outcome
from tests.mining.in_process import SECOND_US, rules_of
from tests.mining.rules.test_decide import NOON_US, impression, records, run


def largest_ids(crowded: Crowded) -> tuple[NDArray[np.generic], ...]:
    return (-crowded.rows["ad"],)


def test_a_strategy_from_outside_decides_once_it_is_registered(tmp_path: Path) -> None:
    with STRATEGIES.registered(Strategy("largest_ids", largest_ids)):
        rules = rules_of(negatives_per_user=2, strategy="largest_ids")
        (record,) = records(run([impression(ad) for ad in range(10, 20)], [], rules, tmp_path), tmp_path)
        assert sorted(record["negative_ad_id"]) == [18, 19]
    known = re.escape(
        "mining.strategy: expected a registered strategy (uniform, recent, hardest, stratified)"
    )
    with pytest.raises(UserError, match=known):
        rules_of(strategy="largest_ids")


def test_the_user_cap_leaves_the_most_recent(tmp_path: Path) -> None:
    rows = [impression(ad, at_us=NOON_US + ad * SECOND_US) for ad in range(10, 20)]
    mined = run(rows, [], rules_of(negatives_per_user=3, strategy="recent"), tmp_path)
    (record,) = records(mined, tmp_path)
    assert record["negative_ad_id"] == [17, 18, 19]
    assert mined.ledger.totals()[Outcome.OVER_CAP] == 7


def test_the_hardest_are_those_of_highest_weight(tmp_path: Path) -> None:
    rows = [impression(10, dwell_ms=600), impression(11, dwell_ms=1500), impression(12, dwell_ms=3900)]
    (record,) = records(run(rows, [], rules_of(negatives_per_user=1, strategy="hardest"), tmp_path), tmp_path)
    assert record["negative_ad_id"] == [11]


def test_stratified_goes_round_the_advertisers(tmp_path: Path) -> None:
    advertisers = np.array([1, 1, 1, 1, 2, 3])
    attributes = AdAttributes.of([{"ad": np.arange(10, 16), "advertiser_id": advertisers}], ["advertiser_id"])
    rules = rules_of(negatives_per_user=3, strategy="stratified", stratify_by="advertiser_id")
    mined = run([impression(ad) for ad in range(10, 16)], [], rules, tmp_path, attributes)
    (record,) = records(mined, tmp_path)
    assert {int(advertisers[ad - 10]) for ad in record["negative_ad_id"]} == {1, 2, 3}


def test_a_uniform_choice_changes_with_the_seed_and_with_nothing_else(tmp_path: Path) -> None:
    rows = [impression(ad) for ad in range(10, 60)]

    def chosen(seed: int) -> list[int]:
        mined = run(rows, [], rules_of(negatives_per_user=5, seed=seed), tmp_path)
        return list(records(mined, tmp_path)[0]["negative_ad_id"])

    assert chosen(1) == chosen(1) != chosen(2)
