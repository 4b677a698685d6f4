"""Registry of the metrics of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrollpast.errors import UserError
from scrollpast.registry import Registry
from scrollpast.training.evaluation.metrics import (
    Values,
    auc,
    ndcg,
    recall,
    share_in_top,
    weighted_ndcg,
    weighted_recall,
)
from scrollpast.training.evaluation.ranked import Ranked

CUTS = (10, 50, 100)
"""The k of recall@k."""
JUDGE = "exposure-weighted recall@100"
"""Metric of the verdict on a model and the best baseline."""
WEIGHTED = "exposure-weighted "
"""First words of the metrics whose targets are weighted by exposure."""


@dataclass(frozen=True)
class Metric:
    """One number of every user."""

    name: str
    """Name in tables and files, such as ``recall@100``; a slash ends the name of a section of the table"""
    of_users: Callable[[Ranked], Values]
    """Rankings and scores → float64 [U], NaN where a user has no such number"""
    cut: int = 0
    """Ads of a ranking that it reads; 0 = none"""
    is_lower_better: bool = False
    is_trivial: bool = False
    """It is 1, or the same for every retriever, where the catalogue has at most ``cut`` ads"""


def standard_metrics(cuts: Sequence[int] = CUTS) -> Iterator[Metric]:
    """Metrics of the library.

    Args:
        cuts: the k of recall@k, ascending.
    """
    for k in cuts:
        yield Metric(f"recall@{k}", _recall(k), k, is_trivial=True)
    deepest = max(cuts)
    for k in cuts:
        yield Metric(f"{WEIGHTED}recall@{k}", _weighted_recall(k), k, is_trivial=True)
    yield Metric(
        f"{WEIGHTED}ndcg@{deepest}",
        lambda found: weighted_ndcg(
            found.target_ranks, found.held_out.targets, deepest, found.target_weights
        ),
        deepest,
    )
    yield Metric(
        f"ndcg@{deepest}", lambda found: ndcg(found.target_ranks, found.held_out.targets, deepest), deepest
    )
    yield Metric(
        "auc",
        lambda found: auc(
            found.target_scores, found.held_out.targets, found.served_scores, found.held_out.served
        ),
    )
    for k in cuts:
        yield Metric(f"served share in top {k}", _served_share(k), k, is_lower_better=True, is_trivial=True)
    for name in ("head ads", "tail ads", "new ads"):
        label = f"slices/recall@{deepest}, {name}"
        yield Metric(label, _recall_of_ads(deepest, name), deepest, is_trivial=True)
    for name, are_new in (("new users", True), ("known users", False)):
        label = f"slices/recall@{deepest}, {name}"
        yield Metric(label, _recall_of_users(deepest, are_new), deepest, is_trivial=True)


def _recall(k: int) -> Callable[[Ranked], Values]:
    return lambda found: recall(found.target_ranks, found.held_out.targets, k)


def _weighted_recall(k: int) -> Callable[[Ranked], Values]:
    return lambda found: weighted_recall(found.target_ranks, found.held_out.targets, k, found.target_weights)


def _served_share(k: int) -> Callable[[Ranked], Values]:
    return lambda found: share_in_top(found.served_ranks, found.held_out.served, k)


def _recall_of_ads(k: int, name: str) -> Callable[[Ranked], Values]:
    return lambda found: recall(
        found.target_ranks, found.held_out.targets, k, counts=found.target_slices[name]
    )


def _recall_of_users(k: int, are_new: bool) -> Callable[[Ranked], Values]:
    def of_users(found: Ranked) -> Values:
        is_meant: NDArray[np.bool_] = found.held_out.is_new == are_new
        return np.where(is_meant, recall(found.target_ranks, found.held_out.targets, k), np.nan)

    return of_users


METRICS = Registry("metric", standard_metrics())
"""Values of ``training.evaluation.metric`` and ``comparison.metrics``."""


def maximised(name: str, option: str) -> Metric:
    """The metric of this name, whose larger values are better.

    Args:
        option: option that has the name, for the message.

    Raises:
        UserError: no metric has the name, or its smaller values are better.
    """
    if METRICS.find(name, option).is_lower_better:
        raise UserError(
            option,
            expected="a metric whose larger values are better",
            found=f"{name!r}, whose smaller values are better",
            remedy=f"name one of {', '.join(metric.name for metric in METRICS if not metric.is_lower_better)}",
        )
    return METRICS.find(name, option)


def trivial_cuts(names: Iterable[str], num_ads: int) -> list[str]:
    """Notes on the k whose lists hold the whole catalogue: at most one, empty where every k is smaller.

    Args:
        names: of registered metrics.
        num_ads: ads of the catalogue.
    """
    named = set(names)
    cuts = {metric.cut for metric in METRICS if metric.is_trivial and metric.name in named}
    trivial = [str(k) for k in sorted(cuts) if k >= num_ads]
    if not trivial:
        return []
    return [
        (
            f"recall@K and top K are trivial at K = {', '.join(trivial)}: "
            f"the catalogue has {num_ads:,} {'ad' if num_ads == 1 else 'ads'}"
        )
    ]
