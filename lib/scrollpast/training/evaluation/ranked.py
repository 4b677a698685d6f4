"""Rankings and scores of ads by one retriever for every held-out user: the input of metrics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.evaluation.held_out import HeldOut, Integers
from scrollpast.training.evaluation.ranking import Scorer, exact_top_rows, ranks_in


@dataclass(frozen=True, eq=False)
class Ranked:
    """Rankings and scores of U users, computed on first access."""

    scorer: Scorer
    held_out: HeldOut
    vocabulary: Vocabulary
    depth: int
    """K: length of a ranking"""

    @cached_property
    def top_UK(self) -> Integers:  # noqa: N802 - its shape
        """int64 [U, K]: rows, best first, without known ads; −1 where there are fewer."""
        return exact_top_rows(self.scorer, self.held_out.known, self.depth)

    @cached_property
    def target_ranks(self) -> Integers:
        """int64 [Σ of targets]: 0 = first, −1 = not among the K."""
        return ranks_in(self.top_UK, self.held_out.targets)

    @cached_property
    def served_ranks(self) -> Integers:
        """int64 [Σ of served ads]: 0 = first, −1 = not among the K."""
        return ranks_in(self.top_UK, self.held_out.served)

    @cached_property
    def target_scores(self) -> NDArray[np.float32]:
        """float32 [Σ of targets]"""
        return self.scorer.pair_scores(self.held_out.targets)

    @cached_property
    def served_scores(self) -> NDArray[np.float32]:
        """float32 [Σ of served ads]"""
        return self.scorer.pair_scores(self.held_out.served)

    @cached_property
    def target_weights(self) -> NDArray[np.float64]:
        """float64 [Σ of targets]: clipped inverse exposures; all are 1 where exposures are not known."""
        return self.held_out.weights

    @cached_property
    def target_slices(self) -> dict[str, NDArray[np.bool_]]:
        """Bool [Σ of targets] by slice: head ads together have half of all positives counted, tail ads the rest."""
        counts, rows = self.vocabulary.counts, self.held_out.targets.rows
        order = np.argsort(-counts, kind="stable")
        before = np.cumsum(counts[order]) - counts[order]
        is_head = np.zeros(len(counts), bool)
        is_head[order] = (before * 2 < counts.sum()) & (counts[order] > 0)
        is_new = counts == 0
        return {
            "head ads": is_head[rows],
            "tail ads": ~is_head[rows] & ~is_new[rows],
            "new ads": is_new[rows],
        }
