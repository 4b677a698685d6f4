"""The share cap of an ad: no ad may fill the negatives of a data set by being served a lot.

The cap is global, and the buckets decide alone. So they first say which ads may be over it (an ad above its
share of all negatives is above it in at least one bucket), then count those ads by bins of a seeded hash; the
driver turns the sums into one limit an ad: the bins below it hold no more than the cap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrollpast.hashing import seeded_hash
from scrollpast.mining.parcels import Columns
from scrollpast.mining.rules import Rules

NUM_BINS = 4096
"""An ad over the cap loses at most one bin, 1/4096 of its negatives, more than it must."""


@dataclass(frozen=True)
class AdLimits:
    """Ads over the cap, int64 [L] sorted, and the first bin that is cut of each, int64 [L]."""

    ads: NDArray[np.int64]
    first_cut_bin: NDArray[np.int64]

    @classmethod
    def none(cls) -> AdLimits:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))

    @classmethod
    def of(cls, histogram: Iterable[tuple[int, int, int]], num_negatives: int, rules: Rules) -> AdLimits:
        """From (ad, bin, count) rows, any order, distinct (ad, bin); ``num_negatives`` before the cap."""
        rows = np.array(sorted(histogram), np.int64).reshape(-1, 3)
        cap = largest_count(num_negatives, rules)
        limits: list[tuple[int, int]] = []
        for ad in np.unique(rows[:, 0]).tolist():
            _, bins, counts = rows[rows[:, 0] == ad].T
            if counts.sum() > cap:
                limits.append((ad, int(bins[np.searchsorted(np.cumsum(counts), cap, side="right")])))
        table = np.array(limits, np.int64).reshape(-1, 2)
        return cls(table[:, 0], table[:, 1])


def largest_count(num_negatives: int, rules: Rules) -> int:
    """Negatives that one ad may have, at least one, of all that the caps of the users left."""
    return max(1, int(num_negatives * rules.max_ad_share))


def find_suspects(negative_ads: NDArray[np.int64], rules: Rules) -> NDArray[np.int64]:
    """Ads above their share in this bucket, int64: the only ones that can be above it over all buckets."""
    ads, counts = np.unique(negative_ads, return_counts=True)
    return ads[counts > len(negative_ads) * rules.max_ad_share]


def count_by_bin(rows: Columns, suspects: NDArray[np.int64], rules: Rules) -> Columns:
    """Negatives of the suspected ads by bin: columns ad, bin, count, int64."""
    concerned = np.isin(rows["ad"], suspects)
    keys = np.stack([rows["ad"][concerned], _bins(rows, rules)[concerned]])
    (ads, bins), counts = np.unique(keys, axis=1, return_counts=True)
    return {"ad": ads, "bin": bins, "count": counts.astype(np.int64)}


def find_over_ad_cap(rows: Columns, limits: AdLimits, rules: Rules) -> NDArray[np.bool_]:
    """Negatives that the cap of their ad cuts: bool [N]."""
    if not len(limits.ads):
        return np.zeros(len(rows["ad"]), np.bool_)
    at = np.minimum(np.searchsorted(limits.ads, rows["ad"]), len(limits.ads) - 1)
    return np.asarray((limits.ads[at] == rows["ad"]) & (_bins(rows, rules) >= limits.first_cut_bin[at]))


def _bins(rows: Columns, rules: Rules) -> NDArray[np.int64]:
    # Another order of the columns than the users' caps hash them in: what a low hash kept there is spread here.
    chance = seeded_hash(rules.seed, rows["request"], rows["ad"], rows["user"])
    return (chance >> np.int64(52)) + np.int64(NUM_BINS // 2)
