"""Day metrics: numbers that separate a sound day from a day with broken feeds.

Most come from the ledger. Buckets count the rest while they decide (`BucketSigns`), at negligible cost; the driver
adds the counts up. `scrollpast.config.FIGURES` describes each metric.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from scrollpast.documents.health import DayMetric, Health
from scrollpast.hashing import seeded_hash
from scrollpast.mining.exposure import Exposure
from scrollpast.mining.rules.bucket import Bucket
from scrollpast.mining.rules.decide import Decided
from scrollpast.mining.rules.ledger import Ledger
from scrollpast.mining.rules.rules import HOUR_US, Rules
from scrollpast.mining.spark.packed_columns import Columns, pack, unpack
from scrollpast.outcomes import Outcome

Ints = NDArray[np.int64]

PROMPT_US = 15 * 60 * 1_000_000
"""Limit of a prompt engagement: most clicks follow within seconds; many late ones mean a wrong clock."""
SKETCH_SIZE = 256
_SKETCHED_REQUESTS = 16
"""The sketch samples one request in this many: hashing every row would cost 1 % of the job."""
_SKETCH_SEED = 1
_NOT_JUDGED = {Outcome.SUPPRESSED, Outcome.IMMATURE, Outcome.NEGATIVE}
"""Outcomes without a metric: ``suppressed`` depends on a growing list, ``immature`` on --as-of, and negatives are the
remainder."""


@dataclass(frozen=True)
class BucketSigns:
    """Counts of buckets beside the outcomes; the signs of several buckets add up."""

    num_engaged: int = 0
    """Engagements of positive kinds in the window."""
    num_matched: int = 0
    """``num_engaged`` whose impression exists: by request and ad, or by user and ad where no request is named."""
    num_attributed: int = 0
    """Engagements of positive kinds that answer an impression."""
    num_prompt: int = 0
    """Of the answering engagements: within ``PROMPT_US`` of the impression."""
    num_only_far: int = 0
    """Impressions that would be negatives, had the guard windows been half as long."""
    sketch: tuple[int, ...] = ()
    """The ``SKETCH_SIZE`` smallest hashes of distinct (user, request, ad), ascending. The smallest hashes of the union
    of two days are a sample (Broder, *On the resemblance and containment of documents*, 1997)."""
    num_judged: int = 0
    """Impressions that the bucket decided: valid impressions of users who may have an anchor."""
    num_dwell: int = 0
    """Decided impressions with a known dwell."""
    num_dwell_over_0: int = 0
    """Decided impressions with a dwell of more than 0 ms."""
    num_dwell_under_60: int = 0
    """Decided impressions with a dwell above 0 and under 60 ms, too short to be a look."""

    def packed(self) -> bytes:
        """Signs as a message's payload."""
        counts = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "sketch"}
        return pack({"sketch": np.array(self.sketch, np.int64)}, **counts)

    @staticmethod
    def sum(payloads: Iterable[bytes]) -> BucketSigns:
        """Add up the signs of all buckets, from their messages' payloads in any order."""
        counts: Counter[str] = Counter()
        sketches = [np.zeros(0, np.int64)]
        for payload in payloads:
            columns, metadata = unpack(payload)
            counts.update(metadata)
            sketches.append(columns["sketch"])
        sketch = smallest(np.concatenate(sketches), SKETCH_SIZE)
        return BucketSigns(**counts, sketch=tuple(sketch.tolist()))


def engaged_in_window(engagements: Columns, rules: Rules) -> NDArray[np.bool_]:
    """Mask of the engagements of a positive kind in the window: bool [M]."""
    moment_us, window = engagements["engaged_us"], rules.window
    inside = (moment_us >= window.start_us) & (moment_us < window.end_us)
    return np.asarray(rules.kinds.is_positive[engagements["kind"]] & inside)


def signs_of(num_engaged: int, bucket: Bucket, decided: Decided, rules: Rules) -> BucketSigns:
    """Signs of one bucket with impressions; ``num_engaged`` counts the engagements of all users of the bucket."""
    engagements = bucket.engagements
    has_request = engagements["request"] >= 0
    dwell_ms = bucket.rows["dwell_ms"]
    has_impression = np.where(has_request, bucket.engaged_shown, bucket.engaged_pair) >= 0
    return BucketSigns(
        num_engaged=num_engaged,
        num_matched=int((has_impression & engaged_in_window(engagements, rules)).sum()),
        num_attributed=len(decided.delay_us),
        num_prompt=int((decided.delay_us <= PROMPT_US).sum()),
        num_only_far=decided.num_only_far,
        num_judged=len(dwell_ms),
        num_dwell=int((dwell_ms >= 0).sum()),
        num_dwell_over_0=int((dwell_ms > 0).sum()),
        num_dwell_under_60=int(((dwell_ms > 0) & (dwell_ms < 60)).sum()),
        sketch=tuple(_sketch(bucket.rows).tolist()),
    )


def _sketch(rows: Columns) -> Ints:
    # The low bits of a request's hash are nearly uniform, and equal in every delivery of the request.
    at = np.flatnonzero(rows["request"] & (_SKETCHED_REQUESTS - 1) == 0)
    keys = (rows[name][at] for name in ("user", "request", "ad"))
    return smallest(seeded_hash(_SKETCH_SEED, *keys), SKETCH_SIZE)


def smallest(values: Ints, count: int) -> Ints:
    """The ``count`` smallest distinct values, ascending; all of them where there are fewer."""
    size = 4 * count
    while size < len(values):
        found = np.unique(np.partition(values, size)[:size])
        if len(found) >= count:
            return found[:count]
        size *= 4  # many values repeat
    return np.unique(values)[:count]


def health_of(ledger: Ledger, signs: BucketSigns, exposure: Exposure, rules: Rules) -> Health:
    """Metrics of a day."""
    totals = ledger.totals()
    num_impressions = sum(totals.values())
    num_sound = num_impressions - totals[Outcome.INVALID] - totals[Outcome.SUPPRESSED]
    candidates = (Outcome.TOO_NEW, Outcome.REPEAT, Outcome.OVER_CAP, Outcome.NEGATIVE)
    num_candidates = sum(totals[outcome] for outcome in candidates)
    shares = {
        "engagement_rate": (totals[Outcome.POSITIVE], num_sound),
        **_outcome_shares(totals),
        "matched_share": (signs.num_matched, signs.num_engaged),
        "prompt_share": (signs.num_prompt, signs.num_attributed),
        "false_negative_rate": (signs.num_only_far, signs.num_only_far + num_candidates),
        "hardness": hardness(ledger),
        "new_ad_share": (exposure.num_of_new_ads, exposure.num_of_known_ads),
        "unknown_ad_share": (exposure.num_of_unknown_ads, exposure.num_items),
    }
    recorded = (Outcome.POSITIVE, Outcome.EXPLICIT_NEGATIVE, Outcome.NEGATIVE)
    counts = {"impressions": num_impressions, "recorded": sum(totals[outcome] for outcome in recorded)}
    figures = {name: DayMetric(value=float(count), cases=None) for name, count in counts.items()}
    figures |= {
        name: DayMetric(value=count / cases, cases=cases) for name, (count, cases) in shares.items() if cases
    }
    window = rules.window
    lag_us = min(max(window.as_of_us - window.end_us, 0), rules.longest_reach_us)
    return Health(figures=figures, lag_h=round(lag_us / HOUR_US, 3), sketch=signs.sketch)


def with_seen_before(health: Health, earlier: Iterable[tuple[int, ...]]) -> Health:
    """Add the share of impressions that an earlier day had too: the largest over the earlier days' sketches."""
    found = [_overlap(health.sketch, sketch) for sketch in earlier]
    if not found:
        return health
    seen_before = max(found, key=lambda metric: metric.value)
    return health.model_copy(update={"figures": {**health.figures, "seen_before_share": seen_before}})


def _outcome_shares(totals: Mapping[Outcome, int]) -> dict[str, tuple[int, int]]:
    """(count, cases) of every outcome: its share of the impressions that no earlier outcome took.

    Shares of all impressions would change together whenever one share changes, and with the moment of --as-of.
    """
    shares = {}
    left = sum(totals.values())
    for outcome in Outcome:
        if outcome not in _NOT_JUDGED:
            shares[f"{outcome.label}_share"] = (totals[outcome], left)
        left -= totals[outcome]
    return shares


def hardness(ledger: Ledger) -> tuple[float, int]:
    """Share of pairs in which a negative ranked above a positive of its surface, ties half; and the number of cases.

    The ranker chose both positions, so that the share measures how similar to positives it ranks the negatives.
    A Mann–Whitney statistic has the variance (m + n + 1) / (12 m n) around one half, equal to that of a share of
    3 m n / (m + n + 1) cases. Impressions of unknown position are left out.
    """
    positions: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for (outcome, surface, position), count in ledger.cells.items():
        if position is not None and outcome in (Outcome.NEGATIVE, Outcome.POSITIVE):
            positions[surface][position][outcome == Outcome.POSITIVE] += count
    higher_cases = cases = 0.0
    for counts in positions.values():
        negatives, positives = np.array([counts[position] for position in sorted(counts)], np.float64).T
        m, n = negatives.sum(), positives.sum()
        higher = np.cumsum(negatives) - negatives / 2
        if m * n:
            of_surface = float(3 * m * n / (m + n + 1))
            higher_cases += of_surface * float((positives * higher).sum() / (m * n))
            cases += of_surface
    whole = round(cases)
    return (higher_cases * whole / cases if whole else 0.0), whole


def _overlap(today: tuple[int, ...], earlier: tuple[int, ...]) -> DayMetric:
    """Share of the day's impressions that an earlier day had too, over the hash range that both sketches cover."""
    known_to = min(sketch[-1] if len(sketch) == SKETCH_SIZE else 2**63 for sketch in (today, earlier))
    compared = [value for value in today if value <= known_to]
    seen = len(set(compared) & set(earlier))
    return DayMetric(value=seen / max(len(compared), 1), cases=len(compared))
