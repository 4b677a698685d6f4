"""The kernel behind the exchange: every impression of one bucket gets its outcome and weight.

All rows of a user are in one bucket, so that whatever depends on more than one row is decided here. The
rules are applied in the order of :class:`Outcome`; each sets the outcome of rows that none before it took.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrollpast.compiled import compiled, frozen
from scrollpast.hashing import seeded_hash
from scrollpast.mining.io.contracts import CREATED_AT
from scrollpast.mining.rules.attributes import AdAttributes
from scrollpast.mining.rules.bucket import Bucket, Ints, Mask
from scrollpast.mining.rules.groups import (
    NOT_FOUND,
    has_between,
    is_among,
    is_first_of_code,
    last_at_or_before,
    rank_in_group,
)
from scrollpast.mining.rules.rules import DAY_US, Rules, SurfaceTable
from scrollpast.mining.rules.strategies import Crowded
from scrollpast.mining.spark.packed_columns import Columns, take
from scrollpast.outcomes import Outcome

UNDECIDED = np.int8(-1)
SERVED_KIND = np.int8(-1)
"""In the column ``kind`` of decided rows: served and not engaged with."""


@dataclass(frozen=True)
class Decided:
    """The rows of a bucket with their outcomes, and what was seen on the way that the outcomes do not tell."""

    rows: Columns
    """The bucket's columns and ``outcome`` int8, ``kind`` int8 (row of the kind table, or ``SERVED_KIND``) and
    ``weight`` float32 (0 where the row goes into no record), [N]."""
    delay_us: Ints
    """int64 [K]: how long after its impression each attributed engagement of a positive kind came."""
    num_only_far: int
    """Impressions that would be negatives, had the guard windows been half as long."""


def decide(bucket: Bucket, surfaces: SurfaceTable, rules: Rules, attributes: AdAttributes) -> Decided:
    """Outcomes of a bucket's rows, all but those that the per-ad cap will take from the negatives."""
    rows = bucket.rows
    outcome = np.full(len(rows["user"]), UNDECIDED, np.int8)

    def decided_as(found: Outcome, where: Mask) -> None:
        _settle(outcome, frozen(where, np.bool_), np.int8(found))

    is_duplicate = find_duplicates(bucket)
    is_bot_user = find_bot_users(bucket, ~is_duplicate, rules)
    positive, explicit, delay_us = attribute(bucket, ~is_duplicate, rules)
    is_anchored_user = np.zeros(bucket.num_users, np.bool_)
    is_anchored_user[bucket.user[positive >= 0]] = True

    if not rules.keep_users_without_positive:
        decided_as(Outcome.UNANCHORED, ~is_anchored_user[bucket.user])
    decided_as(Outcome.DUPLICATE, is_duplicate)
    decided_as(Outcome.BOT, is_bot_user[bucket.user])
    decided_as(Outcome.POSITIVE, positive >= 0)
    decided_as(Outcome.EXPLICIT_NEGATIVE, explicit >= 0)
    decided_as(Outcome.IMMATURE, rows["served_us"] + rules.maturity_us > rules.window.as_of_us)
    is_guarded, is_guarded_near = find_guarded(bucket, outcome == UNDECIDED, rules, attributes)
    decided_as(Outcome.ENGAGED_ELSEWHERE, is_guarded)
    clicked_below = find_clicked_below(bucket, outcome == Outcome.POSITIVE)
    is_unexamined = find_unexamined(rows, clicked_below, surfaces, rules)
    decided_as(Outcome.NOT_EXAMINED, is_unexamined)
    has_lingered = find_lingered(bucket, surfaces, rules)
    decided_as(Outcome.LINGERED, has_lingered)
    only_far = np.flatnonzero(is_guarded & ~is_guarded_near)
    num_only_far = int((~is_unexamined[only_far] & ~has_lingered[only_far]).sum())
    if rules.new_ad_quarantine_us:
        decided_as(Outcome.TOO_NEW, find_too_new(rows, rules, attributes))
    decided_as(
        Outcome.REPEAT, find_repeats(bucket, outcome == UNDECIDED, outcome == Outcome.EXPLICIT_NEGATIVE)
    )

    weight = np.zeros(len(outcome), np.float32)
    candidates = outcome == UNDECIDED
    at = np.flatnonzero(candidates)
    weight[at] = negative_weights(take(rows, at), clicked_below[at], surfaces, rules)
    decided_as(Outcome.OVER_CAP, find_over_user_cap(bucket, candidates, weight, rules, attributes))
    decided_as(Outcome.NEGATIVE, candidates)

    kind = np.full(len(outcome), SERVED_KIND, np.int8)
    is_positive, is_explicit = outcome == Outcome.POSITIVE, outcome == Outcome.EXPLICIT_NEGATIVE
    kind[is_positive], kind[is_explicit] = positive[is_positive], explicit[is_explicit]
    weight[is_positive] = rules.kinds.weights[positive[is_positive]]
    weight[is_explicit] = 1.0
    weight[outcome == Outcome.OVER_CAP] = 0.0
    decided = {**rows, "outcome": outcome, "kind": kind, "weight": weight}
    return Decided(decided, delay_us, num_only_far)


@compiled
def _settle(outcome: NDArray[np.int8], where: Mask, found: np.int8) -> None:
    """Give an outcome to the rows that have none yet, where the mask says so."""
    for row in range(len(outcome)):
        if where[row] & (outcome[row] == UNDECIDED):
            outcome[row] = found


@compiled
def _busiest_days(starts: Ints, since_us: Ints, counted: Mask) -> Ints:
    """The most counted rows of one day (times are in order, from the start of the first day), for every user."""
    busiest = np.zeros(len(starts) - 1, np.int64)
    for user in range(len(starts) - 1):
        count, day_ends = 0, np.int64(0)
        for row in range(starts[user], starts[user + 1]):
            if since_us[row] >= day_ends:
                count, day_ends = 0, (since_us[row] // DAY_US + 1) * DAY_US
            count += counted[row]
            busiest[user] = max(busiest[user], count)
    return busiest


def find_duplicates(bucket: Bucket) -> Mask:
    """Rows whose (user, request, ad, position) came before; the rows are in total order already."""
    none = np.zeros(len(bucket.engaged_shown), np.int64)
    exposure, _, _ = bucket.by_user.pair_codes(
        bucket.shown, bucket.rows["position"].astype(np.int64), none, none
    )
    return ~is_first_of_code(exposure)


def find_bot_users(bucket: Bucket, counted: Mask, rules: Rules) -> Mask:
    """Users with more impressions on any UTC day than the cap: bool [num_users]."""
    since_us = bucket.rows["served_us"] - rules.window.start_us
    busiest = _busiest_days(
        frozen(bucket.by_user.starts, np.int64), frozen(since_us, np.int64), frozen(counted, np.bool_)
    )
    return np.asarray(busiest > rules.max_impressions_per_user_day)


def attribute(
    bucket: Bucket, eligible: Mask, rules: Rules
) -> tuple[NDArray[np.int8], NDArray[np.int8], Ints]:
    """Give every engagement to the one impression that it answers.

    By (request, ad) where the engagement names a request, else to the user's last impression of that ad
    before it; in both cases within the window of its kind. Where kinds compete for an impression, the one
    with the higher code stays.

    Returns:
        int8 [N] twice: the positive and the explicit negative kind of every impression, or −1; and int64 [K],
        how long after its impression each attributed engagement of a positive kind came, in microseconds.
    """
    engagements, kinds = bucket.engagements, rules.kinds
    window_us = kinds.attribution_us[engagements["kind"]]
    has_request = engagements["request"] >= 0
    row = np.full(len(window_us), -1, np.int64)
    # Clocks of client and server differ: an engagement may seem to precede the request that it names.
    moment_us = engagements["engaged_us"] + np.where(has_request, rules.clock_skew_us, 0)
    for asked, row_code, num_codes, code in (
        (has_request, bucket.shown, bucket.num_shown, bucket.engaged_shown),
        (~has_request, bucket.pair, bucket.num_pairs, bucket.engaged_pair),
    ):
        at = np.flatnonzero(eligible & is_among(row_code, num_codes, code[asked]))
        found = last_at_or_before(
            row_code[at], bucket.rows["served_us"][at], num_codes, code[asked], moment_us[asked]
        )
        row[asked] = np.append(at, NOT_FOUND)[found]
    age_us = engagements["engaged_us"] - bucket.rows["served_us"][row] if len(row) else row
    matched = (row >= 0) & (age_us <= window_us)

    def strongest(of_role: Mask) -> NDArray[np.int8]:
        kind = np.full(len(bucket.user), -1, np.int8)
        np.maximum.at(kind, row[of_role], engagements["kind"][of_role])
        return kind

    is_positive_kind = kinds.is_positive[engagements["kind"]]
    of_positive, of_explicit = matched & is_positive_kind, matched & ~is_positive_kind
    return strongest(of_positive), strongest(of_explicit), age_us[of_positive]


def find_guarded(bucket: Bucket, asked: Mask, rules: Rules, attributes: AdAttributes) -> tuple[Mask, Mask]:
    """Impressions of an ad, or of a guard key's value, that the user engaged with inside the guard window.

    Returns:
        bool [N] twice: by the whole window, and by the inner half of it alone, before and after the impression.
        What only the outer half finds tells how much one twice as long would find.
    """
    is_positive_kind = rules.kinds.is_positive[bucket.engagements["kind"]]
    is_guarded, is_guarded_near = np.zeros((2, len(asked)), np.bool_)

    def guard(code: Ints, event_code: Ints, num_codes: int, guards: Mask) -> None:
        events = np.flatnonzero(guards & (event_code >= 0))
        engaged_us = bucket.engagements["engaged_us"][events]
        # Few rows are of something that the user ever engaged with: only for them the times matter.
        at = np.flatnonzero(asked & is_among(code, num_codes, event_code[events]))

        def within(rows: Ints, share: float) -> Mask:
            served_us = bucket.rows["served_us"][rows]
            # Of the window after an impression only as much is known as had passed at --as-of.
            after_us = np.minimum(rules.guard_after_us, rules.window.as_of_us - served_us)
            start_us = served_us - int(rules.guard_before_us * share)
            end_us = served_us + (after_us * share).astype(np.int64)
            return has_between(event_code[events], engaged_us, num_codes, code[rows], start_us, end_us)

        found = at[within(at, 1.0)]
        is_guarded[found] = True
        is_guarded_near[found] |= within(found, 0.5)

    guard(bucket.pair, bucket.engaged_pair, bucket.num_pairs, is_positive_kind)
    for name in rules.guard_keys:
        value, is_known = attributes.look_up(name, bucket.rows["ad"])
        engaged_value, is_engaged_known = attributes.look_up(name, bucket.engagements["ad"])
        # An unknown value is a group of its own on the rows' side, and guards nothing.
        code, event_code, num_codes = bucket.by_user.pair_codes(
            value, is_known.astype(np.int64), engaged_value, is_engaged_known.astype(np.int64)
        )
        guard(code, event_code, num_codes, is_positive_kind & is_engaged_known)
    return is_guarded, is_guarded_near


def find_clicked_below(bucket: Bucket, is_positive: Mask) -> Mask:
    """Impressions above an engaged one of the same slate: skipped after being looked at.

    Joachims et al., *Accurately interpreting clickthrough data*, SIGIR 2005 (click > skip above).
    """
    position = bucket.rows["position"]
    deepest = np.full(bucket.num_slates, -1, np.int64)
    np.maximum.at(deepest, bucket.slate[is_positive], position[is_positive])
    return np.asarray((position >= 0) & (position < deepest[bucket.slate]))


def find_unexamined(rows: Columns, clicked_below: Mask, surfaces: SurfaceTable, rules: Rules) -> Mask:
    """Impressions too deep, or left too soon, to have been looked at."""
    position, dwell_ms, surface = rows["position"], rows["dwell_ms"], rows["surface"]
    too_deep = position > surfaces.max_position[surface]
    too_short = (dwell_ms >= 0) & (dwell_ms < surfaces.min_dwell_ms[surface])
    unseen = too_deep | too_short
    if rules.examined.unknown == "drop":
        unseen |= (position < 0) | (dwell_ms < 0)
    return np.asarray(unseen & ~clicked_below)


def find_lingered(bucket: Bucket, surfaces: SurfaceTable, rules: Rules) -> Mask:
    """Impressions looked at for long, and, as configured, the user's other impressions of the same ad."""
    lingered = bucket.rows["dwell_ms"] > surfaces.max_dwell_ms[bucket.rows["surface"]]
    if rules.examined.long_dwell_excludes == "impression":
        return np.asarray(lingered)
    has_lingered = np.zeros(bucket.num_pairs, np.bool_)
    has_lingered[bucket.pair[np.flatnonzero(lingered)]] = True
    return np.asarray(has_lingered[bucket.pair])


def find_too_new(rows: Columns, rules: Rules, attributes: AdAttributes) -> Mask:
    """Impressions of ads younger than the quarantine; an ad whose age is not known is in none."""
    created_us, is_known = attributes.look_up(CREATED_AT, rows["ad"])
    return np.asarray(is_known & (rows["served_us"] - created_us < rules.new_ad_quarantine_us))


def find_repeats(bucket: Bucket, candidates: Mask, is_explicit: Mask) -> Mask:
    """All but the latest candidate of every (user, ad), and all candidates where a hide or report is kept."""
    latest = np.full(bucket.num_pairs, -1, np.int64)
    at = np.flatnonzero(candidates)
    latest[bucket.pair[at]] = at  # rows are in total order: the last assignment is the latest exposure
    has_explicit = np.zeros(bucket.num_pairs, np.bool_)
    has_explicit[bucket.pair[is_explicit]] = True
    is_latest = latest[bucket.pair] == np.arange(len(candidates))
    return np.asarray(candidates & (~is_latest | has_explicit[bucket.pair]))


def negative_weights(
    rows: Columns, clicked_below: Mask, surfaces: SurfaceTable, rules: Rules
) -> NDArray[np.float32]:
    """How surely an impression was seen and passed over, float32 [N] in (0, 1]: P(seen) × P(not wanted | seen).

    What the dwell says of having been seen, it says at a position that is looked at as often as the surface's mean.
    Elsewhere the odds are those times the odds of the position over those of the mean (Bayes): a short look is less
    likely one at the end of a slate than at its top, and a long one is one anywhere. Where the dwell is not known the
    position's probability alone is left, and with a click further down the slate it is 1.
    """
    position, surface, dwell_ms = rows["position"], rows["surface"], rows["dwell_ms"]
    deepest = surfaces.examination.shape[1] - 1
    mean = surfaces.mean_examination[surface]
    examined = np.where(position >= 0, surfaces.examination[surface, np.clip(position, 0, deepest)], mean)
    shift = _odds(examined) / _odds(mean)
    # The user got as far as the click: no position above it is worse than the mean.
    examined = np.where(clicked_below, 1.0, examined)
    shift = np.where(clicked_below, np.maximum(shift, 1.0), shift)
    seen, not_wanted = dwell_confidence(dwell_ms, surface, surfaces, rules)
    weight = not_wanted * np.where(dwell_ms >= 0, seen * shift / (seen * shift + 1 - seen), examined)
    # A probability may be estimated as 0; a weight of 0 would be a record that says nothing.
    return np.maximum(weight, np.finfo(np.float32).tiny).astype(np.float32)


def _odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(probability, 1e-9, 1 - 1e-9)
    return np.asarray(bounded / (1 - bounded))


def dwell_confidence(
    dwell_ms: NDArray[np.int32], surface: NDArray[np.int16], surfaces: SurfaceTable, rules: Rules
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a dwell says: P(seen) and P(not wanted | seen), float64 [N] each, in (0, 1].

    The first rises from ``floor`` at the shortest dwell that counts as seen to 1 at ``full_from_ms`` (an impression
    is viewable after one continuous second: MRC guidelines); the second falls from 1 at ``full_to_ms`` to ``floor``
    at the dwell where lingering begins. Of an unknown dwell the first is 1 and the second ``unknown``.
    """
    shape = rules.confidence
    dwell = dwell_ms.astype(np.float64)
    low = np.minimum(surfaces.min_dwell_ms, shape.full_from_ms)[surface]
    high = np.maximum(surfaces.max_dwell_ms, shape.full_to_ms)[surface]
    rise = np.clip((dwell - low) / np.maximum(shape.full_from_ms - low, 1), 0.0, 1.0)
    fall = np.clip((high - dwell) / np.maximum(high - shape.full_to_ms, 1), 0.0, 1.0)
    is_known = dwell_ms >= 0
    seen, not_wanted = (shape.floor + (1 - shape.floor) * part for part in (rise, fall))
    return np.where(is_known, seen, 1.0), np.where(is_known, not_wanted, shape.unknown)


def find_over_user_cap(
    bucket: Bucket, candidates: Mask, weight: NDArray[np.float32], rules: Rules, attributes: AdAttributes
) -> Mask:
    """Candidates beyond the user's cap, by the configured strategy; ties fall to a seeded hash."""
    at = np.flatnonzero(candidates)
    crowded = np.bincount(bucket.user[at], minlength=bucket.num_users) > rules.negatives_per_user
    at = at[crowded[bucket.user[at]]]
    rows, user = take(bucket.rows, at), bucket.user[at]
    chance = seeded_hash(rules.seed, rows["user"], rows["ad"], rows["request"])
    order = rules.strategy.sort_keys(Crowded(rows, user, weight[at], chance, attributes, rules))
    over = np.zeros(len(candidates), np.bool_)
    over[at] = rank_in_group(user, *order, rows["ad"], at) >= rules.negatives_per_user
    return over


def latest_features(bucket: Bucket, rules: Rules) -> Columns:
    """The latest value of every user feature: columns ``user`` and ``feature:<name>``, [num_users]."""
    last = bucket.by_user.starts[1:] - 1
    names = ["user", *(f"feature:{name}" for name in rules.user_features)]
    return take({name: bucket.rows[name] for name in names}, last)
