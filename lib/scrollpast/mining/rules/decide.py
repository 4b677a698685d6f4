"""Kernel after the shuffle: decides the outcome and weight of every impression of one bucket.

All rows of a user are in one bucket, so that rules over several rows of a user are decided here. The rules are applied
in the order of :class:`Outcome`; each rule sets the outcome of rows without an outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

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
from scrollpast.mining.rules.weights import negative_weights
from scrollpast.mining.spark.packed_columns import Columns, take
from scrollpast.outcomes import Outcome

UNDECIDED = np.int8(-1)
SERVED_KIND = np.int8(-1)
"""Value of the column ``kind`` of decided rows: served and not engaged with."""


@dataclass(frozen=True)
class Decided:
    """Rows of a bucket with their outcomes, and counts that the outcomes do not contain."""

    rows: Columns
    """The bucket's columns and ``outcome`` int8, ``kind`` int8 (row of the kind table, or ``SERVED_KIND``) and
    ``weight`` float32 (0 where the row goes into no record), [N]."""
    delay_us: Ints
    """int64 [K]: delay from its impression of each attributed engagement of a positive kind."""
    num_only_far: int
    """Impressions that would be negatives, had the guard windows been half as long."""


class Judgement:
    """Rows of a bucket while their outcomes are decided, and intermediate results of several rules.

    Cached results depend only on outcomes that were decided before their first use.
    """

    def __init__(
        self, bucket: Bucket, surfaces: SurfaceTable, rules: Rules, attributes: AdAttributes
    ) -> None:
        self.bucket, self.surfaces, self.rules, self.attributes = bucket, surfaces, rules, attributes
        self.rows = bucket.rows
        self.outcome = np.full(len(self.rows["user"]), UNDECIDED, np.int8)
        self.positive, self.explicit, self.delay_us = attribute(bucket, ~self.is_duplicate, rules)

    @property
    def is_undecided(self) -> Mask:
        return np.asarray(self.outcome == UNDECIDED)

    @cached_property
    def is_duplicate(self) -> Mask:
        return find_duplicates(self.bucket)

    @cached_property
    def guarded(self) -> tuple[Mask, Mask]:
        """Guarded rows: by the whole guard window, and by its inner half."""
        return find_guarded(self.bucket, self.is_undecided, self.rules, self.attributes)

    @cached_property
    def clicked_below(self) -> Mask:
        return find_clicked_below(self.bucket, self.outcome == Outcome.POSITIVE)

    @cached_property
    def is_unexamined(self) -> Mask:
        return find_unexamined(self.rows, self.clicked_below, self.surfaces, self.rules)

    @cached_property
    def has_lingered(self) -> Mask:
        return find_lingered(self.bucket, self.surfaces, self.rules)

    @cached_property
    def candidate_weights(self) -> NDArray[np.float32]:
        """float32 [N]: weights of the rows without an outcome before the caps; 0 elsewhere."""
        weight = np.zeros(len(self.outcome), np.float32)
        at = np.flatnonzero(self.is_undecided)
        weight[at] = negative_weights(take(self.rows, at), self.clicked_below[at], self.surfaces, self.rules)
        return weight

    @property
    def num_only_far(self) -> int:
        is_guarded, is_guarded_near = self.guarded
        only_far = np.flatnonzero(is_guarded & ~is_guarded_near)
        return int((~self.is_unexamined[only_far] & ~self.has_lingered[only_far]).sum())


OutcomeRule = Callable[[Judgement], Mask]
"""Mask of rows to which a rule applies, whatever earlier rules decided: bool [N]."""


def _unanchored(judged: Judgement) -> Mask:
    bucket = judged.bucket
    is_anchored_user = np.full(bucket.num_users, judged.rules.keep_users_without_positive)
    is_anchored_user[bucket.user[judged.positive >= 0]] = True
    return ~is_anchored_user[bucket.user]


def _of_bots(judged: Judgement) -> Mask:
    return find_bot_users(judged.bucket, ~judged.is_duplicate, judged.rules)[judged.bucket.user]


def _immature(judged: Judgement) -> Mask:
    rules = judged.rules
    return np.asarray(judged.rows["served_us"] + rules.maturity_us > rules.window.as_of_us)


def _too_new(judged: Judgement) -> Mask:
    if not judged.rules.new_ad_quarantine_us:
        return np.zeros(len(judged.outcome), np.bool_)
    return find_too_new(judged.rows, judged.rules, judged.attributes)


def _repeats(judged: Judgement) -> Mask:
    return find_repeats(judged.bucket, judged.is_undecided, judged.outcome == Outcome.EXPLICIT_NEGATIVE)


def _over_user_cap(judged: Judgement) -> Mask:
    weight = judged.candidate_weights
    return find_over_user_cap(judged.bucket, judged.is_undecided, weight, judged.rules, judged.attributes)


OUTCOME_RULES: list[tuple[Outcome, OutcomeRule]] = [
    (Outcome.UNANCHORED, _unanchored),
    (Outcome.DUPLICATE, lambda judged: judged.is_duplicate),
    (Outcome.BOT, _of_bots),
    (Outcome.POSITIVE, lambda judged: np.asarray(judged.positive >= 0)),
    (Outcome.EXPLICIT_NEGATIVE, lambda judged: np.asarray(judged.explicit >= 0)),
    (Outcome.IMMATURE, _immature),
    (Outcome.ENGAGED_ELSEWHERE, lambda judged: judged.guarded[0]),
    (Outcome.NOT_EXAMINED, lambda judged: judged.is_unexamined),
    (Outcome.LINGERED, lambda judged: judged.has_lingered),
    (Outcome.TOO_NEW, _too_new),
    (Outcome.REPEAT, _repeats),
    (Outcome.OVER_CAP, _over_user_cap),
    (Outcome.NEGATIVE, lambda judged: judged.is_undecided),
]
"""Rules in their order; the first that applies to a row decides its outcome. The scan decides earlier outcomes row by
row, and the cap by ad removes some negatives later."""


def decide(bucket: Bucket, surfaces: SurfaceTable, rules: Rules, attributes: AdAttributes) -> Decided:
    """Decide the outcomes of a bucket's rows, without the cap by ad, which is applied later."""
    judged = Judgement(bucket, surfaces, rules, attributes)
    outcome = judged.outcome
    for found, rule in OUTCOME_RULES:
        _settle(outcome, frozen(rule(judged), np.bool_), np.int8(found))

    weight, kind = judged.candidate_weights, np.full(len(outcome), SERVED_KIND, np.int8)
    is_positive, is_explicit = outcome == Outcome.POSITIVE, outcome == Outcome.EXPLICIT_NEGATIVE
    kind[is_positive], kind[is_explicit] = judged.positive[is_positive], judged.explicit[is_explicit]
    weight[is_positive] = rules.kinds.weights[judged.positive[is_positive]]
    weight[is_explicit] = 1.0
    weight[outcome == Outcome.OVER_CAP] = 0.0
    decided = {**judged.rows, "outcome": outcome, "kind": kind, "weight": weight}
    return Decided(decided, judged.delay_us, judged.num_only_far)


@compiled
def _settle(outcome: NDArray[np.int8], where: Mask, found: np.int8) -> None:
    """Set the outcome of the masked rows that have no outcome yet."""
    for row in range(len(outcome)):
        if where[row] & (outcome[row] == UNDECIDED):
            outcome[row] = found


@compiled
def _busiest_days(starts: Ints, since_us: Ints, counted: Mask) -> Ints:
    """Number of counted rows on the busiest day of every user; times are in order, from the start of the first day."""
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
    """Rows with the (user, request, ad, position) of an earlier row; the rows have to be in total order."""
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
    """Attribute every engagement to the impression that it answers.

    An engagement with a request is attributed by (request, ad), an engagement without a request to the user's last
    earlier impression of the ad; both within the window of its kind. Where kinds compete for an impression, the kind
    with the higher code stays.

    Returns:
        int8 [N] twice: the positive and the explicit negative kind of every impression, or −1; and int64 [K], the delay
        from its impression of each attributed engagement of a positive kind, in microseconds.
    """
    engagements, kinds = bucket.engagements, rules.kinds
    window_us = kinds.attribution_us[engagements["kind"]]
    has_request = engagements["request"] >= 0
    row = np.full(len(window_us), -1, np.int64)
    # Clocks of client and server differ: an engagement's time may precede that of its request.
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
        bool [N] twice: by the whole window, and by its inner half alone, before and after the impression. The
        difference indicates the effect of a window twice as long.
    """
    is_positive_kind = rules.kinds.is_positive[bucket.engagements["kind"]]
    is_guarded, is_guarded_near = np.zeros((2, len(asked)), np.bool_)

    def guard(code: Ints, event_code: Ints, num_codes: int, guards: Mask) -> None:
        events = np.flatnonzero(guards & (event_code >= 0))
        engaged_us = bucket.engagements["engaged_us"][events]
        # Few rows share a key with an engagement of the user: only these rows need a comparison of times.
        at = np.flatnonzero(asked & is_among(code, num_codes, event_code[events]))

        def within(rows: Ints, share: float) -> Mask:
            served_us = bucket.rows["served_us"][rows]
            # The window after an impression ends at --as-of at the latest.
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
        # An unknown value is a separate group among the rows, and guards no row.
        code, event_code, num_codes = bucket.by_user.pair_codes(
            value, is_known.astype(np.int64), engaged_value, is_engaged_known.astype(np.int64)
        )
        guard(code, event_code, num_codes, is_positive_kind & is_engaged_known)
    return is_guarded, is_guarded_near


def find_clicked_below(bucket: Bucket, is_positive: Mask) -> Mask:
    """Impressions above an engaged impression of the same slate: examined and skipped.

    Joachims et al., *Accurately interpreting clickthrough data*, SIGIR 2005 (click > skip above).
    """
    position = bucket.rows["position"]
    deepest = np.full(bucket.num_slates, -1, np.int64)
    np.maximum.at(deepest, bucket.slate[is_positive], position[is_positive])
    return np.asarray((position >= 0) & (position < deepest[bucket.slate]))


def find_unexamined(rows: Columns, clicked_below: Mask, surfaces: SurfaceTable, rules: Rules) -> Mask:
    """Impressions with a position too deep, or a dwell too short, to be examined."""
    position, dwell_ms, surface = rows["position"], rows["dwell_ms"], rows["surface"]
    too_deep = position > surfaces.max_position[surface]
    too_short = (dwell_ms >= 0) & (dwell_ms < surfaces.min_dwell_ms[surface])
    unseen = too_deep | too_short
    if rules.examined.unknown == "drop":
        unseen |= (position < 0) | (dwell_ms < 0)
    return np.asarray(unseen & ~clicked_below)


def find_lingered(bucket: Bucket, surfaces: SurfaceTable, rules: Rules) -> Mask:
    """Impressions with a long dwell, and, if configured, the user's other impressions of the same ad."""
    lingered = bucket.rows["dwell_ms"] > surfaces.max_dwell_ms[bucket.rows["surface"]]
    if rules.examined.long_dwell_excludes == "impression":
        return np.asarray(lingered)
    has_lingered = np.zeros(bucket.num_pairs, np.bool_)
    has_lingered[bucket.pair[np.flatnonzero(lingered)]] = True
    return np.asarray(has_lingered[bucket.pair])


def find_too_new(rows: Columns, rules: Rules, attributes: AdAttributes) -> Mask:
    """Impressions of ads younger than the quarantine; an ad of unknown age is not quarantined."""
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


def find_over_user_cap(
    bucket: Bucket, candidates: Mask, weight: NDArray[np.float32], rules: Rules, attributes: AdAttributes
) -> Mask:
    """Candidates beyond the user's cap, by the configured strategy; a seeded hash breaks ties."""
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
    """The latest value of every user feature of impressions: columns ``user`` and ``feature:<name>``, [num_users]."""
    last = bucket.by_user.starts[1:] - 1
    names = ["user", *(f"feature:{name}" for name in rules.features_of_impressions)]
    return take({name: bucket.rows[name] for name in names}, last)
