"""The towers: what they look up, and what they give."""

from __future__ import annotations

import pytest
import torch

from scrollpast.config.training_options import Model
from scrollpast.training.model.features import AdFeatures, user_features
from scrollpast.training.model.initialization import fill_tables
from scrollpast.training.model.towers import TableShapes, TwoTower
from tests.training.data.days import vocabulary

OPTIONS = Model(embedding_dim=4, output_dim=3, user_layers=[5], ad_layers=[])


@pytest.fixture
def towers() -> TwoTower:
    torch.manual_seed(0)
    built = TwoTower(TableShapes.of(vocabulary()), OPTIONS)
    fill_tables(built.state_dict(), seed=0, bound=0.5)
    return built


def weights(towers: TwoTower, name: str) -> torch.Tensor:
    return next(value for key, value in towers.state_dict().items() if f".{name}.weight" in key)


def test_every_feature_has_a_table_of_its_own() -> None:
    shapes = TableShapes.of(vocabulary())
    assert shapes.user_side == {"user": 100, "user_age": 3, "history": 41}
    assert shapes.ad_side == {"ad": 41, "ad_advertiser": 4}


def test_a_user_is_its_row_its_codes_and_the_mean_of_its_history(towers: TwoTower) -> None:
    features = user_features(
        torch.tensor([7, 9]), {"age": torch.tensor([2, 0])}, torch.tensor([3, 5]), torch.tensor([2, 0])
    )
    history = weights(towers, "history")
    pooled = torch.stack(
        [
            torch.cat([weights(towers, "user")[7], weights(towers, "user_age")[2], history[[3, 5]].mean(0)]),
            torch.cat([weights(towers, "user")[9], weights(towers, "user_age")[0], torch.zeros(4)]),
        ]
    )
    outputs = towers.user_tower.layers(pooled)
    expected = outputs / outputs.norm(dim=1, keepdim=True)
    torch.testing.assert_close(towers.users(features), expected)


def test_an_ad_is_its_row_and_the_codes_of_its_features(towers: TwoTower) -> None:
    known = vocabulary()
    rows = torch.tensor([0, 6, 11, 6])
    codes = torch.from_numpy(known.feature_codes["advertiser"].copy())[rows]
    pooled = torch.cat([weights(towers, "ad")[rows], weights(towers, "ad_advertiser")[codes]], dim=1)
    outputs = towers.ad_tower.layers(pooled)
    torch.testing.assert_close(
        towers.ads(AdFeatures(known).of(rows)), outputs / outputs.norm(dim=1, keepdim=True)
    )


def test_embeddings_are_float32_of_length_1_also_from_reduced_arithmetic() -> None:
    torch.manual_seed(0)
    towers = TwoTower(TableShapes.of(vocabulary()), OPTIONS, precision=torch.bfloat16)
    fill_tables(towers.state_dict(), seed=0, bound=0.5)
    embedded = towers.ads(AdFeatures(vocabulary()).of(torch.arange(41)))
    assert embedded.dtype == torch.float32
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(41))
