"""Table of users: features that correlate with taste, and the ads that a user engaged with before the log.

All draws have Philox keys and streams of their own: impressions and engagements do not depend on them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from scrollpast.simulation.draws import draw, key_of, pick
from scrollpast.simulation.shape import LogShape
from scrollpast.simulation.slate import log_odds
from scrollpast.simulation.world import NUM_CATEGORIES, SECOND_TASTE, World

AGE_BANDS = ("under 18", "18-24", "25-34", "35-49", "50-64", "65 and over")
_FEATURES_KEY = 2
_WATCHED_TAG = 0x57415443
_TRIES_PER_AD = 400


class UserFacts(NamedTuple):
    """Features of U users, bots among them, by row number; ads are named by ``ad_id``."""

    interest: NDArray[np.int64]  # [U], a category_id
    age_band: NDArray[np.int8]  # [U], an index of AGE_BANDS
    watched: NDArray[np.int64]  # [Σ], ad_id, oldest first
    watched_offsets: NDArray[np.int64]  # [U + 1]


def user_facts(world: World, shape: LogShape, seed: int) -> UserFacts:
    """Draw the features and the watched ads of all users.

    Each feature depends on taste with the probability ``feature_purity``, drawn apart, and is uniform otherwise.
    ``interest`` is then one of the user's two categories, drawn by their weights in the taste. ``age_band`` is then
    the usual band of the first category. Bots and users who never click have no watched ads.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, _FEATURES_KEY]))
    first, second = world.user_categories
    num_users = first.size
    is_shown = random.random((2, num_users)) < shape.feature_purity
    own = np.where(random.random(num_users) < 1 / (1 + SECOND_TASTE), first, second)
    usual_band = random.permutation(np.arange(NUM_CATEGORIES) % len(AGE_BANDS))
    any_category = random.integers(0, NUM_CATEGORIES, num_users)
    any_band = random.integers(0, len(AGE_BANDS), num_users)
    watched, offsets = _watched(
        world, shape.relevance_spread, seed, float(shape.watched_ads), float(shape.watched_purity)
    )
    return UserFacts(
        interest=np.where(is_shown[0], own, any_category).astype(np.int64) + 1,
        age_band=np.where(is_shown[1], usual_band[first], any_band).astype(np.int8),
        watched=watched,
        watched_offsets=offsets,
    )


@njit(cache=True)
def _watched(world, spread, seed, mean, purity):  # type: ignore[no-untyped-def]
    """Ads that each user engaged with before the first day: (ad_id int64 [Σ], offsets int64 [U + 1]).

    Candidates are drawn by popularity. A share ``purity`` of the ads are accepted with P(want), the others always.
    The draw is independent of `is_wanted`: a list reveals the taste, not which of its ads are wanted in the log.
    """
    num_users, num_people = world.user_clicks.size, world.user_keep.size
    num_before = np.searchsorted(world.ad_created_us, world.first_us, side="left")
    offsets = np.zeros(num_users + 1, np.int64)
    ads = np.empty(1024, np.int64)
    stream = np.empty(1, np.uint64)
    count = 0
    for user in range(num_users):
        stream[0] = key_of(seed ^ _WATCHED_TAG, user, 0)
        # The whole part of an exponential value is geometric; this scale gives it the mean that is asked for.
        wanted = int(-math.log(1.0 - draw(stream)) / math.log(1.0 + 1.0 / mean)) if mean > 0 else 0
        if user >= num_people or not world.user_clicks[user]:
            wanted = 0
        first = count
        is_any = draw(stream) >= purity
        for _ in range(_TRIES_PER_AD * wanted):
            if count - first == wanted:
                break
            ad = pick(world.ad_keep, world.ad_other, draw(stream))
            chance = draw(stream)
            if ad >= num_before or _is_listed(ads, first, count, ad):
                continue
            if is_any or chance < 1.0 / (1.0 + math.exp(-log_odds(world, spread, user, ad))):
                if count == ads.size:
                    ads = np.concatenate((ads, np.empty(ads.size, np.int64)))
                ads[count] = ad + 1
                count += 1
                is_any = draw(stream) >= purity
        offsets[user + 1] = count
    return ads[:count].copy(), offsets


@njit(cache=True)
def _is_listed(ads, first, end, ad):  # type: ignore[no-untyped-def]
    for i in range(first, end):
        if ads[i] == ad + 1:
            return True
    return False
