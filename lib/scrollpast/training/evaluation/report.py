"""One evaluation: what is measured, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.evaluation import metrics
from scrollpast.training.evaluation.bootstrap import MeanEstimate, estimates
from scrollpast.training.evaluation.held_out import HeldOut
from scrollpast.training.evaluation.ranking import (
    Search,
    exact_top_rows,
    pair_scores,
    ranks_in,
    searched_top_rows,
)

CUTS = (10, 50, 100)
_SECTIONS = {
    "": "all users, the whole catalogue searched exactly",
    "slices": "recall by slice",
    "quantised": "through the exported index",
}


@dataclass(frozen=True, eq=False)
class Report:
    """Numbers with their intervals, and what they were computed from.

    Names are ``recall@100``, ``slices/recall@100, tail ads``, ``quantised/recall@100`` and the like.
    ``quantised/`` stands for the exported index of whatever kind.
    """

    estimates: dict[str, MeanEstimate | None]
    per_user: dict[str, NDArray[np.float64]]
    """float64 [U] by the same names, in the order of ``user_id``: two reports of the same users can be compared"""
    user_id: NDArray[np.int64]
    index_kind: str | None = None
    """Kind of the exported index, of which ``quantised/…`` is measured; None = no index was measured"""
    notes: Sequence[str] = ()
    """Facts that a reader of the numbers needs, such as cuts that the catalogue makes trivial"""

    def to_json(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Everything but the single users; ``about`` comes first. A number that no user has is null."""
        return {
            **about,
            "num_users": len(self.user_id),
            "index": self.index_kind and {"kind": self.index_kind},
            "notes": list(self.notes),
            "metrics": {name: found and asdict(found) for name, found in self.estimates.items()},
        }

    def table(self) -> str:
        """Aligned text of at most 84 columns."""
        lines: list[str] = []
        shown: str | None = None
        for name, found in self.estimates.items():
            section, _, label = name.rpartition("/")
            if section != shown:
                heading = _SECTIONS[section] + (f" ({self.index_kind})" if section == "quantised" else "")
                lines += ([""] if lines else []) + [
                    f"{heading:<44}{'value':>8}  {'95 % interval':>15}  {'users':>9}"
                ]
                shown = section
            if found is None:
                lines.append(f"  {label:<42}{'–':>8}")
            else:
                interval = f"{found.low:.4f}–{found.high:.4f}"
                lines.append(f"  {label:<42}{found.mean:>8.4f}  {interval:>15}  {found.num_users:>9,}")
        if self.notes:
            lines += ["", *(f"note: {note}" for note in self.notes)]
        return "\n".join(lines)


def evaluate(
    user_UD: torch.Tensor,
    ad_RD: torch.Tensor,
    held_out: HeldOut,
    vocabulary: Vocabulary,
    *,
    exported: Search | None = None,
    index_kind: str | None = None,
    cuts: Sequence[int] = CUTS,
    seed: int = 0,
    num_resamples: int = 1000,
) -> Report:
    """Measure embeddings on held-out users.

    Args:
        user_UD: float32 [U, D], the users of ``held_out``.
        ad_RD: float32 [num_rows, D].
        exported: a search through the exported index of the same ads, measured beside the exact one.
        index_kind: the kind of this index.
        cuts: the k of recall@k, ascending.
    """
    values = measure(user_UD, ad_RD, held_out, vocabulary, exported=exported, cuts=cuts)
    return Report(
        estimates(values, seed=seed, num_resamples=num_resamples),
        values,
        held_out.user_id,
        index_kind,
        [*metrics.trivial_cuts(values, vocabulary.num_rows - 1), *_nothing_learned(held_out, vocabulary)],
    )


def measure(
    user_UD: torch.Tensor,
    ad_RD: torch.Tensor,
    held_out: HeldOut,
    vocabulary: Vocabulary,
    *,
    exported: Search | None = None,
    cuts: Sequence[int] = CUTS,
) -> dict[str, NDArray[np.float64]]:
    """The numbers of the single users, float64 [U] by name; see `evaluate`."""
    targets, served, deepest = held_out.targets, held_out.served, max(cuts)
    top_UK = exact_top_rows(user_UD, ad_RD, held_out.known, deepest)
    ranks = ranks_in(top_UK, targets)
    values = {f"recall@{k}": metrics.recall(ranks, targets, k) for k in cuts}
    values[f"ndcg@{deepest}"] = metrics.ndcg(ranks, targets, deepest)
    values["auc"] = metrics.auc(
        pair_scores(user_UD, ad_RD, targets), targets, pair_scores(user_UD, ad_RD, served), served
    )
    served_ranks = ranks_in(top_UK, served)
    values |= {f"served share in top {k}": metrics.share_in_top(served_ranks, served, k) for k in cuts}
    for name, is_asked in _ad_slices(targets.rows, vocabulary).items():
        values[f"slices/recall@{deepest}, {name}"] = metrics.recall(ranks, targets, deepest, counts=is_asked)
    of_all = values[f"recall@{deepest}"]
    for name, is_meant in (("new users", held_out.is_new), ("known users", ~held_out.is_new)):
        values[f"slices/recall@{deepest}, {name}"] = np.where(is_meant, of_all, np.nan)
    if exported is not None:
        found_UK = searched_top_rows(exported, user_UD, held_out.known, deepest)
        found_ranks = ranks_in(found_UK, targets)
        values |= {f"quantised/recall@{k}": metrics.recall(found_ranks, targets, k) for k in cuts}
        values[f"quantised/share of the exact top {deepest}"] = _overlap(found_UK, top_UK)
    return values


def _ad_slices(rows: NDArray[np.int64], vocabulary: Vocabulary) -> dict[str, NDArray[np.bool_]]:
    """Masks of targets by slice: head ads together have half of all positives counted, tail ads the rest."""
    counts = vocabulary.counts
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


def _nothing_learned(held_out: HeldOut, vocabulary: Vocabulary) -> list[str]:
    """Notes where every user, or every ad that is asked for, is new: at most two."""
    whole = {
        "users": bool(held_out.is_new.all()),
        "ads asked for": bool((vocabulary.counts[held_out.targets.rows] == 0).all()),
    }
    return [
        f"all {name} are new, none has a positive in the days trained on: train on the days just before, and see "
        "that ids are the same in both"
        for name, are_new in whole.items()
        if are_new
    ]


def _overlap(found_UK: NDArray[np.int64], exact_UK: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of the exact list that was found."""
    both = np.sort(np.concatenate([np.sort(found_UK, axis=1), np.sort(exact_UK, axis=1)], axis=1), axis=1)
    shared = ((both[:, 1:] == both[:, :-1]) & (both[:, 1:] > 0)).sum(1)
    return shared / np.maximum((exact_UK > 0).sum(1), 1)
