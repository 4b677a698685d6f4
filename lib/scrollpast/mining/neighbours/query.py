"""Neighbour queries: users are embedded as of the end of their record, searched and filtered in groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.config import NEIGHBOUR_CODE, Neighbours
from scrollpast.mining.neighbours.coverage import Search, choose_search
from scrollpast.mining.neighbours.engaged import EngagedAds, list_lengths
from scrollpast.mining.neighbours.outcomes import CandidateOutcome
from scrollpast.mining.neighbours.retriever import Integers, Retriever
from scrollpast.mining.neighbours.selection import draw_chances, margin_bounds, select
from scrollpast.record_schema import HISTORY_AD_ID, UNKNOWN, USER_FEATURE_PREFIX, USER_ID
from scrollpast.shards.vocabulary import Vocabulary

_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True)
class NeighbourResult:
    """Neighbours of R records, and the outcomes of all candidates."""

    lengths: Integers
    """int64 [R]"""
    ads: Integers
    """int64 [Σ], record by record, ascending in each"""
    num_asked: int
    """Searched records"""
    num_unplaced: int
    """Records without a positive in the towers' vocabulary: no score for a margin"""
    num_candidates: int
    num_without: int
    """Searched records without a neighbour"""
    ledger: Integers
    """int64 [outcomes, ranks]: candidates by `CandidateOutcome` and by rank, from the first of the range on"""


class NeighbourQuery:
    """Query of an opened export for the neighbours of records.

    Memory beside the retriever's: 12 bytes for every searched rank and user, and about 100 bytes for every candidate:
    50 MiB for 1,024 users and the ranks 101 to 500, for any number of ads.
    """

    def __init__(self, retriever: Retriever, options: Neighbours, num_probes: int | None = None) -> None:
        self._retriever, self._options, self._num_probes = retriever, options, num_probes
        # Ads map to rows as in training; no other part of the vocabulary is used.
        self._rows = Vocabulary(
            retriever.ad_ids, np.zeros(len(retriever.ad_ids), np.int64), {}, {}, num_user_rows=2
        )

    def answer(
        self, batch: pa.RecordBatch, engaged: EngagedAds, is_wanted: NDArray[np.bool_]
    ) -> NeighbourResult:
        """Find the neighbours of a batch of records.

        Args:
            batch: R records.
            engaged: engaged ads of the users of these records, in their order.
            is_wanted: bool [R]: the records to be searched.
        """
        options = self._options
        lengths, ads, record_of, rows = self._positives(batch)
        is_placed = np.zeros(batch.num_rows, np.bool_)
        is_placed[record_of[rows > 0]] = True
        is_asked = is_wanted & is_placed
        asked = np.flatnonzero(is_asked)
        num_unplaced = int((is_wanted & ~is_placed).sum())
        num_ranks = options.last_rank - options.first_rank + 1
        ledger = np.zeros((len(CandidateOutcome), num_ranks), np.int64)
        if not len(asked):
            nobody = np.zeros(batch.num_rows, np.int64)
            return NeighbourResult(nobody, np.zeros(0, np.int64), 0, num_unplaced, 0, 0, ledger)
        is_of_asked = is_asked[record_of]
        user_UD = self._embed(batch, asked, ads[is_of_asked], lengths[asked])

        known = is_of_asked & (rows > 0)
        user_of = np.searchsorted(asked, record_of[known])
        bounds = margin_bounds(
            self._retriever.scores(user_UD, user_of, rows[known]),
            np.searchsorted(user_of, np.arange(len(asked) + 1)),
            options.relative_margin,
            options.margin_from,
        )
        row_UC = self._retriever.search(user_UD, options.last_rank, self._num_probes)[
            :, options.first_rank - 1 :
        ]
        is_candidate = row_UC > 0
        users, candidates = np.nonzero(is_candidate)
        row_P = row_UC[is_candidate]
        ad_P = self._retriever.ad_ids[row_P]

        def spread(values: NDArray[_Value]) -> NDArray[_Value]:
            """Values of the candidates [P] as [U, C]; 0 where there is no candidate."""
            filled = np.zeros(row_UC.shape, values.dtype)
            filled[users, candidates] = values
            return filled

        user_ids = batch.column(USER_ID).to_numpy()[asked]
        outcome = select(
            is_candidate,
            spread(engaged.holds(asked[users], ad_P)),
            spread(self._retriever.scores(user_UD, users, row_P)),
            bounds,
            spread(draw_chances(options.seed, user_ids[users], ad_P)),
            options.negatives_per_user,
        )
        for of_outcome in CandidateOutcome:
            ledger[of_outcome] = (outcome == of_outcome).sum(axis=0)
        is_kept = outcome[users, candidates] == CandidateOutcome.KEPT
        kept_record, kept_ad = asked[users[is_kept]], ad_P[is_kept]
        order = np.lexsort((kept_ad, kept_record))
        return NeighbourResult(
            lengths=np.bincount(kept_record, minlength=batch.num_rows),
            ads=kept_ad[order],
            num_asked=len(asked),
            num_unplaced=num_unplaced,
            num_candidates=len(row_P),
            num_without=len(asked) - len(np.unique(kept_record)),
            ledger=ledger,
        )

    def choose_search(self, batch: pa.RecordBatch, most: int) -> Search:
        """Search that the first ``most`` users of a batch with a positive in the towers' vocabulary need."""
        lengths, ads, record_of, rows = self._positives(batch)
        chosen = np.unique(record_of[rows > 0])[:most]
        is_of_chosen = np.isin(record_of, chosen)
        user_UD = self._embed(batch, chosen, ads[is_of_chosen], lengths[chosen])
        return choose_search(self._retriever, user_UD, self._options)

    def _positives(self, batch: pa.RecordBatch) -> tuple[Integers, Integers, Integers, Integers]:
        """Positives of R records: their number [R]; ads, numbers of their records, and rows of the towers, each [Σ]."""
        histories = batch.column("positive_ad_id")
        lengths, ads = list_lengths(histories), histories.flatten().to_numpy()
        return lengths, ads, np.repeat(np.arange(batch.num_rows), lengths), self._rows.ad_rows(ads)

    def _embed(
        self, batch: pa.RecordBatch, asked: Integers, ads: Integers, lengths: Integers
    ) -> NDArray[np.float32]:
        """Embed the searched users with their history as in serving: ads of before the log, then all positives."""
        ads, lengths = self._behind_earlier(batch, asked, ads, lengths)
        features = {
            name: batch.column(USER_FEATURE_PREFIX + name).fill_null(UNKNOWN).to_numpy()[asked]
            for name in self._retriever.user_features
        }
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        users = batch.column(USER_ID).to_numpy()[asked]
        passed = _passed(batch, asked) if self._retriever.reads_passed else None
        return self._retriever.embed(users, (ads, offsets), features, passed)

    def _behind_earlier(
        self, batch: pa.RecordBatch, asked: Integers, ads: Integers, lengths: Integers
    ) -> tuple[Integers, Integers]:
        """Ads and lengths of histories with the known ads of ``history_ad_id`` in front, where records hold it."""
        if HISTORY_AD_ID not in batch.schema.names:
            return ads, lengths
        lists = batch.column(HISTORY_AD_ID).take(pa.array(asked))
        earlier = lists.flatten().to_numpy()
        is_known = self._rows.ad_rows(earlier) > 0
        numbers = np.arange(len(asked))
        user = np.concatenate(
            [np.repeat(numbers, list_lengths(lists))[is_known], np.repeat(numbers, lengths)]
        )
        order = np.argsort(user, kind="stable")
        return np.concatenate([earlier[is_known], ads])[order], np.bincount(user, minlength=len(asked))


def _passed(batch: pa.RecordBatch, asked: Integers) -> tuple[Integers, Integers]:
    """Served negatives of the searched users, in the records' order: ads [Σ] and offsets [U + 1]."""
    ads, kinds = (batch.column(f"negative_{name}").take(pa.array(asked)) for name in ("ad_id", "kind"))
    is_served = kinds.flatten().to_numpy() != NEIGHBOUR_CODE
    user = np.repeat(np.arange(len(asked)), list_lengths(ads))[is_served]
    lengths = np.bincount(user, minlength=len(asked))
    return ads.flatten().to_numpy()[is_served], np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
