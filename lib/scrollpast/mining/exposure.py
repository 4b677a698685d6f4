"""Exposure bias: the share of the catalogue's ads that are negatives, and the inequality of their counts.

Buckets count their records' ads as they are sealed. The report needs the number of ads by negatives, positives and
age, which stays small for a catalogue of any size.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrollpast.documents.exposure import ExposureDocument, Lorenz, Slice
from scrollpast.hashing import bucket_of, xxhash64
from scrollpast.mining.io.contracts import CREATED_AT
from scrollpast.mining.rules.attributes import AdAttributes
from scrollpast.mining.rules.rules import Rules
from scrollpast.mining.spark.packed_columns import Columns, concatenate, split_by_bucket
from scrollpast.outcomes import Outcome

Ints = NDArray[np.int64]

_COUNTS_OF_ONE_PART = 8_000_000
"""(bucket, ad) counts that are merged in one place: some 100 MB."""
_KEYS = ("negatives", "positives", "age")
_LORENZ_POINTS = 101


class Age(IntEnum):
    """Age of an ad according to the table of ads."""

    OLD = 0
    NEW = 1
    NOT_TOLD = 2
    NOT_LISTED = 3
    """The table does not hold the ad, or no table is given."""


def num_parts(num_items: int) -> int:
    """Number of parts in which the counts of ``num_items`` positives and negatives are merged."""
    return max(1, -(-num_items // _COUNTS_OF_ONE_PART))


def count_ads(rows: Columns, num_parts: int) -> Iterator[tuple[int, Columns]]:
    """Count a bucket's records by ad: (part, columns ad, negatives, positives); an ad has 1 or 2 rows of one part."""
    parts = []
    for name, outcome in (("negatives", Outcome.NEGATIVE), ("positives", Outcome.POSITIVE)):
        ads, counts = np.unique(rows["ad"][rows["outcome"] == outcome], return_counts=True)
        parts.append({"ad": ads, **{key: counts * (key == name) for key in _KEYS[:2]}})
    counted = concatenate(parts)
    yield from split_by_bucket(counted, bucket_of(xxhash64(counted["ad"]), num_parts))


def profile_of(parts: Sequence[Columns], attributes: AdAttributes, rules: Rules) -> Columns:
    """Number of ads by negatives, positives and `Age`.

    Args:
        parts: counts of :func:`count_ads`; they hold all rows of an ad.

    Returns:
        negatives, positives, age, num_ads: int64 [R], every combination once, in ascending order.
    """
    merged = _sums(parts, ["ad"], ["negatives", "positives"])
    return _sums(
        [{**merged, "age": _ages(merged["ad"], attributes, rules), "num_ads": np.ones_like(merged["ad"])}],
        _KEYS,
        ["num_ads"],
    )


@dataclass(frozen=True)
class Exposure:
    """Distribution of a data set's negatives over the ads of its catalogue: a profile as of :func:`profile_of`.

    The catalogue is the table of ads and the records' further ads; without a table, the records' ads alone.
    """

    profile: Columns
    is_catalogue_known: bool
    is_age_known: bool

    @staticmethod
    def of(profiles: Sequence[Columns], attributes: AdAttributes, rules: Rules) -> Exposure:
        """Merge the profiles of all parts with the table of ads, which is empty where no table was given."""
        found = _sums([*profiles, _nothing()], _KEYS, ["num_ads"])
        ages = _ages(attributes.ads, attributes, rules)
        listed = np.bincount(ages, minlength=len(Age))
        in_records = np.array([found["num_ads"][found["age"] == age].sum() for age in Age])
        listed[Age.NOT_LISTED] = in_records[Age.NOT_LISTED]
        zeros = np.zeros(len(Age), np.int64)
        rest = {
            "negatives": zeros, "positives": zeros, "age": np.arange(len(Age)), "num_ads": listed - in_records,
        }  # fmt: skip
        return Exposure(
            profile=_sums([found, rest], _KEYS, ["num_ads"]),
            is_catalogue_known=len(attributes.ads) > 0,
            is_age_known=bool((listed[[Age.OLD, Age.NEW]] > 0).any()),
        )

    @property
    def num_items(self) -> int:
        """Positives and negatives, where a table of ads is given; else 0."""
        return self._items(self.profile["age"] >= 0) if self.is_catalogue_known else 0

    @property
    def num_of_unknown_ads(self) -> int:
        """Positives and negatives whose ad the table does not hold."""
        return self._items(self.profile["age"] == Age.NOT_LISTED) if self.is_catalogue_known else 0

    @property
    def num_of_new_ads(self) -> int:
        """Positives and negatives whose ad is new."""
        return self._items(self.profile["age"] == Age.NEW)

    @property
    def num_of_known_ads(self) -> int:
        """Positives and negatives whose ad has a known age."""
        return self._items(self.profile["age"] <= Age.NEW)

    def _items(self, where: NDArray[np.bool_]) -> int:
        each = self.profile["negatives"] + self.profile["positives"]
        return int((each * self.profile["num_ads"])[where].sum())

    def lorenz(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The Lorenz curve of negatives over ads: the x % of the ads with the fewest have y % of the negatives.

        Returns:
            float64 [K] twice, from 0 to 1: shares of ads and of negatives; straight lines join the points.
        """
        counts = _sums([self.profile], ["negatives"], ["num_ads"])
        ads = np.append(0, np.cumsum(counts["num_ads"]))
        negatives = np.append(0, np.cumsum(counts["num_ads"] * counts["negatives"]))
        return ads / max(ads[-1], 1), negatives / max(negatives[-1], 1)

    def document(self) -> ExposureDocument:
        """Report on the exposure; shares are None where their denominator is 0."""
        profile = self.profile
        num_ads, num_negatives = (int(n) for n in (profile["num_ads"].sum(), self._total("negatives")))
        ads, negatives = self.lorenz()
        points = np.linspace(0.0, 1.0, _LORENZ_POINTS)
        is_uneven = num_negatives > 0
        widths, heights = np.diff(ads), negatives[1:] + negatives[:-1]
        curve = Lorenz(
            ads=[_rounded(x) for x in points],
            negatives=[_rounded(y) for y in np.interp(points, ads, negatives)],
        )
        return ExposureDocument(
            catalogue="ads" if self.is_catalogue_known else "records",
            num_ads=num_ads,
            num_negatives=num_negatives,
            num_positives=int(self._total("positives")),
            share_of_ads_with_negatives=_share(profile["num_ads"][profile["negatives"] > 0].sum(), num_ads),
            gini=_rounded(1 - (widths * heights).sum()) if is_uneven else None,
            top_1_percent_share=_rounded(1 - np.interp(0.99, ads, negatives)) if is_uneven else None,
            lorenz=curve if is_uneven else None,
            slices={name: self._slice(where) for name, where in self._slices().items()},
        )

    def to_json(self) -> str:
        """The document as one line of JSON."""
        return json.dumps(self.document().model_dump(mode="json")) + "\n"

    def _total(self, name: str) -> Any:
        return (self.profile[name] * self.profile["num_ads"]).sum()

    def _slices(self) -> dict[str, NDArray[np.bool_]]:
        """Masks of the slices; head ads together have half of the positives, or more where ads tie."""
        positives, age = self.profile["positives"], self.profile["age"]
        by_count = _sums([self.profile], ["positives"], ["num_ads"])
        of_count = by_count["positives"] * by_count["num_ads"]
        before = of_count.sum() - np.cumsum(of_count)  # positives of ads with more positives
        is_head_count = (2 * before < of_count.sum()) & (by_count["positives"] > 0)
        is_head = np.isin(positives, by_count["positives"][is_head_count])
        slices = {"head": is_head, "tail": ~is_head & (positives > 0), "without_positives": positives == 0}
        if self.is_age_known:
            slices |= {"old": age == Age.OLD, "new": age == Age.NEW}
        if self.is_catalogue_known:
            slices |= {"not_listed": age == Age.NOT_LISTED}
        return slices

    def _slice(self, where: NDArray[np.bool_]) -> Slice:
        part = {name: column[where] for name, column in self.profile.items()}
        num_ads = int(part["num_ads"].sum())
        return Slice(
            num_ads=num_ads,
            num_negatives=int((part["negatives"] * part["num_ads"]).sum()),
            num_positives=int((part["positives"] * part["num_ads"]).sum()),
            share_of_ads_with_negatives=_share(part["num_ads"][part["negatives"] > 0].sum(), num_ads),
        )


def _ages(ads: Ints, attributes: AdAttributes, rules: Rules) -> Ints:
    """`Age` of int64 [N] ads, by the start of the window."""
    age = np.where(attributes.hold(ads), Age.NOT_TOLD, Age.NOT_LISTED).astype(np.int64)
    if CREATED_AT in attributes.values:
        created_us, is_known = attributes.look_up(CREATED_AT, ads)
        is_new = created_us > rules.window.start_us - rules.new_ad_us
        age[is_known] = np.where(is_new, Age.NEW, Age.OLD)[is_known]
    return age


def _sums(parts: Sequence[Columns], keys: Sequence[str], values: Iterable[str]) -> Columns:
    """Values added up by distinct keys, which come in ascending order: int64 columns."""
    columns = concatenate(parts)
    order = np.lexsort([columns[key] for key in reversed(keys)])
    sorted_keys = {key: columns[key][order] for key in keys}
    is_first = np.ones(len(order), np.bool_)
    if len(order):
        is_first[1:] = np.any([column[1:] != column[:-1] for column in sorted_keys.values()], axis=0)
    starts = np.flatnonzero(is_first)
    sums = {
        name: np.add.reduceat(columns[name][order], starts) if len(starts) else columns[name][:0]
        for name in values
    }
    return {**{key: column[starts] for key, column in sorted_keys.items()}, **sums}


def _nothing() -> Columns:
    return {name: np.zeros(0, np.int64) for name in (*_KEYS, "num_ads")}


def _share(part: Any, whole: int) -> float | None:
    return _rounded(part / whole) if whole else None


def _rounded(value: Any) -> float:
    # The last digits of a sum differ between processors.
    return round(float(value), 9) + 0.0  # no −0.0
