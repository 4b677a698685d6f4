"""The towers: what they look up, and what they give."""

from __future__ import annotations

import pytest
import torch

from scrollpast.config.training_options import Model, TrainingData
from scrollpast.training.model.features import AdFeatures, UserFeatures
from scrollpast.training.model.initialization import fill_tables
from scrollpast.training.model.towers import TableShapes, TwoTower
from tests.training.data.days import vocabulary

OPTIONS = Model(embedding_dim=4, output_dim=3, user_layers=[5], ad_layers=[])


@pytest.fixture
def towers() -> TwoTower:
    torch.manual_seed(0)
    built = TwoTower(TableShapes.of(vocabulary(), TrainingData(), OPTIONS), OPTIONS)
    fill_tables(built.state_dict(), seed=0, bound=0.5)
    return built


def weights(towers: TwoTower, name: str) -> torch.Tensor:
    return next(value for key, value in towers.state_dict().items() if f".{name}.weight" in key)


def test_every_feature_has_a_table_of_its_own() -> None:
    shapes = TableShapes.of(vocabulary(), TrainingData(), OPTIONS)
    assert shapes.user_side == {"user": 100, "user_age": 3, "history": 41}
    assert shapes.ad_side == {"ad": 41, "ad_advertiser": 4}


def test_a_user_is_its_row_its_codes_and_the_mean_of_its_history(towers: TwoTower) -> None:
    features = UserFeatures(vocabulary(), OPTIONS).of(
        torch.tensor([7, 9]),
        {"age": torch.tensor([2, 0])},
        {"history": (torch.tensor([3, 5]), torch.tensor([2, 0]))},
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
        towers.ads(AdFeatures(known, OPTIONS).of(rows)), outputs / outputs.norm(dim=1, keepdim=True)
    )


def test_embeddings_are_float32_of_length_1_also_from_reduced_arithmetic() -> None:
    torch.manual_seed(0)
    towers = TwoTower(
        TableShapes.of(vocabulary(), TrainingData(), OPTIONS), OPTIONS, precision=torch.bfloat16
    )
    fill_tables(towers.state_dict(), seed=0, bound=0.5)
    embedded = towers.ads(AdFeatures(vocabulary(), OPTIONS).of(torch.arange(41)))
    assert embedded.dtype == torch.float32
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(41))


def test_ads_that_the_user_passed_over_have_a_table_of_their_own() -> None:
    shapes = TableShapes.of(vocabulary(), TrainingData(max_passed=8), OPTIONS)
    assert list(shapes.user_side.items())[-2:] == [("history", 41), ("passed", 41)]
    torch.manual_seed(0)
    towers = TwoTower(shapes, OPTIONS)
    fill_tables(towers.state_dict(), seed=0, bound=0.5)
    assert towers.user_lists == ["history", "passed"]
    one, two = torch.tensor([1]), torch.tensor([2])
    lists = {"history": (torch.tensor([3]), one), "passed": (torch.tensor([5, 6]), two)}
    pooled = torch.cat(
        [
            weights(towers, "user")[7],
            weights(towers, "user_age")[2],
            weights(towers, "history")[3],
            weights(towers, "passed")[[5, 6]].mean(0),
        ]
    )
    expected = torch.nn.functional.normalize(towers.user_tower.layers(pooled[None]), dim=1)
    found = towers.users(
        UserFeatures(vocabulary(), OPTIONS).of(torch.tensor([7]), {"age": torch.tensor([2])}, lists)
    )
    torch.testing.assert_close(found, expected)


def test_an_ad_with_few_positives_is_embedded_by_its_features_alone() -> None:
    known = vocabulary()  # row r has r positives
    rows = torch.tensor([1, 4, 5, 40])
    keys = AdFeatures(known, Model(min_ad_positives=5)).of(rows).to_dict()
    assert keys["ad"].values().tolist() == [0, 0, 5, 40]
    assert keys["ad_advertiser"].values().tolist() == known.feature_codes["advertiser"][rows].tolist()


def test_dropped_rows_are_a_share_of_the_ads_the_same_ones_in_every_place_of_a_step() -> None:
    known = vocabulary()
    features = AdFeatures(known, Model(ad_row_dropout=0.25), seed=3)
    rows = torch.arange(41).repeat(2)
    found = torch.stack([features.of(rows, step).to_dict()["ad"].values().view(2, 41) for step in range(400)])
    assert torch.equal(found[:, 0], found[:, 1])
    assert torch.equal(features.of(rows, 7).to_dict()["ad"].values(), found[7].view(-1))
    is_dropped = found[:, 0, 1:] == 0
    assert abs(is_dropped.float().mean() - 0.25) < 4 * (0.25 * 0.75 / is_dropped.numel()) ** 0.5
    assert is_dropped.float().mean(0).max() < 0.4, "every ad is kept in most steps"
    assert torch.equal(features.of(rows).to_dict()["ad"].values(), rows), (
        "outside of training none is dropped"
    )


def test_the_features_of_the_ads_of_a_list_are_averaged_like_the_ads() -> None:
    options = OPTIONS.model_copy(update={"read_list_features": True})
    known = vocabulary()
    shapes = TableShapes.of(known, TrainingData(), options)
    assert list(shapes.user_side) == ["user", "user_age", "history", "history_advertiser"]
    torch.manual_seed(0)
    towers = TwoTower(shapes, options)
    fill_tables(towers.state_dict(), seed=0, bound=0.5)
    rows = torch.tensor([3, 5, 6])
    codes = torch.from_numpy(known.feature_codes["advertiser"].copy())[rows]
    keys = UserFeatures(known, options).of(
        torch.tensor([7]), {"age": torch.tensor([2])}, {"history": (rows, torch.tensor([3]))}
    )
    pooled = torch.cat(
        [
            weights(towers, "user")[7],
            weights(towers, "user_age")[2],
            weights(towers, "history")[rows].mean(0),
            weights(towers, "history_advertiser")[codes].mean(0),
        ]
    )
    expected = torch.nn.functional.normalize(towers.user_tower.layers(pooled[None]), dim=1)
    torch.testing.assert_close(towers.users(keys), expected)


def test_a_residual_adds_the_weighted_rows_and_begins_with_ads_like_the_history() -> None:
    options = Model(embedding_dim=8, output_dim=8, user_layers=[6], ad_layers=[6], residual=True)
    known = vocabulary()
    torch.manual_seed(0)
    towers = TwoTower(TableShapes.of(known, TrainingData(), options), options)
    fill_tables(towers.state_dict(), seed=0, bound=0.5, are_aligned=True)
    assert torch.equal(weights(towers, "history"), weights(towers, "ad"))
    assert not torch.equal(weights(towers, "user")[:41], weights(towers, "ad"))
    assert towers.user_tower.gates is not None
    assert towers.user_tower.gates.tolist() == [0, 0, 1]  # user, user_age, history
    lists = {"history": (torch.tensor([3, 5]), torch.tensor([2]))}
    keys = UserFeatures(known, options).of(torch.tensor([7]), {"age": torch.tensor([2])}, lists)
    mean = weights(towers, "history")[[3, 5]].mean(0)
    pooled = torch.cat([weights(towers, "user")[7], weights(towers, "user_age")[2], mean])[None]
    expected = torch.nn.functional.normalize(towers.user_tower.layers(pooled) + mean, dim=1)
    torch.testing.assert_close(towers.users(keys), expected)


def test_a_residual_needs_equal_dimensions() -> None:
    with pytest.raises(ValueError, match="output_dim 8, the embedding_dim, for residual, got 4"):
        Model(embedding_dim=8, output_dim=4, residual=True)
