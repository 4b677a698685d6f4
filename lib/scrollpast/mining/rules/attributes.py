"""Attributes of ads that the rules read: guard keys and the stratum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrollpast.mining.spark.packed_columns import Columns


@dataclass(frozen=True)
class AdAttributes:
    """Look-up by ad: ``ads`` int64 [A], sorted, distinct; ``values`` int64 [A] by attribute, −1 unknown."""

    ads: NDArray[np.int64]
    values: Mapping[str, NDArray[np.int64]]

    @classmethod
    def empty(cls) -> AdAttributes:
        return cls(np.zeros(0, np.int64), {})

    @classmethod
    def of(cls, parts: Sequence[Columns], names: Sequence[str]) -> AdAttributes:
        """Build from columns ``ad`` and the named attributes, in any order and any number of parts.

        An ad with several rows keeps the smallest row by its attributes, so that the order of rows does not matter.
        """
        columns = {name: np.concatenate([part[name] for part in parts]) for name in ("ad", *names)}
        order = np.lexsort([columns[name] for name in reversed(("ad", *names))])
        ads, first = np.unique(columns["ad"][order], return_index=True)
        return cls(ads, {name: columns[name][order][first] for name in names})

    def hold(self, ads: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Membership of int64 [N] ads: bool [N]."""
        if not len(self.ads):
            return np.zeros(len(ads), np.bool_)
        at = np.minimum(np.searchsorted(self.ads, ads), len(self.ads) - 1)
        return np.asarray(self.ads[at] == ads)

    def look_up(self, name: str, ads: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Value of an attribute for int64 [N] ads, and the mask of known values: int64 [N] (−1 unknown), bool [N]."""
        if not len(self.ads):
            return np.full(len(ads), -1, np.int64), np.zeros(len(ads), np.bool_)
        at = np.minimum(np.searchsorted(self.ads, ads), len(self.ads) - 1)
        value = np.where(self.ads[at] == ads, self.values[name][at], -1)
        return value, value != -1
