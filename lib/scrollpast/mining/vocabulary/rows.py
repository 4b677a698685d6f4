"""Rows of ads and codes of values: counts and a catalogue in, a vocabulary out. No Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scrollpast.errors import UserError
from scrollpast.record_schema import UNKNOWN, USER_FEATURE_PREFIX
from scrollpast.shards.vocabulary import Vocabulary

Integers = NDArray[np.int64]

AD, RAW_ID = "ad", "raw_id"
"""Columns of a catalogue beside its feature columns."""


@dataclass(frozen=True)
class Counts:
    """Counts of records: distinct ``ads`` int64 [A] with their occurrences, and the values of user features."""

    ads: Integers
    positives: Integers
    """int64 [A]"""
    negatives: Integers
    """int64 [A]"""
    user_values: Mapping[str, tuple[Integers, Integers]]
    """Distinct values and their numbers of records, by feature without ``user_``."""


def lay_out(
    counts: Counts,
    catalogue: pa.Table,
    *,
    days: Sequence[str],
    num_user_rows: int,
    max_codes: int,
    parent: Vocabulary | None = None,
    created_at: str = "",
) -> Vocabulary:
    """Assign rows and codes, the most frequent first; rows and codes of the parent stay.

    Counted ads and ads of the catalogue are ordered by positives, then negatives, then id. Values of ads' features are
    ordered by the number of ads, then as text. Values of users' features are ordered by records, then by value.

    Args:
        catalogue: ``ad`` int64, ``raw_id`` string or null, and one string column for every feature of ads.
            Of several rows of an ad the smallest is used, column by column from the left, nulls last.
        num_user_rows: rows of the table of users; the parent's number if there is a parent.
        max_codes: the largest number of codes of a feature, code 0 included; all codes of the parent are kept.

    Raises:
        UserError: the parent has other features or another number of user rows.
    """
    catalogue = _one_row_an_ad(catalogue)
    names = [name for name in catalogue.column_names if name not in (AD, RAW_ID)]
    listed = catalogue[AD].to_numpy()
    if parent is not None:
        _check_parent(parent, names, counts, num_user_rows)
    old = np.zeros(1, np.int64) if parent is None else parent.ad_ids
    found = np.union1d(counts.ads, listed)
    new = found[parent.ad_rows(found) == 0] if parent is not None else found
    new = new[
        np.lexsort([new, -_at(counts.ads, counts.negatives, new), -_at(counts.ads, counts.positives, new)])
    ]
    ad_ids = np.concatenate([old, new])
    ad_counts = _at(counts.ads, counts.positives, ad_ids)
    ad_counts[0] = 0
    in_catalogue = _at(listed, np.arange(1, len(listed) + 1), ad_ids[1:]) - 1
    values: dict[str, tuple[str, ...]] = {}
    feature_codes = {}
    for name in names:
        known = () if parent is None else parent.values[name]
        values[name], listed_codes = _codes(catalogue[name], known, max_codes)
        kept = np.zeros(len(ad_ids), np.int64)
        if parent is not None:
            kept[: parent.num_rows] = parent.feature_codes[name]
        # An ad that left the catalogue keeps its features.
        kept[1:] = np.where(in_catalogue >= 0, _taken(listed_codes, in_catalogue), kept[1:])
        feature_codes[name] = kept
    for name, (numbers, records) in counts.user_values.items():
        by_count = numbers[np.lexsort([numbers, -records])]
        texts = [str(number) for number in by_count.tolist() if number != UNKNOWN]
        known = () if parent is None else parent.values[USER_FEATURE_PREFIX + name]
        values[USER_FEATURE_PREFIX + name] = _extended(known, texts, max_codes)
    return Vocabulary(
        ad_ids=ad_ids,
        counts=ad_counts,
        feature_codes=feature_codes,
        values=values,
        num_user_rows=num_user_rows,
        days=tuple(days),
        parent=None if parent is None else parent.version,
        created_at=created_at,
        raw_ids=_raw_ids(catalogue[RAW_ID], in_catalogue, parent),
    )


def _one_row_an_ad(catalogue: pa.Table) -> pa.Table:
    """Catalogue sorted by ad, every ad once, without null ads."""
    catalogue = catalogue.filter(pc.is_valid(catalogue[AD]))
    catalogue = catalogue.sort_by([(name, "ascending") for name in catalogue.column_names]).combine_chunks()
    _, first = np.unique(catalogue[AD].to_numpy(), return_index=True)
    return catalogue.take(first)


def _at(keys: Integers, values: Integers, wanted: Integers) -> Integers:
    """Value of every wanted key, 0 where the key is not among the distinct ``keys``."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64)
    order = np.argsort(keys)
    at = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(keys[at] == wanted, values[at], 0)


def _taken(values: Integers, at: Integers) -> Integers:
    """``values[at]``; arbitrary where ``at`` is −1."""
    return values[at] if len(values) else np.zeros(len(at), np.int64)


def _codes(column: pa.ChunkedArray, known: Sequence[str], max_codes: int) -> tuple[tuple[str, ...], Integers]:
    """Values by code, and the code of each row of the column: 0 for null and for values beyond ``max_codes``."""
    counted = pc.value_counts(column.drop_null().combine_chunks())
    table = pa.table({"value": counted.field("values"), "count": counted.field("counts")})
    by_count = table.sort_by([("count", "descending"), ("value", "ascending")])["value"].to_pylist()
    values = _extended(known, by_count, max_codes)
    at = pc.index_in(column, value_set=pa.array(values, pa.string())).combine_chunks()
    return values, at.fill_null(-1).to_numpy().astype(np.int64) + 1


def _extended(known: Sequence[str], found: Sequence[str], max_codes: int) -> tuple[str, ...]:
    have = set(known)
    new = [text for text in found if text not in have]
    return (*known, *new[: max(0, max_codes - 1 - len(known))])


def _raw_ids(column: pa.ChunkedArray, in_catalogue: Integers, parent: Vocabulary | None) -> pa.Array | None:
    at = pa.array(in_catalogue, mask=in_catalogue < 0)
    raw_ids = column.combine_chunks().take(at)
    if parent is not None and parent.raw_ids is not None:
        num_new = len(raw_ids) - len(parent.raw_ids)
        raw_ids = raw_ids.fill_null(pa.concat_arrays([parent.raw_ids, pa.nulls(num_new, pa.string())]))
    return None if raw_ids.null_count == len(raw_ids) else raw_ids


def _check_parent(parent: Vocabulary, names: Sequence[str], counts: Counts, num_user_rows: int) -> None:
    wanted = [*names, *(USER_FEATURE_PREFIX + name for name in counts.user_values)]
    for what, expected, found in (
        ("features", sorted(parent.features), sorted(wanted)),
        ("num_user_rows", parent.num_user_rows, num_user_rows),
    ):
        if expected != found:
            raise UserError(
                f"parent vocabulary {parent.version}, {what}",
                expected=str(expected),
                found=str(found),
                remedy="use the parent's value, or build without --parent",
            )
