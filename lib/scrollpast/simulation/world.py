"""Latent world of a log: users, ads, and the relevance of each ad to each user.

Users and ads are directions in a small space; ads are near their category and their advertiser, users near the mean of
two categories. P(relevant | user, ad) is logistic in the inner product of the two directions plus the quality of ad and
advertiser. Every process draws the same world from Philox with the seed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrollpast.simulation.draws import alias_table
from scrollpast.simulation.retrieved import Pools, no_pools, read_pools
from scrollpast.simulation.shape import SURFACES, LogShape

DIMENSION = 8
COUNTRIES = ("US", "BR", "DE", "IN", "JP", "NG")
DEVICES = ("android", "ios", "desktop")
_COUNTRY_SHARES = (0.35, 0.2, 0.15, 0.15, 0.1, 0.05)
_DEVICE_SHARES = (0.55, 0.3, 0.15)
NUM_CATEGORIES = 40
SECOND_TASTE = 0.6
"""Weight of a user's second category in the taste; the first one has 1."""
_ADS_PER_ADVERTISER = 15
_OLDEST_AD_DAYS = 180
DAY_US = 86_400_000_000
_HOURLY = np.array([1 + 0.6 * math.cos(2 * math.pi * (hour - 20) / 24) for hour in range(24)])


class World(NamedTuple):
    """Input arrays of the compiled loops; U users (bots last), A ads, both with the id row number + 1."""

    user_vector: NDArray[np.float32]  # [U, DIMENSION]
    user_categories: NDArray[
        np.int64
    ]  # [2, U], row numbers of the categories of the taste, the stronger first
    user_clicks: NDArray[np.bool_]  # [U]
    user_country: NDArray[np.int8]  # [U]
    user_device: NDArray[np.int8]  # [U]
    user_keep: NDArray[np.float64]  # [U - bots], alias table of activity
    user_other: NDArray[np.int64]
    ad_vector: NDArray[np.float32]  # [A, DIMENSION]
    ad_quality: NDArray[np.float32]  # [A], log-odds
    ad_created_us: NDArray[np.int64]  # [A], ascending: the ads alive at a time are a prefix
    ad_keep: NDArray[np.float64]  # [A], alias table of popularity
    ad_other: NDArray[np.int64]
    ad_advertiser: NDArray[np.int64]  # [A]
    ad_category: NDArray[np.int64]  # [A]
    examination: NDArray[np.float64]  # [surfaces, max_slate]
    hour_starts: NDArray[np.float64]  # [25], share of a day's traffic before each hour
    first_us: int
    num_days: int
    intercept: float
    retrieved: Pools  # [U - bots, pool_ads], a retriever's ads in the users' pools; or [0, 0]


def build_world(
    shape: LogShape,
    num_rows: int,
    first_us: int,
    num_days: int,
    seed: int,
    intercept: float,
    retrieved: Path | None = None,
) -> World:
    """Draw the world of a log.

    Args:
        shape: rates and sizes.
        num_rows: impressions of the whole log; the numbers of users and ads follow from it.
        first_us: start of the first day, microseconds since 1970 in UTC.
        num_days: days of the window.
        seed: seed of the log.
        intercept: log-odds added to every relevance (``calibrate_intercept`` finds it).
        retrieved: file of `read_pools` with a retriever's ads; it changes the users' pools only.

    Raises:
        UserError: the file does not fit.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, 1]))
    num_bots = number_of_bots(shape, num_rows, num_days)
    num_users = max(2, round(num_rows / shape.impressions_per_user))
    num_ads = max(50, round(num_rows**shape.ads_exponent))
    categories = _directions(random.standard_normal((NUM_CATEGORIES, DIMENSION)))
    num_advertisers = max(1, num_ads // _ADS_PER_ADVERTISER)
    advertiser = random.choice(num_advertisers, num_ads, p=_shares(_zipf(num_advertisers, 0.6, 1.0)))
    # Most ads of an advertiser are in one category.
    home = random.integers(0, NUM_CATEGORIES, num_advertisers)
    category = np.where(
        random.random(num_ads) < 0.85, home[advertiser], random.integers(0, NUM_CATEGORIES, num_ads)
    )
    style = 0.4 * random.standard_normal((num_advertisers, DIMENSION))
    own = 0.3 * random.standard_normal((num_ads, DIMENSION))
    quality = 0.3 * random.standard_normal(num_advertisers)[advertiser] + 0.3 * random.standard_normal(
        num_ads
    )
    tastes = random.integers(0, NUM_CATEGORIES, (2, num_users + num_bots))
    user_noise = shape.user_noise * random.standard_normal((num_users + num_bots, DIMENSION))
    ad_keep, ad_other = alias_table(random.permutation(_zipf(num_ads, shape.ad_skew, 1.0)))
    activity = _zipf(num_users, shape.user_skew, max(1.0, 0.01 * num_users))
    user_keep, user_other = alias_table(random.permutation(activity))
    return World(
        user_vector=_directions(categories[tastes[0]] + SECOND_TASTE * categories[tastes[1]] + user_noise),
        user_categories=tastes.astype(np.int64),
        user_clicks=random.random(num_users + num_bots) < shape.share_of_users_who_click,
        user_country=random.choice(len(COUNTRIES), num_users + num_bots, p=_COUNTRY_SHARES).astype(np.int8),
        user_device=random.choice(len(DEVICES), num_users + num_bots, p=_DEVICE_SHARES).astype(np.int8),
        user_keep=user_keep,
        user_other=user_other,
        ad_vector=_directions(categories[category] + style[advertiser] + own),
        ad_quality=quality.astype(np.float32),
        ad_created_us=_creation_times(random, num_ads, shape.new_ad_share, first_us, num_days),
        ad_keep=ad_keep,
        ad_other=ad_other,
        ad_advertiser=advertiser.astype(np.int64) + 1,
        ad_category=category.astype(np.int64) + 1,
        examination=examination_curves(shape.max_slate),
        hour_starts=np.concatenate([[0.0], np.cumsum(_shares(_HOURLY))]),
        first_us=first_us,
        num_days=num_days,
        intercept=intercept,
        retrieved=no_pools()
        if retrieved is None
        else read_pools(retrieved, num_users, int(shape.pool_ads), num_ads),
    )


def examination_curves(max_slate: int) -> NDArray[np.float64]:
    """P(examined | surface, position), float64 [surfaces, max_slate]: the true curves.

    The position-based model (Wang et al., WSDM 2018): examination depends on surface and position alone. A
    feed is scrolled far (slow exponential), a result list is left early (a power law), related ads stand in a
    short rail; 0.02 is the least.
    """
    position = np.arange(max_slate, dtype=np.float64)
    curves = {
        "feed": 0.95 * np.exp(-position / 14),
        "search": 0.97 / (1 + position) ** 0.9,
        "related": 0.75 * np.exp(-position / 7),
    }
    return np.maximum(np.stack([curves[surface] for surface in SURFACES]), 0.02)


def number_of_bots(shape: LogShape, num_rows: int, num_days: int) -> int:
    """Number of bots of a log: their rows over the rows of one bot in all days; at least 1 for a share above 0."""
    per_bot = shape.bot_impressions_per_day * num_days
    return max(1, round(shape.bot_rows * num_rows / per_bot)) if shape.bot_rows > 0 else 0


def _creation_times(
    random: np.random.Generator, num_ads: int, new_share: float, first_us: int, num_days: int
) -> NDArray[np.int64]:
    num_new = min(int(num_ads * new_share), num_ads - 1)
    old = first_us - random.integers(1, _OLDEST_AD_DAYS * DAY_US, num_ads - num_new)
    new = first_us + random.integers(0, num_days * DAY_US, num_new)
    return np.sort(np.concatenate([old, new])).astype(np.int64)


def _zipf(count: int, exponent: float, offset: float) -> NDArray[np.float64]:
    return np.asarray((np.arange(count) + offset) ** -exponent, np.float64)


def _shares(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(weights / weights.sum())


def _directions(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
