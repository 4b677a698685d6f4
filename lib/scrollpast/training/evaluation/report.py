"""Report of one evaluation: metrics with intervals, as a text table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrollpast.documents.evaluation import BaselineVerdict, ExposureWeighted, MeanEstimate
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.evaluation.baselines.past import Past
from scrollpast.training.evaluation.baselines.registry import MeasuredBaselines, measure_baselines
from scrollpast.training.evaluation.baselines.text import baseline_table
from scrollpast.training.evaluation.baselines.verdict import verdict_on
from scrollpast.training.evaluation.bootstrap import estimates
from scrollpast.training.evaluation.exposures import effective_sample_size
from scrollpast.training.evaluation.held_out import HeldOut
from scrollpast.training.evaluation.metric_registry import (
    CUTS,
    JUDGE,
    METRICS,
    WEIGHTED,
    Metric,
    trivial_cuts,
)
from scrollpast.training.evaluation.metrics import recall
from scrollpast.training.evaluation.ranked import Ranked
from scrollpast.training.evaluation.ranking import Embeddings, Scorer, Search, ranks_in, searched_top_rows
from scrollpast.training.evaluation.truth import SECTION, Truth

_SECTIONS = {
    "": "all users, the whole catalogue searched exactly",
    "slices": "recall by slice",
    "by kind": "recall by kind of engagement",
    "quantised": "through the exported index",
    SECTION: "truth of the simulated log",
    "oracle": "oracle, which ranks by the truth",
}


@dataclass(frozen=True, eq=False)
class Report:
    """Metrics with their intervals, and the numbers of single users behind them.

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
    oracle: Mapping[str, MeanEstimate | None] | None = None
    """The oracle's metrics by the same names; None = the evaluation has no truth"""
    exposure_weighted: ExposureWeighted | None = None
    baselines: Mapping[str, Mapping[str, MeanEstimate | None]] = field(default_factory=dict)
    """Metrics of the same users by baseline"""
    verdict: BaselineVerdict | None = None
    """The model compared with the best baseline; None without baselines"""

    def to_json(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """JSON without the single users; ``about`` comes first. A metric that no user has is null."""
        return {
            **about,
            "num_users": len(self.user_id),
            "index": self.index_kind and {"kind": self.index_kind},
            "notes": list(self.notes),
            "metrics": _dumped({name: found for name, found in self.estimates.items() if not _is_true(name)}),
            "exposure_weighted": self.exposure_weighted and self.exposure_weighted.model_dump(),
            "baselines": {name: _dumped(found) for name, found in self.baselines.items()},
            "verdict": self.verdict and self.verdict.model_dump(),
            **({} if self.oracle is None else {"truth": self._truth(self.oracle)}),
        }

    def _truth(self, oracle: Mapping[str, MeanEstimate | None]) -> dict[str, Any]:
        """Metrics against the truth without the name of their section, and all of the oracle's."""
        own = {name: found for name, found in self.estimates.items() if _is_true(name)}
        return {**_dumped(own), "oracle": _dumped(oracle)}

    def table(self) -> str:
        """Aligned text of at most 84 columns."""
        lines: list[str] = []
        shown: str | None = None
        for section, label, found in self._lines():
            if section != shown:
                heading = _SECTIONS.get(section, section) + (
                    f" ({self.index_kind})" if section == "quantised" else ""
                )
                lines += ([""] if lines else []) + [
                    f"{heading:<44}{'value':>8}  {'95 % interval':>15}  {'users':>9}"
                ]
                shown = section
            if found is None:
                lines.append(f"  {label:<42}{'–':>8}")
            else:
                interval = f"{found.low:.4f}–{found.high:.4f}"
                lines.append(f"  {label:<42}{found.mean:>8.4f}  {interval:>15}  {found.num_users:>9,}")
        if self.baselines:
            lines += ["", *baseline_table(self.estimates, self.baselines, self.oracle)]
        if (weighted := self.exposure_weighted) is not None:
            size = f"{weighted.effective_sample_size:,.0f} of {weighted.num_targets:,} targets"
            lines += ["", f"effective sample of exposure weights (clip {weighted.clip:g}): {size}"]
        if self.notes:
            lines += ["", *(f"note: {note}" for note in self.notes)]
        return "\n".join(lines)

    def _lines(self) -> list[tuple[str, str, MeanEstimate | None]]:
        """Section, label and estimate of every metric, section by section."""
        lines = []
        for name, found in self.estimates.items():
            section, _, label = name.rpartition("/")
            lines.append((section, label, found))
        for name, found in (self.oracle or {}).items():
            section, _, label = name.rpartition("/")
            if section in ("", SECTION):
                lines.append(("oracle", label, found))
        order = list(dict.fromkeys([*_SECTIONS, *(section for section, _, _ in lines)]))
        return sorted(lines, key=lambda line: order.index(line[0]))


def evaluate(
    retriever: Embeddings,
    held_out: HeldOut,
    vocabulary: Vocabulary,
    *,
    exported: Search | None = None,
    index_kind: str | None = None,
    metrics: Iterable[Metric] = METRICS,
    truth: Truth | None = None,
    past: Past | None = None,
    seed: int = 0,
    num_resamples: int = 1000,
) -> Report:
    """Measure embeddings on held-out users.

    Args:
        retriever: embeddings of the users of ``held_out`` and of all ads.
        exported: search through the exported index of the same ads, measured beside the exact search.
        index_kind: kind of this index.
        truth: truth of the simulated log; it adds metrics, and the metrics of the oracle.
        past: history days, on which the baselines are fitted; None = without baselines.
    """
    metrics = (*metrics, *(truth.metrics if truth else ()))
    ranked = rank(retriever, held_out, vocabulary, metrics)
    values = _values(ranked, metrics) | _by_kind(ranked)
    if exported is not None:
        values |= _through_index(exported, retriever, ranked)
    baselines = MeasuredBaselines({}, {})
    if past is not None:
        baselines = measure_baselines(past, held_out, vocabulary, metrics)
    means = estimates(values, seed=seed, num_resamples=num_resamples)
    return Report(
        means,
        values,
        held_out.user_id,
        index_kind,
        [
            *trivial_cuts(values, vocabulary.num_rows - 1),
            *_nothing_learned(held_out, vocabulary),
            *baselines.notes,
        ],
        oracle=None if truth is None else _oracle(truth, held_out, vocabulary, metrics, seed, num_resamples),
        exposure_weighted=_exposure_weighted(ranked, means),
        baselines={
            name: estimates(found, seed=seed, num_resamples=num_resamples)
            for name, found in baselines.per_user.items()
        },
        verdict=_verdict(values, baselines, seed, num_resamples),
    )


def measure(
    retriever: Scorer, held_out: HeldOut, vocabulary: Vocabulary, metrics: Iterable[Metric] = METRICS
) -> dict[str, NDArray[np.float64]]:
    """Metrics of the single users: float64 [U] by name, NaN where a user lacks the metric."""
    return _values(rank(retriever, held_out, vocabulary, metrics), metrics)


def rank(
    retriever: Scorer, held_out: HeldOut, vocabulary: Vocabulary, metrics: Iterable[Metric] = METRICS
) -> Ranked:
    """Rankings of the length that the metrics read."""
    return Ranked(retriever, held_out, vocabulary, max(metric.cut for metric in metrics))


def _oracle(
    truth: Truth,
    held_out: HeldOut,
    vocabulary: Vocabulary,
    metrics: Iterable[Metric],
    seed: int,
    num_resamples: int,
) -> dict[str, MeanEstimate | None]:
    values = measure(truth.oracle, held_out, vocabulary, metrics)
    return estimates(values, seed=seed, num_resamples=num_resamples)


def _exposure_weighted(ranked: Ranked, means: Mapping[str, MeanEstimate | None]) -> ExposureWeighted:
    weights = ranked.target_weights
    return ExposureWeighted(
        clip=ranked.held_out.exposure_clip,
        num_targets=len(weights),
        effective_sample_size=effective_sample_size(weights),
        metrics={name: found for name, found in means.items() if name.startswith(WEIGHTED)},
    )


def _verdict(
    values: Mapping[str, NDArray[np.float64]], baselines: MeasuredBaselines, seed: int, num_resamples: int
) -> BaselineVerdict | None:
    if JUDGE not in values:
        return None
    of_baselines = {name: found[JUDGE] for name, found in baselines.per_user.items()}
    return verdict_on(values[JUDGE], of_baselines, JUDGE, seed=seed, num_resamples=num_resamples)


def _is_true(name: str) -> bool:
    return name.startswith(f"{SECTION}/")


def _dumped(found: Mapping[str, MeanEstimate | None]) -> dict[str, dict[str, Any] | None]:
    """JSON of estimates by their names, the truth's without that of their section."""
    return {
        name.removeprefix(f"{SECTION}/"): None if estimate is None else estimate.model_dump()
        for name, estimate in found.items()
    }


def _values(ranked: Ranked, metrics: Iterable[Metric]) -> dict[str, NDArray[np.float64]]:
    return {metric.name: metric.of_users(ranked) for metric in metrics}


def _by_kind(ranked: Ranked) -> dict[str, NDArray[np.float64]]:
    """Recall of the targets of each kind of engagement; a target of several kinds counts in each."""
    held_out, depth = ranked.held_out, min(max(CUTS), ranked.depth)
    return {
        f"by kind/recall@{depth}, {kind}": recall(
            ranked.target_ranks, held_out.targets, depth, counts=has_kind
        )
        for kind, has_kind in held_out.target_kinds.items()
    }


def _through_index(exported: Search, retriever: Embeddings, ranked: Ranked) -> dict[str, NDArray[np.float64]]:
    """Recall of the lists that an index finds, and their overlap with the exact lists."""
    held_out, depth = ranked.held_out, max(CUTS)
    found_UK = searched_top_rows(exported, retriever.user_UD, held_out.known, depth)
    ranks = ranks_in(found_UK, held_out.targets)
    values = {f"quantised/recall@{k}": recall(ranks, held_out.targets, k) for k in CUTS}
    overlap = f"quantised/share of the exact top {depth}"
    return {**values, overlap: _overlap(found_UK, ranked.top_UK[:, :depth])}


def _nothing_learned(held_out: HeldOut, vocabulary: Vocabulary) -> list[str]:
    """Notes where every user, or every target ad, is new: at most two."""
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
