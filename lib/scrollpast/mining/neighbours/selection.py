"""Selection of neighbours from candidates: the rules in their order, for U users with up to C candidates each."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scrollpast.hashing import seeded_hash
from scrollpast.mining.neighbours.outcomes import CandidateOutcome

ABSENT = -1
"""Value in place of an outcome: the index has no ad for this rank."""


def margin_bounds(
    scores: NDArray[np.float32],
    offsets: NDArray[np.int64],
    relative_margin: float,
    margin_from: Literal["lowest", "mean", "highest"],
) -> NDArray[np.float64]:
    """The highest score of a user's neighbours, float64 [U]; −inf for a user without positives.

    The bound is s − margin · |s| for the summary score s of the user's positives (NV-Retriever, arXiv 2407.15831: "TopK
    with percentage of the positive's score"). The bound is below s for negative cosines too. A user whose s is about 0
    or less has neighbours only where ads of the rank range score lower. Such scores are rare: the towers do not predict
    this user's positives.

    Args:
        scores: float32, the scores of all positives, user by user.
        offsets: int64 [U + 1]: start of each user's scores.
    """
    lengths = np.diff(offsets)
    has_positives = lengths > 0
    starts, values = offsets[:-1][has_positives], scores.astype(np.float64)
    if margin_from == "mean":
        chosen = np.add.reduceat(values, starts) / lengths[has_positives]
    else:
        chosen = (np.minimum if margin_from == "lowest" else np.maximum).reduceat(values, starts)
    bounds = np.full(len(lengths), -np.inf)
    bounds[has_positives] = chosen - relative_margin * np.abs(chosen)
    return bounds


def select(
    is_candidate: NDArray[np.bool_],
    is_engaged: NDArray[np.bool_],
    scores: NDArray[np.float32],
    bounds: NDArray[np.float64],
    chances: NDArray[np.int64],
    most: int,
) -> NDArray[np.int8]:
    """Outcome of every candidate, int8 [U, C]; `ABSENT` where there is no candidate.

    Args:
        is_candidate, is_engaged, scores, chances: [U, C].
        bounds: [U], of `margin_bounds`.
        chances: sort keys of the draw; the smallest is drawn first.
        most: candidates kept for a user.
    """
    outcome = np.full(is_candidate.shape, CandidateOutcome.NOT_DRAWN, np.int8)
    outcome[scores > bounds[:, None]] = CandidateOutcome.ABOVE_MARGIN
    outcome[is_engaged] = CandidateOutcome.ENGAGED
    outcome[~is_candidate] = ABSENT
    qualifies = outcome == CandidateOutcome.NOT_DRAWN
    drawn = np.lexsort((chances, ~qualifies), axis=1)[:, :most]
    is_kept = np.zeros(qualifies.shape, np.bool_)
    np.put_along_axis(is_kept, drawn, True, axis=1)
    outcome[is_kept & qualifies] = CandidateOutcome.KEPT
    return outcome


def draw_chances(seed: int, users: NDArray[np.int64], ads: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sort key of the draw: a seeded hash of user and ad, int64 [P], independent of the other pairs."""
    return seeded_hash(seed, users, ads)


def user_chances(seed: int, users: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sort key of a sample: a seeded hash of the user, int64 [U]."""
    return seeded_hash(seed, users)
