"""Counts of a log by group of users and position for each surface: the input of the estimators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scrollpast.mining.examination.dwell import NUM_BINS

Floats = NDArray[np.float64]
UNITS = 1 << 20
"""Unit in which weighted counts are added up, so that their sums do not depend on the order of addition."""


@dataclass(frozen=True)
class SurfaceCounts:
    """Counts of one surface, float64; G groups of users (a user is in one), K positions, X strata of scores.

    The counts of two logs with disjoint users are concatenated along G.
    """

    impressions: Floats
    """[G, K]"""
    clicks: Floats
    """[G, K]"""
    random_impressions: Floats
    """[G, K]: in slots that were filled at random."""
    random_clicks: Floats
    """[G, K]"""
    scored_impressions: Floats
    """[G, X, K]: in ranked slots, by quantile of the ranker's score."""
    scored_clicks: Floats
    """[G, X, K]"""
    harvested: Floats
    """[G, K, K]: weighted clicks at the first position of users who saw the same ad at the second position too."""
    harvested_weight: Floats
    """[G, K, K], symmetric: the exposure of these users, the same at both positions."""
    unclicked_dwell: Floats
    """[G, bins]: impressions of known dwell without a click, by their log dwell."""

    def of_groups(self, groups: slice) -> SurfaceCounts:
        """Counts of a slice of the groups."""
        return SurfaceCounts(**{name: values[groups] for name, values in vars(self).items()})


def lay_out(
    cells: pa.Table, pairs: pa.Table, dwell: pa.Table, num_groups: int, num_strata: int
) -> dict[str, SurfaceCounts]:
    """Arrange tables of non-zero cells as the counts of every surface.

    Args:
        cells: surface, user_group, position, is_random, stratum (-1: no score), impressions, clicks.
        pairs: surface, user_group, position, other, clicks and weight in `UNITS`.
        dwell: surface, user_group, bin (-1: not known), impressions, clicks.
    """
    found: dict[str, SurfaceCounts] = {}
    for surface in sorted(set(cells["surface"].to_pylist())):
        own, own_pairs, own_dwell = (_columns_on(surface, table) for table in (cells, pairs, dwell))
        num_positions = int(own["position"].max()) + 1
        where = own["user_group"], own["position"]
        shape = num_groups, num_positions
        is_random = own["is_random"].astype(bool)
        has_score = ~is_random & (own["stratum"] >= 0)
        in_stratum = (
            (own["user_group"], own["stratum"], own["position"]),
            (num_groups, num_strata, num_positions),
        )
        of_pair = (
            (own_pairs["user_group"], own_pairs["position"], own_pairs["other"]),
            (num_groups, num_positions, num_positions),
        )
        found[surface] = SurfaceCounts(
            impressions=_sums(where, shape, own["impressions"]),
            clicks=_sums(where, shape, own["clicks"]),
            random_impressions=_sums(where, shape, own["impressions"] * is_random),
            random_clicks=_sums(where, shape, own["clicks"] * is_random),
            scored_impressions=_sums(*in_stratum, own["impressions"] * has_score),
            scored_clicks=_sums(*in_stratum, own["clicks"] * has_score),
            harvested=_sums(*of_pair, own_pairs["clicks"] / UNITS),
            harvested_weight=_sums(*of_pair, own_pairs["weight"] / UNITS),
            unclicked_dwell=_sums(
                (own_dwell["user_group"], own_dwell["bin"]),
                (num_groups, NUM_BINS),
                own_dwell["impressions"] - own_dwell["clicks"],
            ),
        )
    return found


def _columns_on(surface: str, table: pa.Table) -> Mapping[str, NDArray[np.float64]]:
    rows = table.filter(pc.equal(table["surface"], surface)).drop(["surface"])
    return {name: rows[name].to_numpy().astype(np.float64) for name in rows.column_names}


def _sums(where: tuple[Floats, ...], shape: tuple[int, ...], values: Floats) -> Floats:
    """Values added up at their places; a place below 0 has none."""
    sums = np.zeros(shape)
    is_placed = np.logical_and.reduce([axis >= 0 for axis in where])
    np.add.at(sums, tuple(axis[is_placed].astype(np.int64) for axis in where), values[is_placed])
    return sums
