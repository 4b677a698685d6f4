"""Share cap by ad: limits the share of one ad in the negatives of a data set.

The cap is global, but each bucket is decided alone. Each bucket first lists its suspects: an ad above a share of all
negatives is above that share in at least one bucket. Suspects are counted by bins of a seeded hash. The driver turns
the sums into one limit for each ad: the bins below the limit hold no more than the cap.

The share is relative to the negatives left after the cut. Cutting an ad raises the shares of the other ads. The cap
therefore is the largest count K with K ≤ share × (negatives left when every ad keeps at most K).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrollpast.hashing import seeded_hash
from scrollpast.mining.rules.rules import Rules
from scrollpast.mining.spark.packed_columns import Columns

NUM_BINS = 4096
"""Number of bins: an ad over the cap loses at most one bin, 1/4096 of its negatives, more than the cap requires."""


_MARGIN = 0.5
"""Factor of the share above which an ad is a suspect: one pass then usually finds all ads over the cap."""

Histogram = Iterable[tuple[int, int, int]]
"""(ad, bin, count) rows in any order, every (ad, bin) once."""


@dataclass(frozen=True)
class AdLimits:
    """Ads over the cap, int64 [L] sorted, and the first bin that is cut for each ad, int64 [L]."""

    ads: NDArray[np.int64]
    first_cut_bin: NDArray[np.int64]
    excess_share: float | None = None
    """Largest share of an ad in the remaining negatives, where no cap reduces it to ``max_ad_share``."""

    @classmethod
    def none(cls) -> AdLimits:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))

    @classmethod
    def find(
        cls,
        suspects: NDArray[np.int64],
        num_negatives: int,
        rules: Rules,
        count: Callable[[NDArray[np.int64]], Histogram],
        find_above: Callable[[float], NDArray[np.int64]],
    ) -> AdLimits:
        """Limits that keep every ad at or below its share of the remaining negatives.

        With too few ads for that, the cap is the share of the negatives before the cut, and ``excess_share`` is the
        resulting share.

        Args:
            suspects: ads above ``suspect_share(rules)`` of the negatives in some bucket, int64.
            num_negatives: before the cap, over all buckets.
            count: negatives of the given ads by bin, over all buckets.
            find_above: ads above a share of the negatives in some bucket; called only where the cap is below the
                share that the suspects were searched for.
        """
        share = suspect_share(rules)
        while len(suspects):
            counts = _BinCounts.of(count(suspects))
            cap = _largest_cap(counts, num_negatives, rules)
            if cap is None:
                return cls._as_near_as_can_be(counts, num_negatives, rules)
            if cap >= share * num_negatives:
                return counts.limits(cap)
            share = _MARGIN * cap / num_negatives
            suspects = find_above(share)
        return cls.none()

    @classmethod
    def _as_near_as_can_be(cls, counts: _BinCounts, num_negatives: int, rules: Rules) -> AdLimits:
        cap = max(1, int(num_negatives * rules.max_ad_share))
        limits = counts.limits(cap)
        kept = counts.kept(cap)
        share = float(kept.max()) / (num_negatives - int((counts.totals - kept).sum()))
        return cls(limits.ads, limits.first_cut_bin, share if share > rules.max_ad_share else None)


@dataclass(frozen=True)
class _BinCounts:
    """Negatives of ads by bin, ordered by ad and bin."""

    ads: NDArray[np.int64]
    """int64 [A], sorted."""
    first: NDArray[np.int64]
    """int64 [A]: the first row of each ad."""
    bins: NDArray[np.int64]
    """int64 [R]"""
    up_to: NDArray[np.int64]
    """int64 [R]: negatives of the ad in this bin and the bins below."""

    @classmethod
    def of(cls, histogram: Histogram) -> _BinCounts:
        rows = np.array(sorted(histogram), np.int64).reshape(-1, 3)
        ads, first = np.unique(rows[:, 0], return_index=True)
        total = np.cumsum(rows[:, 2])
        before = np.where(first > 0, total[first - 1], 0)
        lengths = np.diff(np.append(first, len(rows)))
        return cls(ads, first, rows[:, 1], total - np.repeat(before, lengths))

    @property
    def totals(self) -> NDArray[np.int64]:
        """Negatives of every ad: int64 [A]."""
        return self.up_to[np.append(self.first[1:], len(self.up_to)) - 1]

    def kept(self, cap: int) -> NDArray[np.int64]:
        """Negatives of every ad in the largest number of whole bins with at most ``cap`` negatives: int64 [A]."""
        return np.maximum.reduceat(np.where(self.up_to <= cap, self.up_to, 0), self.first)

    def limits(self, cap: int) -> AdLimits:
        is_over = self.totals > cap
        is_cut = self.up_to > cap
        first_cut = np.minimum.reduceat(np.where(is_cut, self.bins, np.iinfo(np.int64).max), self.first)
        return AdLimits(self.ads[is_over], first_cut[is_over])


def _largest_cap(counts: _BinCounts, num_negatives: int, rules: Rules) -> int | None:
    """Largest cap that is at most its share of the remaining negatives, found from above; None if no cap is."""
    cap = int(num_negatives * rules.max_ad_share)
    while cap >= 1:
        left = num_negatives - int((counts.totals - counts.kept(cap)).sum())
        if cap <= left * rules.max_ad_share:
            return cap
        # The remaining negatives decrease with the cap, so that no cap between these two is small enough.
        cap = int(left * rules.max_ad_share)
    return None


def suspect_share(rules: Rules) -> float:
    """Share of a bucket's negatives above which an ad is a suspect in the first pass; 1 (no suspects) without a cap."""
    return rules.max_ad_share * _MARGIN if rules.max_ad_share < 1 else 1.0


def find_suspects(negative_ads: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Ads above a share of this bucket's negatives, int64."""
    ads, counts = np.unique(negative_ads, return_counts=True)
    return ads[counts > len(negative_ads) * share]


def count_by_bin(rows: Columns, suspects: NDArray[np.int64], rules: Rules) -> Columns:
    """Negatives of the suspected ads by bin: columns ad, bin, count, int64."""
    concerned = np.isin(rows["ad"], suspects)
    keys = np.stack([rows["ad"][concerned], _bins(rows, rules)[concerned]])
    (ads, bins), counts = np.unique(keys, axis=1, return_counts=True)
    return {"ad": ads, "bin": bins, "count": counts.astype(np.int64)}


def find_over_ad_cap(rows: Columns, limits: AdLimits, rules: Rules) -> NDArray[np.bool_]:
    """Mask of negatives that the cap of their ad cuts: bool [N]."""
    if not len(limits.ads):
        return np.zeros(len(rows["ad"]), np.bool_)
    at = np.minimum(np.searchsorted(limits.ads, rows["ad"]), len(limits.ads) - 1)
    return np.asarray((limits.ads[at] == rows["ad"]) & (_bins(rows, rules) >= limits.first_cut_bin[at]))


def _bins(rows: Columns, rules: Rules) -> NDArray[np.int64]:
    # The column order differs from that of the users' cap, so that both hashes are independent.
    chance = seeded_hash(rules.seed, rows["request"], rows["ad"], rows["user"])
    return (chance >> np.int64(52)) + np.int64(NUM_BINS // 2)
