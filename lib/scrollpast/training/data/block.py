"""Some records of a shard, decoded and mapped to rows: flat arrays that the expansion loops over."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.compiled import compiled, frozen
from scrollpast.config import NEIGHBOUR_CODE, SERVED_CODE
from scrollpast.record_schema import (
    HISTORY_AD_ID,
    NEGATIVE_FEATURES,
    POSITIVE_FEATURES,
    UNKNOWN,
    USER_FEATURE_PREFIX,
    USER_ID,
)
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.history import LONG_AGO_MS, NEVER_MS, History, with_earlier

_UNREAD = {"negative_position", "negative_dwell_ms"}

Integers = NDArray[np.int64]


def block_features(vocabulary: Vocabulary) -> list[str]:
    """The features of a record that training reads."""
    lists = [name for name in {**POSITIVE_FEATURES, **NEGATIVE_FEATURES} if name not in _UNREAD]
    return [USER_ID, *lists, *(USER_FEATURE_PREFIX + name for name in vocabulary.user_features)]


@dataclass(frozen=True)
class Side:
    """The positives or the negatives of R records, M in all; record i has those from ``offsets[i]`` on."""

    offsets: Integers
    """int64 [R + 1]"""
    ad_rows: Integers
    """int64 [M], as are the next three"""
    kinds: Integers
    served_at_ms: Integers
    requests: Integers
    weights: NDArray[np.float32]
    """float32 [M]"""
    superseded_ms: Integers
    """int64 [M]: when the record's next item of the same ad was served; far ahead where none follows. An item is the
    latest of its ad at a time t if served_at_ms < t <= superseded_ms"""


@dataclass(frozen=True)
class Block:
    """R records of one shard."""

    shard: int
    first_record: int
    user_ids: Integers
    """int64 [R]"""
    user_rows: Integers
    """int64 [R]"""
    user_codes: Integers
    """int64 [number of user features, R]"""
    positives: Side
    history: History
    """The positives, behind the history before the log where the records hold one"""
    positive_ad_ids: Integers
    """int64 [positives]"""
    record_of: Integers
    """int64 [positives]: which of the R records a positive belongs to"""
    anchor_positives: Integers
    """int64 [A], ascending: the positives that are anchors"""
    negatives: Side
    latest_negative_ms: Integers
    """int64 [R]: when the last negative of a record was served; far back where it has none"""
    hard_draw_weights: NDArray[np.float64]
    """float64 [negatives]: what a negative is drawn by as a hard one; 0 = never"""
    neighbour_draw_weights: NDArray[np.float64]
    """float64 [negatives]: the same as a neighbour; [0] where none are wanted"""

    @property
    def num_bytes(self) -> int:
        """Memory of all arrays."""
        own = [getattr(self, field.name) for field in fields(self)]
        parts = own + [
            getattr(side, field.name) for side in (self.positives, self.negatives) for field in fields(side)
        ]
        shared = self.history.ad_rows is self.positives.ad_rows
        own_bytes = sum(part.nbytes for part in parts if isinstance(part, np.ndarray))
        return own_bytes + (0 if shared else self.history.num_bytes)


def list_offsets(lists: pa.Array) -> Integers:
    """int64 [R + 1]: where each list begins in the array's values, counted from the first one's."""
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return frozen(offsets - offsets[0], np.int64)


def block_of(
    batch: pa.RecordBatch,
    shard: int,
    first_record: int,
    vocabulary: Vocabulary,
    *,
    sample_by_weight: bool,
    explicit_boost: float,
    has_neighbours: bool,
    merge_repeats: bool = False,
    kind_weights: NDArray[np.float32] | None = None,
) -> Block:
    """Map decoded records to rows, and find what may be drawn as a hard negative and what as a neighbour.

    A negative may be drawn unless its ad is one of the user's positives of the record or its weight is not
    positive: as a neighbour if it was mined as one, else as a hard negative.

    Args:
        sample_by_weight: else every hard negative is drawn as if its weight were 1.
        explicit_boost: a hide or report is drawn as if its weight were this many times as large.
        has_neighbours: whether neighbours will be drawn.
        merge_repeats: all positives of one ad in a record are one anchor, the first of them, with the kind of the
            largest weight; and lists hold an ad once, where it was served last.
        kind_weights: float32 by code of the kind of a positive: factor of the anchor's weight; all 1 if left out.
    """
    (positives, positive_ads), (negatives, negative_ads) = (
        _side(batch, side, vocabulary) for side in ("positive", "negative")
    )
    user_ids = frozen(batch.column(USER_ID).to_numpy(), np.int64)
    codes = np.zeros((len(vocabulary.user_features), batch.num_rows), np.int64)
    for at, name in enumerate(vocabulary.user_features):
        values = batch.column(USER_FEATURE_PREFIX + name).fill_null(UNKNOWN).to_numpy(zero_copy_only=False)
        codes[at] = vocabulary.user_codes(name, values)
    num_positives = np.diff(positives.offsets)
    record_of = np.repeat(np.arange(batch.num_rows), num_positives)
    positives, anchor_positives = _anchors(positives, positive_ads, record_of, kind_weights, merge_repeats)
    is_neighbour = negatives.kinds == NEIGHBOUR_CODE
    negative_of = np.repeat(np.arange(batch.num_rows), np.diff(negatives.offsets))
    superseded_ms = (
        _superseded(negatives, negative_ads, negative_of, ~is_neighbour)
        if merge_repeats
        else np.where(is_neighbour, LONG_AGO_MS, NEVER_MS)
    )
    negatives = replace(negatives, superseded_ms=frozen(superseded_ms, np.int64))
    is_positive = np.zeros(len(negative_ads), np.bool_)
    _mark_positives(positives.offsets, positive_ads, negatives.offsets, negative_ads, is_positive)
    hard_weights = _draw_weights(negatives, ~is_neighbour & ~is_positive)
    if not sample_by_weight:
        hard_weights[hard_weights > 0] = 1.0
    hard_weights[negatives.kinds != SERVED_CODE] *= explicit_boost
    neighbour_weights = (
        _draw_weights(negatives, is_neighbour & ~is_positive) if has_neighbours else np.zeros(0, np.float64)
    )
    return Block(
        shard=shard,
        first_record=first_record,
        user_ids=user_ids,
        user_rows=frozen(vocabulary.user_rows(user_ids), np.int64),
        user_codes=frozen(codes, np.int64),
        positives=positives,
        history=_history(batch, positives, positive_ads, vocabulary, merge_repeats),
        positive_ad_ids=positive_ads,
        record_of=frozen(record_of, np.int64),
        anchor_positives=frozen(anchor_positives, np.int64),
        negatives=negatives,
        latest_negative_ms=frozen(_latest(negatives), np.int64),
        hard_draw_weights=frozen(hard_weights, np.float64),
        neighbour_draw_weights=frozen(neighbour_weights, np.float64),
    )


def _history(
    batch: pa.RecordBatch,
    positives: Side,
    positive_ads: Integers,
    vocabulary: Vocabulary,
    merge_repeats: bool,
) -> History:
    own = History(positives.offsets, positives.ad_rows, positives.served_at_ms, positives.superseded_ms)
    if HISTORY_AD_ID not in batch.schema.names:
        return own
    lists = batch.column(HISTORY_AD_ID)
    ads = frozen(lists.flatten().to_numpy(), np.int64)
    return with_earlier(
        own,
        positive_ads,
        list_offsets(lists),
        ads,
        vocabulary.ad_rows(ads),
        merge_repeats=merge_repeats,
    )


def _anchors(
    positives: Side,
    ad_ids: Integers,
    record_of: Integers,
    kind_weights: NDArray[np.float32] | None,
    merge_repeats: bool,
) -> tuple[Side, Integers]:
    """Positives with the kind and the weight of their anchor, and the numbers of those that are anchors."""
    weights, kinds = positives.weights, positives.kinds
    factors = np.ones(len(kinds), np.float32) if kind_weights is None else kind_weights[kinds]
    if not merge_repeats:
        return replace(positives, weights=frozen(weights * factors, np.float32)), np.arange(len(kinds))
    order = np.lexsort((np.arange(len(ad_ids)), ad_ids, record_of))
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (np.diff(ad_ids[order]) != 0) | (np.diff(record_of[order]) != 0)
    firsts = np.flatnonzero(is_first)
    anchors = order[firsts]
    # Of each pair the largest factor, and the kind of the first positive that has it.
    by_factor = np.lexsort((order, -factors[order], np.cumsum(is_first)))
    strongest = order[by_factor[firsts]]
    kinds, weights = kinds.copy(), weights.copy()
    kinds[anchors] = positives.kinds[strongest]
    weights[anchors] = positives.weights[anchors] * factors[strongest]
    side = replace(
        positives,
        kinds=frozen(kinds, np.int64),
        weights=frozen(weights, np.float32),
        superseded_ms=frozen(_superseded(positives, ad_ids, record_of), np.int64),
    )
    return side, np.sort(anchors)


def _superseded(
    side: Side, ad_ids: Integers, record_of: Integers, is_listed: NDArray[np.bool_] | None = None
) -> Integers:
    """When each item's ad was served next in its record, int64 [M]; far back for what is never listed."""
    listed = np.arange(len(ad_ids)) if is_listed is None else np.flatnonzero(is_listed)
    found = np.full(len(ad_ids), LONG_AGO_MS)
    order = listed[np.lexsort((listed, ad_ids[listed], record_of[listed]))]
    found[order] = NEVER_MS
    is_followed = (np.diff(ad_ids[order]) == 0) & (np.diff(record_of[order]) == 0)
    found[order[:-1][is_followed]] = side.served_at_ms[order[1:][is_followed]]
    return found


def anchor_offsets(lists: pa.Array, *, merge_repeats: bool) -> Integers:
    """int64 [R + 1]: anchors before each record, where ``lists`` are the positive ads of R records."""
    offsets = list_offsets(lists)
    if not merge_repeats:
        return offsets
    ads = lists.flatten().to_numpy()
    record_of = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((ads, record_of))
    is_first = np.ones(len(ads), np.bool_)
    is_first[1:] = (np.diff(ads[order]) != 0) | (np.diff(record_of[order]) != 0)
    counts = np.bincount(record_of[order][is_first], minlength=len(offsets) - 1)
    return frozen(np.append(0, np.cumsum(counts)), np.int64)


def _draw_weights(negatives: Side, is_wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights of the wanted negatives, 0 for all others."""
    weights = negatives.weights.astype(np.float64)
    weights[~(np.isfinite(weights) & (weights > 0) & is_wanted)] = 0.0
    return weights


def _latest(side: Side) -> Integers:
    """When the last item of every record was served, int64 [R]."""
    latest = np.full(len(side.offsets) - 1, np.iinfo(np.int64).min)
    has_items = np.diff(side.offsets) > 0
    latest[has_items] = np.maximum.reduceat(side.served_at_ms, side.offsets[:-1][has_items])
    return latest


def _side(batch: pa.RecordBatch, side: str, vocabulary: Vocabulary) -> tuple[Side, Integers]:
    """One side of the records, and the ids of its ads."""

    def values(name: str, dtype: Any) -> NDArray[Any]:
        return frozen(batch.column(f"{side}_{name}").flatten().to_numpy(), dtype)

    ad_ids = values("ad_id", np.int64)
    columns = Side(
        offsets=list_offsets(batch.column(f"{side}_ad_id")),
        ad_rows=frozen(vocabulary.ad_rows(ad_ids), np.int64),
        kinds=values("kind", np.int64),
        served_at_ms=values("served_at_ms", np.int64),
        requests=values("request_hash", np.int64),
        weights=values("weight", np.float32),
        superseded_ms=frozen(np.full(len(ad_ids), NEVER_MS), np.int64),
    )
    return columns, ad_ids


@compiled
def _mark_positives(
    positive_offsets: Integers,
    positive_ads: Integers,
    negative_offsets: Integers,
    negative_ads: Integers,
    is_positive: NDArray[np.bool_],
) -> None:
    """Mark negatives whose ad is one of the user's positives in the record."""
    for record in range(len(positive_offsets) - 1):
        for negative in range(negative_offsets[record], negative_offsets[record + 1]):
            for positive in range(positive_offsets[record], positive_offsets[record + 1]):
                if negative_ads[negative] == positive_ads[positive]:
                    is_positive[negative] = True
