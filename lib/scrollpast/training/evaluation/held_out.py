"""Queries of an evaluation: one a user, with the history before the evaluated days and the targets on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.config import NEIGHBOUR_CODE
from scrollpast.errors import UserError
from scrollpast.hashing import seeded_hash
from scrollpast.record_schema import UNKNOWN, USER_FEATURE_PREFIX, USER_ID
from scrollpast.shards.manifest import read_manifest
from scrollpast.shards.reader import ShardReader
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.block import list_offsets

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ragged:
    """A list of rows for each of U users: that of user u is ``rows[offsets[u]:offsets[u + 1]]``."""

    rows: Integers
    """int64 [Σ]"""
    offsets: Integers
    """int64 [U + 1]"""

    @property
    def lengths(self) -> Integers:
        """int64 [U]"""
        return np.diff(self.offsets)

    @property
    def users(self) -> Integers:
        """int64 [Σ]: the number of the user that each row belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """U users with a positive in the later days, by user id. Rows are those of the vocabulary, 0 = unknown."""

    user_id: Integers
    user_row: Integers
    user_features: dict[str, Integers]
    history: Ragged
    """Ads of the user's positives of the days before, oldest first, the latest ``max_history``"""
    known: Ragged
    """Distinct rows of all positives of the days before, ascending, without row 0: they are not to be found again"""
    targets: Ragged
    """Rows of the distinct ads of the user's positives of the later days that are not known; an ad that the
    vocabulary does not know is row 0: nobody can find it, which is the retriever's loss"""
    served: Ragged
    """Distinct rows of what the user was served then and did not engage with; neither targets nor known"""
    num_known_targets: int
    """Positives of the later days that were left out because the user had engaged with the ad before"""

    @property
    def is_new(self) -> NDArray[np.bool_]:
        """Bool [U]: users without a positive in the days before."""
        return self.history.lengths == 0

    @property
    def history_rows(self) -> Integers:
        return self.history.rows

    @property
    def history_offsets(self) -> Integers:
        return self.history.offsets

    def __len__(self) -> int:
        return len(self.user_id)


def refuse_leaks(history_days: Sequence[str], evaluation_days: Sequence[str], vocabulary: Vocabulary) -> None:
    """See that the evaluation asks for what came later, and that nothing was counted on those days.

    Raises:
        UserError: a day of the evaluation begins before a day of the training ends, or the vocabulary was built
            from a day of the evaluation.
    """
    ends = {day: read_manifest(day).window_end for day in history_days}
    for day in evaluation_days:
        manifest = read_manifest(day)
        for before, end in ends.items():
            if manifest.window_start < end:
                raise UserError(
                    f"{day}/manifest.json",
                    expected=f"a window that begins at {end} or later, where that of {before} ends",
                    found=manifest.window_start,
                    remedy="evaluate on later days than those trained on: others tell what is known already",
                )
        if manifest.ds in vocabulary.days:
            raise UserError(
                f"vocabulary {vocabulary.version}",
                expected=f"to be built from days before {manifest.ds}, which is evaluated",
                found=f"built from {', '.join(vocabulary.days)}",
                remedy="build it from the days trained on: its counts tell which ads are clicked",
            )


def read_held_out(
    history_days: Sequence[str],
    evaluation_days: Sequence[str],
    vocabulary: Vocabulary,
    *,
    max_history: int = 64,
    max_users: int | None = None,
    seed: int = 0,
) -> HeldOut:
    """Read the users of later days. Memory grows with these users, not with the days.

    Args:
        max_users: keep only so many, those with the smallest hash of (user, seed).

    Raises:
        UserError: a leak (see `refuse_leaks`), or no user to evaluate.
        CorruptShardError: a shard is not what was written.
    """
    refuse_leaks(history_days, evaluation_days, vocabulary)
    users, features, positives, negatives = _later(evaluation_days, vocabulary)
    kept = np.unique(positives[0])
    if max_users is not None and len(kept) > max_users:
        order = np.argsort(seeded_hash(seed, kept), kind="stable")
        kept = np.sort(kept[order[:max_users]])
    if not len(kept):
        raise _nobody_to_ask(evaluation_days)
    past = _past(history_days, kept)
    positives, negatives = _of_users(positives, kept), _of_users(negatives, kept)

    history_rows = vocabulary.ad_rows(past[3])
    is_known_row = history_rows > 0
    known_keys = np.unique(_keys(past[0][is_known_row], history_rows[is_known_row], vocabulary))
    # By ad, not by row: two unknown ads are two targets.
    target_user, target_ad = _distinct(*positives)
    target_row = vocabulary.ad_rows(target_ad)
    target_keys = _keys(target_user, target_row, vocabulary)
    is_new_target = ~np.isin(target_keys, known_keys) | (target_row == 0)
    served_row = vocabulary.ad_rows(negatives[1])
    served_keys = np.unique(_keys(negatives[0], served_row, vocabulary))
    served_keys = served_keys[
        (served_keys % vocabulary.num_rows > 0)
        & ~np.isin(served_keys, target_keys)
        & ~np.isin(served_keys, known_keys)
    ]

    has_target = np.bincount(target_user[is_new_target], minlength=len(kept)) > 0
    if not has_target.any():
        raise _nobody_to_ask(evaluation_days)
    numbers = np.cumsum(has_target) - 1

    def ragged(user: Integers, row: Integers) -> Ragged:
        """The rows of the users that stay; they come by user."""
        stays = has_target[user]
        lengths = np.bincount(numbers[user[stays]], minlength=int(has_target.sum()))
        return Ragged(row[stays], np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))

    latest = _latest(past[0], len(kept), max_history)
    user_id = kept[has_target]
    at = np.searchsorted(users, user_id)
    return HeldOut(
        user_id=user_id,
        user_row=vocabulary.user_rows(user_id),
        user_features={name: codes[at] for name, codes in features.items()},
        history=ragged(past[0][latest], history_rows[latest]),
        known=ragged(known_keys // vocabulary.num_rows, known_keys % vocabulary.num_rows),
        targets=ragged(target_user[is_new_target], target_row[is_new_target]),
        served=ragged(served_keys // vocabulary.num_rows, served_keys % vocabulary.num_rows),
        num_known_targets=int((~is_new_target).sum()),
    )


def _nobody_to_ask(days: Sequence[str]) -> UserError:
    return UserError(
        ", ".join(days),
        expected="users with a positive that they did not have before",
        found="none",
        remedy="evaluate on other days, or on more of them",
    )


def _later(
    days: Sequence[str], vocabulary: Vocabulary
) -> tuple[Integers, dict[str, Integers], tuple[Integers, Integers], tuple[Integers, Integers]]:
    """Users with their codes, ascending, the last record of each; and (user, ad) of positives and of negatives."""
    names = [USER_FEATURE_PREFIX + name for name in vocabulary.user_features]
    wanted = [USER_ID, "positive_ad_id", "negative_ad_id", "negative_kind", *names]
    users: list[Integers] = []
    codes: list[Integers] = []
    positives: list[tuple[Integers, Integers]] = []
    negatives: list[tuple[Integers, Integers]] = []
    for batch in ShardReader(days, features=wanted):
        ids = batch.column(USER_ID).to_numpy()
        users.append(ids)
        codes.append(np.stack([np.zeros(len(ids), np.int64), *_codes(batch, vocabulary)]))
        positives.append(_pairs(batch, ids, "positive"))
        user, ad = _pairs(batch, ids, "negative")
        is_served = batch.column("negative_kind").flatten().to_numpy() != NEIGHBOUR_CODE
        negatives.append((user[is_served], ad[is_served]))
    if not users:
        raise UserError(
            ", ".join(days) or "--evaluate",
            expected="records to evaluate on",
            found="none",
            remedy="mine these days, or name others",
        )
    user_id, code = np.concatenate(users), np.concatenate(codes, axis=1)
    # Of a user with several records the one of the last day counts: days are read in order.
    last = len(user_id) - 1 - np.unique(user_id[::-1], return_index=True)[1]
    by_name = dict(zip(vocabulary.user_features, code[1:, last], strict=True))
    return user_id[last], by_name, _joined(positives), _joined(negatives)


def _past(days: Sequence[str], users: Integers) -> tuple[Integers, Integers, Integers, Integers]:
    """Positives of some users, ordered by user and time: number of the user, time, request, ad."""
    found: list[list[Integers]] = []
    names = ("positive_served_at_ms", "positive_request_hash", "positive_ad_id")
    for batch in ShardReader(days, features=[USER_ID, *names]) if days else ():
        at = np.searchsorted(users, batch.column(USER_ID).to_numpy()).clip(max=len(users) - 1)
        is_wanted = users[at] == batch.column(USER_ID).to_numpy()
        lengths = np.diff(list_offsets(batch.column("positive_ad_id")))
        is_kept = np.repeat(is_wanted, lengths)
        columns = [batch.column(name).flatten().to_numpy()[is_kept] for name in names]
        found.append([np.repeat(at, lengths)[is_kept], *columns])
    if not found:
        empty = np.zeros(0, np.int64)
        return empty, empty, empty, empty
    user, time, request, ad = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((ad, request, time, user))
    return user[order], time[order], request[order], ad[order]


def _codes(batch: pa.RecordBatch, vocabulary: Vocabulary) -> Iterator[Integers]:
    for name in vocabulary.user_features:
        values = batch.column(USER_FEATURE_PREFIX + name).fill_null(UNKNOWN).to_numpy(zero_copy_only=False)
        yield vocabulary.user_codes(name, values)


def _pairs(batch: pa.RecordBatch, user_ids: Integers, side: str) -> tuple[Integers, Integers]:
    """User and ad of every positive or negative."""
    ads = batch.column(f"{side}_ad_id")
    return np.repeat(user_ids, np.diff(list_offsets(ads))), ads.flatten().to_numpy()


def _joined(pairs: list[tuple[Integers, Integers]]) -> tuple[Integers, Integers]:
    users, ads = zip(*pairs, strict=True)
    return np.concatenate(users), np.concatenate(ads)


def _of_users(pairs: tuple[Integers, Integers], users: Integers) -> tuple[Integers, Integers]:
    """The pairs of these users, which are named by their number."""
    at = np.searchsorted(users, pairs[0]).clip(max=len(users) - 1)
    is_kept = users[at] == pairs[0]
    return at[is_kept], pairs[1][is_kept]


def _distinct(user: Integers, ad: Integers) -> tuple[Integers, Integers]:
    """Distinct pairs, ordered."""
    order = np.lexsort((ad, user))
    user, ad = user[order], ad[order]
    is_first = np.ones(len(user), bool)
    is_first[1:] = (user[1:] != user[:-1]) | (ad[1:] != ad[:-1])
    return user[is_first], ad[is_first]


def _keys(user: Integers, row: Integers, vocabulary: Vocabulary) -> Integers:
    """One number for a pair; ordered as the pairs are."""
    return user * vocabulary.num_rows + row


def _latest(user: Integers, num_users: int, most: int) -> NDArray[np.bool_]:
    """Mask of the last ``most`` values of each user; values are ordered by user and time."""
    ends = np.cumsum(np.bincount(user, minlength=num_users))
    return ends[user] - np.arange(len(user)) <= most
