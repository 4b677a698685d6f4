"""Table of users: features and watched ads reveal taste as far as the parameters say, and change nothing else."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from scrollpast.simulation.log import LogRequest, simulate_log
from scrollpast.simulation.shape import LogShape
from scrollpast.simulation.world import NUM_CATEGORIES
from tests.simulation.test_log import LAST_DAY, contents

NUM_USERS = 3_000
REVEALED = LogShape(
    relevance_spread=6, impressions_per_user=2, feature_purity=0.8, watched_ads=10, bot_rows=0, broken=0
)
REQUEST = LogRequest(2 * NUM_USERS, 2, LAST_DAY, seed=3, shape=REVEALED)
HIDDEN = replace(REQUEST, shape=replace(REVEALED, feature_purity=0.0, watched_ads=0.0))
LOG_TABLES = ("ads", "engagements", "impressions", "truth", "truth_ads", "truth_examination", "truth_users")
PLAIN_DIGEST = "1475174e8c70a0f2363b70e701695b07c4b0c9615f12e9c090fc4dfe2bb6d8e1"
"""SHA-256 of the integer columns of a log of 3,000 impressions, made before users had features"""


@pytest.fixture(scope="module")
def revealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    simulate_log(REQUEST, folder := tmp_path_factory.mktemp("revealed"))
    return folder


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    simulate_log(HIDDEN, folder := tmp_path_factory.mktemp("hidden"))
    return folder


def matrix(table: pa.Table) -> NDArray[np.float32]:
    return np.stack(table["vector"].to_numpy())


def probabilities(log: Path) -> NDArray[np.float64]:
    """P(want) of every user and ad: float64 [U, A]."""
    users, ads = pq.read_table(log / "truth_users"), pq.read_table(log / "truth_ads")
    odds = matrix(users).astype(np.float64) @ matrix(ads).T + ads["log_odds"].to_numpy()
    return np.asarray(1 / (1 + np.exp(-odds)))


def share_of_nearest_categories(log: Path) -> float:
    """Share of users whose interest is the category with the mean ad that is nearest to their taste."""
    category = pq.read_table(log / "ads")["category_id"].to_numpy()
    ads = matrix(pq.read_table(log / "truth_ads"))
    means = np.stack([ads[category == number].mean(0) for number in np.unique(category)])
    nearest = np.unique(category)[np.argmax(matrix(pq.read_table(log / "truth_users")) @ means.T, axis=1)]
    return float(np.mean(pq.read_table(log / "users")["interest"].to_numpy() == nearest))


def information_of_age(log: Path) -> float:
    """Mutual information of the age band and the nearest category, in nats, above its mean over shuffled bands."""
    category = pq.read_table(log / "ads")["category_id"].to_numpy()
    ads = matrix(pq.read_table(log / "truth_ads"))
    means = np.stack([ads[category == number].mean(0) for number in np.unique(category)])
    nearest = np.argmax(matrix(pq.read_table(log / "truth_users")) @ means.T, axis=1)
    band = np.unique(pq.read_table(log / "users")["age_band"].to_numpy(), return_inverse=True)[1]

    def information(bands: NDArray[np.int64]) -> float:
        joint = np.zeros((nearest.max() + 1, bands.max() + 1))
        np.add.at(joint, (nearest, bands), 1 / len(bands))
        apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        return float(np.sum(joint[joint > 0] * np.log(joint[joint > 0] / apart[joint > 0])))

    random = np.random.Generator(np.random.Philox(1))
    return information(band) - float(np.mean([information(random.permutation(band)) for _ in range(20)]))


def test_a_row_for_every_user_has_the_types_of_the_contract(revealed: Path) -> None:
    schema = pq.read_schema(revealed / "users" / "part-00000.parquet")
    assert dict(zip(schema.names, schema.types, strict=True)) == {
        "user_id": pa.int64(), "country": pa.string(), "device": pa.string(), "age_band": pa.string(),
        "interest": pa.int64(), "watched": pa.list_(pa.field("element", pa.int64())),
    }  # fmt: skip
    users = pq.read_table(revealed / "users")
    assert users["user_id"].to_pylist() == list(range(1, NUM_USERS + 1))
    interest = users["interest"].to_numpy()
    assert interest.min() >= 1 and interest.max() <= NUM_CATEGORIES
    impressions = pq.read_table(revealed / "impressions").to_pylist()
    of_user = {row["user_id"]: row for row in users.to_pylist()}
    for name in ("country", "device"):
        assert all(of_user[row["user_id"]][name] == row[name] for row in impressions)


def test_the_interest_is_the_nearest_category_if_features_are_pure_and_random_otherwise(
    revealed: Path, hidden: Path
) -> None:
    assert share_of_nearest_categories(revealed) > 3 / NUM_CATEGORIES
    # Of 3,000 users, three standard deviations of chance are 0.0086.
    assert share_of_nearest_categories(hidden) == pytest.approx(1 / NUM_CATEGORIES, abs=0.009)


def test_the_age_band_has_information_about_taste_if_features_are_pure(revealed: Path, hidden: Path) -> None:
    assert information_of_age(revealed) > 0.03
    assert abs(information_of_age(hidden)) < 0.01


def test_watched_ads_are_older_than_the_log_distinct_and_wanted_far_more_than_others(revealed: Path) -> None:
    chances, watched = probabilities(revealed), pq.read_table(revealed / "users")["watched"].to_pylist()
    created = pq.read_table(revealed / "truth_ads")["created_at"].cast(pa.int64()).to_numpy()
    clicks = pq.read_table(revealed / "truth_users")["clicks"].to_numpy()
    assert all(len(set(ads)) == len(ads) for ads in watched)
    assert all(created[np.array(ads) - 1].max() < REQUEST.first_us for ads in watched if ads)
    lengths = np.array([len(ads) for ads in watched])
    assert not lengths[~clicks].any()
    # Geometric with mean and deviation 10: the mean of about 1,500 users deviates by 0.27.
    assert lengths[clicks].mean() == pytest.approx(10, abs=1)
    own = np.array([chances[user, np.array(ads) - 1].mean() for user, ads in enumerate(watched) if ads])
    others = np.array([chances[user].mean() for user, ads in enumerate(watched) if ads])
    assert own.mean() > 2 * others.mean()


def test_impure_watched_ads_are_wanted_as_others_are(tmp_path: Path) -> None:
    simulate_log(replace(REQUEST, shape=replace(REVEALED, watched_purity=0.0)), tmp_path)
    chances, watched = probabilities(tmp_path), pq.read_table(tmp_path / "users")["watched"].to_pylist()
    own = np.array([chances[user, np.array(ads) - 1].mean() for user, ads in enumerate(watched) if ads])
    others = np.array([chances[user].mean() for user, ads in enumerate(watched) if ads])
    # Popular ads are drawn, which are few: their quality differs from the mean by chance.
    assert own.mean() == pytest.approx(others.mean(), rel=0.3)


def test_watched_ads_do_not_tell_which_ads_the_log_s_facts_make_wanted(revealed: Path) -> None:
    chances, truth = probabilities(revealed), pq.read_table(revealed / "truth")
    watched = pq.read_table(revealed / "users")["watched"].to_pylist()
    seen = zip(
        truth["user_id"].to_pylist(),
        truth["ad_id"].to_pylist(),
        truth["is_relevant"].to_pylist(),
        strict=True,
    )
    of_watched = {(user, ad): wanted for user, ad, wanted in seen if ad in watched[user - 1]}
    expected = [chances[user - 1, ad - 1] for user, ad in of_watched]
    deviation = np.sqrt(np.sum(np.array(expected) * (1 - np.array(expected))))
    assert len(expected) > 100
    assert abs(sum(of_watched.values()) - sum(expected)) < 4 * deviation


def test_the_truth_of_a_pair_is_what_the_simulation_used(revealed: Path) -> None:
    truth = pq.read_table(revealed / "truth")
    chances = probabilities(revealed)[truth["user_id"].to_numpy() - 1, truth["ad_id"].to_numpy() - 1]
    np.testing.assert_allclose(chances, truth["relevance"].to_numpy(), rtol=2e-5)


def test_features_change_no_other_byte(revealed: Path, hidden: Path) -> None:
    for name in LOG_TABLES:
        assert contents(revealed / name) == contents(hidden / name), name
    assert contents(revealed / "users") != contents(hidden / "users")


def test_a_plain_log_has_the_rows_that_it_had_before_users_had_features(tmp_path: Path) -> None:
    simulate_log(LogRequest(3_000, 2, dt.date(2026, 11, 20), seed=7), tmp_path)
    impressions, engagements = (
        pq.read_table(tmp_path / "impressions"),
        pq.read_table(tmp_path / "engagements"),
    )
    columns = [
        *impressions.select(["request_id", "user_id", "ad_id", "served_at", "position", "dwell_ms"]).columns,
        *engagements.select(["user_id", "ad_id", "engaged_at", "request_id"]).columns,
    ]
    digest = hashlib.sha256()
    for column in columns:
        digest.update(column.cast(pa.int64()).combine_chunks().fill_null(-(2**62)).to_numpy().tobytes())
    assert digest.hexdigest() == PLAIN_DIGEST
