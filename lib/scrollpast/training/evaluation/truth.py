"""Metrics against the truth of a simulated log: the probability that a user wants an ad.

A simulated log has the folders ``truth_users`` (user_id, vector) and ``truth_ads`` (ad_id, vector, log_odds,
created_at); `lib/scrollpast/simulation/README.md` describes them. For any pair,

    P(want) = 1 / (1 + exp(−(vector of the user · vector of the ad + log_odds of the ad))).

The candidates of a ranking are the ads of the vocabulary that exist when the evaluated days begin, without the ads
that the user knows. The oracle ranks them by P(want), which no retriever can exceed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import torch
from numpy.typing import NDArray

from scrollpast.errors import UserError
from scrollpast.job_commands import job_command
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import read_manifest
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.evaluation.held_out import HeldOut, Integers, Ragged
from scrollpast.training.evaluation.metric_registry import Metric
from scrollpast.training.evaluation.metrics import Values
from scrollpast.training.evaluation.ranked import Ranked
from scrollpast.training.evaluation.ranking import Embeddings, Scorer, exact_top_rows, ranks_in

SECTION = "truth"
"""Section of the metrics in a report."""
TRUTH_CUTS = (10, 100)
"""The k of P(want)@k."""
_DEPTH = max(TRUTH_CUTS)


@dataclass(frozen=True, eq=False)
class Truth:
    """True probabilities of the users of an evaluation and of all rows of a vocabulary."""

    oracle: Embeddings
    """Scorer by the log-odds of P(want)"""
    is_alive_R: NDArray[np.bool_]
    """bool [R]: rows of ads that exist when the evaluated days begin; False for row 0"""
    known: Ragged
    """Rows of each user that are not candidates"""

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of any retriever's `Ranked` of the same users; their names begin with ``truth/``."""
        tops: WeakKeyDictionary[Ranked, Integers] = WeakKeyDictionary()

        def top_of(found: Ranked) -> Integers:
            if found not in tops:
                tops[found] = self.top_rows(found.scorer)
            return tops[found]

        def wanted(k: int) -> Callable[[Ranked], Values]:
            return lambda found: self.mean_probability(top_of(found)[:, :k])

        return (
            *(Metric(f"{SECTION}/P(want)@{k}", wanted(k), k) for k in TRUTH_CUTS),
            Metric(
                f"{SECTION}/share of the best {_DEPTH} found",
                lambda found: self.share_of_the_best(top_of(found)),
                _DEPTH,
                is_trivial=True,
            ),
        )

    def top_rows(self, scorer: Scorer) -> Integers:
        """Candidates with the highest scores: int64 [U, 100], best first; −1 where there are fewer."""
        return exact_top_rows(_OfCandidates(scorer, self.is_alive_R), self.known, _DEPTH)

    @cached_property
    def best_UK(self) -> Integers:  # noqa: N802 - its shape
        """int64 [U, 100]: candidates with the highest P(want)."""
        return self.top_rows(self.oracle)

    def probabilities(self, pairs: Ragged) -> Values:
        """P(want) of each user's rows: float64 [Σ]."""
        return np.asarray(1.0 / (1.0 + np.exp(-self.oracle.pair_scores(pairs).astype(np.float64))))

    def mean_probability(self, top_UK: Integers) -> Values:
        """Mean P(want) of each user's list: float64 [U], NaN for an empty one."""
        lists = _ragged(top_UK)
        sums = np.bincount(lists.users, weights=self.probabilities(lists), minlength=len(top_UK))
        return np.divide(sums, lists.lengths, out=np.full(len(top_UK), np.nan), where=lists.lengths > 0)

    def share_of_the_best(self, top_UK: Integers) -> Values:
        """Share of the truly best candidates, as many as the list is long, in the list: float64 [U]."""
        best = _ragged(self.best_UK)
        is_found = ranks_in(top_UK, best) >= 0
        hits = np.bincount(best.users[is_found], minlength=len(top_UK))
        return np.divide(hits, best.lengths, out=np.full(len(top_UK), np.nan), where=best.lengths > 0)


def read_truth(logs: str, held_out: HeldOut, vocabulary: Vocabulary, days: Sequence[str]) -> Truth:
    """Read the truth of a simulated log for the users of an evaluation.

    Args:
        logs: folder of the log.
        days: evaluated days; the ads that exist when the first of them begins are the candidates.

    Raises:
        UserError: the folder has no truth, or the truth lacks a user of the days or an ad of the vocabulary.
    """
    users = _read(logs, "truth_users", ["user_id", "vector"])
    ads = _read(logs, "truth_ads", ["ad_id", "vector", "log_odds", "created_at"])
    user_at = _places(users["user_id"].to_numpy(), held_out.user_id, "user_id", logs)
    ad_at = _places(ads["ad_id"].to_numpy(), vocabulary.ad_ids[1:], "ad_id", logs)
    ones = np.ones((len(held_out), 1), np.float32)
    user_UD = np.concatenate([_vectors(users)[user_at], ones], axis=1)
    log_odds = ads["log_odds"].to_numpy()[:, None]
    ad_RD = np.concatenate([_vectors(ads), log_odds], axis=1)[ad_at]
    ad_RD = np.concatenate([np.zeros((1, ad_RD.shape[1]), np.float32), ad_RD])
    starts = min(datetime.fromisoformat(read_manifest(day).window_start) for day in days)
    created_us = ads["created_at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()[ad_at]
    is_alive = np.concatenate([[False], created_us <= starts.timestamp() * 1e6])
    return Truth(Embeddings(torch.from_numpy(user_UD), torch.from_numpy(ad_RD)), is_alive, held_out.known)


@dataclass(frozen=True, eq=False)
class _OfCandidates:
    """Scorer without the rows that are not candidates: their score is −∞."""

    scorer: Scorer
    is_candidate_R: NDArray[np.bool_]

    @property
    def num_users(self) -> int:
        return self.scorer.num_users

    @property
    def num_rows(self) -> int:
        return self.scorer.num_rows

    def scores(self, start: int, stop: int) -> torch.Tensor:
        scores = self.scorer.scores(start, stop)
        scores[:, torch.from_numpy(~self.is_candidate_R)] = -torch.inf
        return scores

    def pair_scores(self, pairs: Ragged) -> NDArray[np.float32]:
        return self.scorer.pair_scores(pairs)


def _ragged(top_UK: Integers) -> Ragged:
    is_there = top_UK > 0
    return Ragged(top_UK[is_there], np.concatenate([[0], np.cumsum(is_there.sum(1))]))


def _vectors(table: pa.Table) -> NDArray[np.float32]:
    """float32 [N, D]"""
    values = table["vector"].combine_chunks().flatten().to_numpy().astype(np.float32)
    return values.reshape(table.num_rows, -1)


def _read(logs: str, name: str, columns: list[str]) -> pa.Table:
    folder = files.join(logs, name)
    filesystem, path = files.resolve(folder)
    try:
        return ds.dataset(path, format="parquet", filesystem=filesystem).to_table(columns)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"--truth {logs}",
            expected=f"a simulated log with {name}/ ({', '.join(columns)})",
            found=str(error).splitlines()[0],
            remedy="name the folder of a simulated log, made by " + job_command("simulate_logs", "OUT"),
        ) from error


def _places(ids: Integers, wanted: Integers, name: str, logs: str) -> Integers:
    """Place of each wanted id: int64 [len(wanted)]."""
    order = np.argsort(ids)
    at = order[np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)]
    is_missing = ids[at] != wanted
    if is_missing.any():
        raise UserError(
            f"--truth {logs}",
            expected=f"the log that the days were mined from, with every {name} of the evaluation",
            found=f"no {name} {wanted[is_missing][0]} ({int(is_missing.sum()):,} of {len(wanted):,} missing)",
            remedy="name the folder of that log; ids must not be keyed (privacy.user_key_env)",
        )
    return np.asarray(at)
