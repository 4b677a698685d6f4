"""Simulated funnel: the user and time of a request, and the ads that the ranker places."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from scrollpast.simulation.draws import draw, key_of, pick, unit_of
from scrollpast.simulation.world import DAY_US, DIMENSION

CANDIDATES_PER_SLOT = 2
_POOL_TAG = 0x504F4F4C
_WANT_TAG = 0x57414E54


@njit(cache=True)
def served_moment(world, share):  # type: ignore[no-untyped-def]
    """Microseconds since 1970 of a share in [0, 1) of the window's traffic; evenings are busier."""
    days = share * world.num_days
    day = min(int(days), world.num_days - 1)
    within = days - day
    hour = 23
    while world.hour_starts[hour] > within:
        hour -= 1
    width = world.hour_starts[hour + 1] - world.hour_starts[hour]
    hours = min(hour + (within - world.hour_starts[hour]) / width, 23.9999999)
    return world.first_us + day * DAY_US + int(hours / 24.0 * DAY_US)


@njit(cache=True)
def log_odds(world, spread, user, ad):  # type: ignore[no-untyped-def]
    """Log-odds that a user wants an ad."""
    agreement = np.float32(0.0)
    for d in range(DIMENSION):
        agreement += world.user_vector[user, d] * world.ad_vector[ad, d]
    return world.intercept + spread * agreement + world.ad_quality[ad]


@njit(cache=True)
def is_wanted(seed, user, ad, relevance):  # type: ignore[no-untyped-def]
    """True if the user wants the ad: one draw per (user, ad), the same at every exposure."""
    return unit_of(key_of(seed ^ _WANT_TAG, user, ad)) < relevance


@njit(cache=True)
def pool_ad(world, rates, seed, user, slot, day, num_alive):  # type: ignore[no-untyped-def]
    """Ad in one slot of the user's pool on a day; -1 if no candidate exists yet.

    The retriever's ad, if it exists on the day; else the best match of a few popular ads, which changes every
    ``pool_days`` days, on different days for different slots.
    """
    if user < world.retrieved.shape[0] and 0 <= world.retrieved[user, slot] < num_alive:
        return np.int64(world.retrieved[user, slot])
    epoch = (day + slot) // rates.pool_days
    best = -1
    best_odds = -np.inf
    for candidate in range(CANDIDATES_PER_SLOT):
        key = key_of(seed ^ _POOL_TAG, user, (epoch * 1024 + slot) * 8 + candidate)
        ad = pick(world.ad_keep, world.ad_other, unit_of(key))
        if ad < num_alive:
            odds = log_odds(world, rates.relevance_spread, user, ad)
            if odds > best_odds:
                best, best_odds = ad, odds
    return best


@njit(cache=True)
def fill_slate(world, rates, seed, stream, user, at_us, size, slots, slate):  # type: ignore[no-untyped-def]
    """Fill the positions of one request.

    Args:
        slots: int64 [pool_ads], scratch.
        slate: (ad int64, odds float64, is_random bool, the ranker's score float64, NaN where the slot is random),
            each [2 * max_slate]; the first positions receive the slate, the rest is scratch for the candidates.

    Returns:
        (positions filled, ads alive): at most ``size``, fewer where the pool has no more ads.
    """
    ads, odds, is_random, scores = slate
    num_alive = np.searchsorted(world.ad_created_us, at_us, side="right")
    day = (at_us - world.first_us) // DAY_US

    # Candidates: twice the slate, from distinct slots of the pool (Fisher-Yates), each ad once.
    for slot in range(slots.size):
        slots[slot] = slot
    num_found = 0
    for taken in range(min(2 * size, slots.size)):
        other = taken + int(draw(stream) * (slots.size - taken))
        slots[taken], slots[other] = slots[other], slots[taken]
        ad = pool_ad(world, rates, seed, user, slots[taken], day, num_alive)
        if ad < 0 or _is_among(ads, num_found, ad):
            continue
        noise = draw(stream) + 1e-12
        ads[num_found] = ad
        odds[num_found] = log_odds(world, rates.relevance_spread, user, ad)
        scores[num_found] = odds[num_found] + rates.ranker_noise * math.log(noise / (1.0 - noise + 2e-12))
        num_found += 1
    order = np.argsort(-scores[:num_found])
    ranked_ads = ads[:num_found][order]
    ranked_odds = odds[:num_found][order]
    ranked_scores = scores[:num_found][order]

    # Random slots draw first and from all existing ads, so that each ad has exactly the stated propensity;
    # the ranked ads then fill the rest and skip ads of random slots.
    num_random = 0
    for position in range(size):
        is_random[position] = num_random < num_alive and draw(stream) < rates.random_slot_share
        ads[position] = -1
        if is_random[position]:
            ad = int(draw(stream) * num_alive)
            while _is_among(ads, position, ad):
                ad = int(draw(stream) * num_alive)
            ads[position] = ad
            odds[position] = log_odds(world, rates.relevance_spread, user, ad)
            scores[position] = math.nan
            num_random += 1
    following = 0
    filled = 0
    for position in range(size):
        if not is_random[position]:
            while following < num_found and _is_among(ads, size, ranked_ads[following]):
                following += 1
            if following == num_found:
                break
            ads[position] = ranked_ads[following]
            odds[position] = ranked_odds[following]
            scores[position] = ranked_scores[following]
            following += 1
        filled += 1
    return filled, num_alive


@njit(cache=True)
def _is_among(ads, count, ad):  # type: ignore[no-untyped-def]
    for i in range(count):
        if ads[i] == ad:
            return True
    return False
