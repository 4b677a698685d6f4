"""Strategies of the cap by user: the order in which candidates of a user above the cap are kept.

Shapes: C candidates of users above the cap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scrollpast.mining.rules.attributes import AdAttributes
from scrollpast.mining.rules.bucket import Ints
from scrollpast.mining.rules.groups import rank_in_group
from scrollpast.mining.spark.packed_columns import Columns
from scrollpast.registry import Registry

if TYPE_CHECKING:
    from scrollpast.mining.rules.rules import Rules


@dataclass(frozen=True)
class Crowded:
    """Candidates of users who have more than the cap."""

    rows: Columns
    """The bucket's columns, [C]"""
    user: Ints
    """int64 [C]: number of the user in the bucket"""
    weight: NDArray[np.float32]
    """float32 [C]: certainty of the negative"""
    chance: Ints
    """int64 [C]: seeded hash of user, ad and request"""
    attributes: AdAttributes
    """Attributes of the ads"""
    rules: Rules
    """Options of the run"""


@dataclass(frozen=True)
class Strategy:
    """One strategy of the cap by user. Tasks receive the object, so that a registration in the driver is enough."""

    name: str
    """Value of ``mining.strategy``"""
    sort_keys: Callable[[Crowded], tuple[NDArray[np.generic], ...]]
    """Keys [C], the most important first; candidates with the smallest keys are kept."""
    reads_stratum: bool = False
    """True if the strategy reads ``mining.stratify_by`` from the table of ads."""


def _uniform(crowded: Crowded) -> tuple[NDArray[np.generic], ...]:
    """Uniform draw of candidates."""
    return (crowded.chance,)


def _recent(crowded: Crowded) -> tuple[NDArray[np.generic], ...]:
    """Latest candidates first."""
    return (-crowded.rows["served_us"], crowded.chance)


def _hardest(crowded: Crowded) -> tuple[NDArray[np.generic], ...]:
    """Most certain candidates first; at equal certainty the highest score of the ranker first."""
    score = crowded.rows.get("score", np.zeros(len(crowded.user)))
    return (-crowded.weight, -score, crowded.chance)


def _stratified(crowded: Crowded) -> tuple[NDArray[np.generic], ...]:
    """Round-robin over the strata (``mining.stratify_by``)."""
    rows, rules = crowded.rows, crowded.rules
    stratum = crowded.attributes.look_up(str(rules.stratify_by), rows["ad"])[0]
    strata, code = np.unique(stratum, return_inverse=True)
    turn = rank_in_group(crowded.user * len(strata) + code, crowded.chance, rows["ad"])
    return (turn, crowded.chance)


STRATEGIES = Registry(
    "strategy",
    (
        Strategy("uniform", _uniform),
        Strategy("recent", _recent),
        Strategy("hardest", _hardest),
        Strategy("stratified", _stratified, reads_stratum=True),
    ),
)
"""Values of ``mining.strategy``."""
