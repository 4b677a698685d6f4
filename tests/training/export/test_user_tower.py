"""Calls of the user tower of an export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scrollpast.training.serving.user_tower import UserTower
from tests.training.data.days import vocabulary
from tests.training.export.exports import (
    assert_same_users,
    embedded,
    export,
    queries,
    trained,
)

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_history_may_be_ids_and_offsets(tower: UserTower) -> None:
    asked = queries()
    ads = torch.tensor([ad for history in asked.history for ad in history])
    found = tower(
        torch.from_numpy(asked.user_ids),
        (ads, torch.from_numpy(asked.history_offsets)),
        {"age": torch.from_numpy(asked.ages)},
    )
    assert torch.equal(found, embedded(tower, asked))


def test_only_the_latest_of_a_history_count(tmp_path: Path) -> None:
    checkpoint = trained(tmp_path / "trained", "max_steps=2", "data.max_history=3")
    export(checkpoint, str(tmp_path / "export"))
    tower = UserTower.load(str(tmp_path / "export"))
    users, ages = [1, 2], {"age": [20, 20]}
    long, short = tower(users, [[9, 8, 1, 2, 3], [5]], ages), tower(users, [[1, 2, 3], [5]], ages)
    assert torch.equal(long, short)
    assert not torch.equal(tower(users, [[2, 3], [5]], ages)[0], short[0])


def test_a_tower_that_reads_passed_ads_gives_the_same_embeddings_without_torchrec(tmp_path: Path) -> None:
    checkpoint = trained(tmp_path / "trained", "max_steps=2", "data.max_passed=5", "data.merge_repeats=true")
    export(checkpoint, str(tmp_path / "export"))
    tower = UserTower.load(str(tmp_path / "export"))
    assert tower.max_passed == 5
    assert_same_users(checkpoint, tower)
    users, ages = [1], {"age": [20]}
    assert not torch.equal(tower(users, [[1]], ages, [[2, 3]]), tower(users, [[1]], ages, [[4]]))
    long = tower(users, [[1]], ages, [[9, 1, 2, 3, 4, 5]])
    assert torch.equal(long, tower(users, [[1]], ages, [[1, 2, 3, 4, 5]]))
    with pytest.raises(ValueError, match="passed_ad_ids must be given for this tower"):
        tower(users, [[1]], ages)


def test_a_tower_that_reads_the_features_of_its_lists_gives_the_same_embeddings(tmp_path: Path) -> None:
    options = [
        "data.max_passed=5",
        "model.read_list_features=true",
        "model.min_ad_positives=3",
        "model.residual=true",
        "model.output_dim=8",
        "model.embedding_dim=8",
    ]
    checkpoint = trained(tmp_path / "trained", "max_steps=2", *options)
    export(checkpoint, str(tmp_path / "export"))
    tower = UserTower.load(str(tmp_path / "export"))
    assert {"history_advertiser", "passed_advertiser"} < set(tower.tables)
    assert_same_users(checkpoint, tower)


def test_no_users_are_no_embeddings(tower: UserTower) -> None:
    assert tower([], [], {"age": []}).shape == (0, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [[]], {"age": [1, 2]}), "history_ad_ids must be of 2 users, got 1"),
        (([1], [[]], {"age": [1, 2]}), "must be of 1 users, got 2"),
        (([1], [[]], {"age": [1]}, [[]]), "passed_ad_ids must be left out for this tower"),
        (([1], [[]], None), r"features must be \['age'\], got \[\]"),
        (([1], [[]], {"age": [1], "sex": [1]}), "got .*sex"),
        (([1.5], [[]], {"age": [1]}), "user_ids must be a list of integers"),
        ((["x"], [[]], {"age": [1]}), "user_ids must be a list of integers"),
        (([1], ([4, 5], [0, 1]), {"age": [1]}), "must rise from 0 to 2"),
        (([1, 2], ([4, 5], [0, 3, 2]), {"age": [1, 1]}), "must rise from 0 to 2"),
    ],
)
def test_a_call_that_does_not_fit_is_told_why(tower: UserTower, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tower(*arguments)


def test_a_row_that_an_index_left_empty_is_no_ad(tower: UserTower) -> None:
    first = int(vocabulary().ad_ids[1])
    assert tower.ad_ids(np.array([[1, -1], [-1, -1]])).tolist() == [[first, -1], [-1, -1]]
