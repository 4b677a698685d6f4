"""Queries of an evaluation: one a user, with the history before the evaluated days and the targets on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.config import NEIGHBOUR_CODE
from scrollpast.config.training_options import TrainingData
from scrollpast.errors import UserError
from scrollpast.hashing import seeded_hash
from scrollpast.record_schema import UNKNOWN, USER_FEATURE_PREFIX, USER_ID
from scrollpast.shards.manifest import read_manifest
from scrollpast.shards.reader import ShardReader
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.block import list_offsets
from scrollpast.training.evaluation.earlier import read_earlier
from scrollpast.training.evaluation.exposures import clipped_weights, counts_of
from scrollpast.training.model.towers import HISTORY, PASSED

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Lists of rows of U users: the list of user u is ``rows[offsets[u]:offsets[u + 1]]``."""

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
    """Ads of the user's history before the log and of the user's positives of the days before, oldest first, the latest
    ``max_history``"""
    passed: Ragged
    """Ads that the user was served on the days before and passed over, oldest first, the latest ``max_passed``"""
    known: Ragged
    """Distinct rows of all positives of the days before and of the history before the log, ascending, without row 0:
    they are excluded from rankings"""
    targets: Ragged
    """Rows of the distinct ads of the user's positives of the later days that are not known. An ad outside the
    vocabulary is row 0, which no ranking contains: a miss of the retriever"""
    served: Ragged
    """Distinct rows of ads served to the user on the later days without engagement; neither targets nor known"""
    num_known_targets: int
    """Positives of the later days that were left out because the user had engaged with the ad before"""
    exposures: Integers | None = None
    """int64 [Σ of targets]: examined impressions of the target's ad on the later days, those of all users: positives
    and served negatives, without neighbours; None = not known, all targets count alike"""
    exposure_clip: float = 0.9
    """Quantile at which the weights of targets are cut"""
    target_kinds: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Bool [Σ of targets] by kind of engagement: the user engaged with the ad in this kind, or in others as well"""

    @property
    def weights(self) -> NDArray[np.float64]:
        """float64 [Σ of targets]: clipped inverse exposures; 1 where exposures are not known."""
        if self.exposures is None:
            return np.ones(len(self.targets.rows))
        return clipped_weights(self.exposures, self.exposure_clip)

    @property
    def is_new(self) -> NDArray[np.bool_]:
        """Bool [U]: users without a known ad, whether a model reads their history or not."""
        return self.known.lengths == 0

    @property
    def lists(self) -> dict[str, tuple[Integers, Integers]]:
        """Rows and offsets of the lists that a user tower may read, by the tower's names."""
        return {
            HISTORY: (self.history.rows, self.history.offsets),
            PASSED: (self.passed.rows, self.passed.offsets),
        }

    def __len__(self) -> int:
        return len(self.user_id)


def refuse_leaks(history_days: Sequence[str], evaluation_days: Sequence[str], vocabulary: Vocabulary) -> None:
    """Check that the evaluated days are later than the training days, and not counted in the vocabulary.

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
                    remedy="evaluate on later days than the training days; earlier days leak labels",
                )
        if manifest.ds in vocabulary.days:
            raise UserError(
                f"vocabulary {vocabulary.version}",
                expected=f"to be built from days before {manifest.ds}, which is evaluated",
                found=f"built from {', '.join(vocabulary.days)}",
                remedy="build the vocabulary from the training days only; its counts leak the clicks of a day",
            )


def read_held_out(
    history_days: Sequence[str],
    evaluation_days: Sequence[str],
    vocabulary: Vocabulary,
    *,
    data: TrainingData | None = None,
    max_users: int | None = None,
    exposure_clip: float = 0.9,
    seed: int = 0,
) -> HeldOut:
    """Read the users of later days. Memory grows with these users, not with the days.

    Args:
        data: lengths of the lists, and whether these hold an ad once; the defaults if left out.
        max_users: number of users to keep, those with the smallest hash of (user, seed).
        exposure_clip: quantile at which the weights of targets by exposure are cut.

    Raises:
        UserError: a leak (see `refuse_leaks`), or no user to evaluate.
        CorruptShardError: a shard is corrupt.
    """
    refuse_leaks(history_days, evaluation_days, vocabulary)
    users, features, positives, negatives = _later(evaluation_days, vocabulary)
    kept = np.unique(positives[0])
    if max_users is not None and len(kept) > max_users:
        order = np.argsort(seeded_hash(seed, kept), kind="stable")
        kept = np.sort(kept[order[:max_users]])
    if not len(kept):
        raise _nobody_to_ask(evaluation_days)
    data = data or TrainingData()
    past = _past(history_days, kept, "positive")
    passed = _past(history_days, kept, "negative") if data.max_passed else past[:, :0]
    passed = _listed(passed, data.max_passed, data.merge_repeats)
    earlier_user, earlier_ad = read_earlier(history_days, evaluation_days, kept, vocabulary)
    no_times = np.zeros((2, len(earlier_ad)), np.int64)
    earlier = np.stack([earlier_user, *no_times, earlier_ad])
    before = np.concatenate([earlier, past], axis=1) if data.read_user_history else past
    before = before[:, np.argsort(before[0], kind="stable")]
    listed = _listed(before, data.max_history, data.merge_repeats)
    shown = np.concatenate([positives[1], negatives[1]])
    positives, negatives = _of_users(positives, kept), _of_users(negatives, kept)

    # Ads of the history before the log are known even if the model does not read them: models are compared on the same
    # targets.
    known_user, known_ad = np.concatenate([earlier, past], axis=1)[[0, 3]]
    known_rows = vocabulary.ad_rows(known_ad)
    is_known_row = known_rows > 0
    known_keys = np.unique(_keys(known_user[is_known_row], known_rows[is_known_row], vocabulary))
    # By ad, not by row: two unknown ads are two targets.
    target_user, target_ad = _distinct(positives[0], positives[1])
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
        """Rows of the kept users, ordered by user."""
        stays = has_target[user]
        lengths = np.bincount(numbers[user[stays]], minlength=int(has_target.sum()))
        return Ragged(row[stays], np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))

    by_kind = _targets_by_kind(_kinds_by_name(evaluation_days), *positives)
    user_id = kept[has_target]
    at = np.searchsorted(users, user_id)
    return HeldOut(
        user_id=user_id,
        user_row=vocabulary.user_rows(user_id),
        user_features={name: codes[at] for name, codes in features.items()},
        history=ragged(listed[0], vocabulary.ad_rows(listed[3])),
        passed=ragged(passed[0], vocabulary.ad_rows(passed[3])),
        known=ragged(known_keys // vocabulary.num_rows, known_keys % vocabulary.num_rows),
        targets=ragged(target_user[is_new_target], target_row[is_new_target]),
        served=ragged(served_keys // vocabulary.num_rows, served_keys % vocabulary.num_rows),
        num_known_targets=int((~is_new_target).sum()),
        exposures=counts_of(shown, target_ad[is_new_target]),
        exposure_clip=exposure_clip,
        target_kinds={name: has_kind[is_new_target] for name, has_kind in by_kind.items()},
    )


def _nobody_to_ask(days: Sequence[str]) -> UserError:
    return UserError(
        ", ".join(days),
        expected="users with a positive on an ad without an earlier positive",
        found="none",
        remedy="evaluate on other days, or on more of them",
    )


def _later(
    days: Sequence[str], vocabulary: Vocabulary
) -> tuple[Integers, dict[str, Integers], tuple[Integers, ...], tuple[Integers, ...]]:
    """Users with the codes of their last record, ascending; (user, ad, kind) of positives, (user, ad) of negatives."""
    names = [USER_FEATURE_PREFIX + name for name in vocabulary.user_features]
    wanted = [USER_ID, "positive_ad_id", "positive_kind", "negative_ad_id", "negative_kind", *names]
    users: list[Integers] = []
    codes: list[Integers] = []
    positives: list[tuple[Integers, ...]] = []
    negatives: list[tuple[Integers, ...]] = []
    for batch in ShardReader(days, features=wanted):
        ids = batch.column(USER_ID).to_numpy()
        users.append(ids)
        codes.append(np.stack([np.zeros(len(ids), np.int64), *_codes(batch, vocabulary)]))
        kinds = batch.column("positive_kind").flatten().to_numpy()
        positives.append((*_pairs(batch, ids, "positive"), kinds))
        user, ad = _pairs(batch, ids, "negative")
        is_served = batch.column("negative_kind").flatten().to_numpy() != NEIGHBOUR_CODE
        negatives.append((user[is_served], ad[is_served]))
    if not users:
        raise UserError(
            ", ".join(days) or "--evaluate",
            expected="records to evaluate on",
            found="none",
            remedy="mine these days, or name other days",
        )
    user_id, code = np.concatenate(users), np.concatenate(codes, axis=1)
    # Of several records of a user, the last day's record counts: days are read in order.
    last = len(user_id) - 1 - np.unique(user_id[::-1], return_index=True)[1]
    by_name = dict(zip(vocabulary.user_features, code[1:, last], strict=True))
    return user_id[last], by_name, _joined(positives), _joined(negatives)


def _past(days: Sequence[str], users: Integers, side: str) -> Integers:
    """Positives or served negatives of some users by user and time: int64 [4, n]: user's number, time, request, ad."""
    found: list[list[Integers]] = []
    names = [f"{side}_{name}" for name in ("served_at_ms", "request_hash", "ad_id", "kind")]
    for batch in ShardReader(days, features=[USER_ID, *names]) if days else ():
        at = np.searchsorted(users, batch.column(USER_ID).to_numpy()).clip(max=len(users) - 1)
        is_wanted = users[at] == batch.column(USER_ID).to_numpy()
        lengths = np.diff(list_offsets(batch.column(names[0])))
        *columns, kinds = (batch.column(name).flatten().to_numpy() for name in names)
        is_kept = np.repeat(is_wanted, lengths) & (kinds != NEIGHBOUR_CODE)
        found.append([np.repeat(at, lengths)[is_kept], *(column[is_kept] for column in columns)])
    if not found:
        return np.zeros((4, 0), np.int64)
    user, time, request, ad = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return np.stack([user, time, request, ad])[:, np.lexsort((ad, request, time, user))]


def _listed(items: Integers, most: int, merge_repeats: bool) -> Integers:
    """The latest ``most`` items of every user, int64 [4, n]; of an ad only the last where repeats are merged."""
    if merge_repeats:
        order = np.lexsort((np.arange(items.shape[1]), items[3], items[0]))
        is_last = np.ones(len(order), bool)
        is_last[:-1] = (np.diff(items[0][order]) != 0) | (np.diff(items[3][order]) != 0)
        items = items[:, np.sort(order[is_last])]
    ends = np.cumsum(np.bincount(items[0])) if items.shape[1] else np.zeros(1, np.int64)
    return items[:, ends[items[0]] - np.arange(items.shape[1]) <= most]


def _codes(batch: pa.RecordBatch, vocabulary: Vocabulary) -> Iterator[Integers]:
    for name in vocabulary.user_features:
        values = batch.column(USER_FEATURE_PREFIX + name).fill_null(UNKNOWN).to_numpy(zero_copy_only=False)
        yield vocabulary.user_codes(name, values)


def _pairs(batch: pa.RecordBatch, user_ids: Integers, side: str) -> tuple[Integers, Integers]:
    """User and ad of every positive or negative."""
    ads = batch.column(f"{side}_ad_id")
    return np.repeat(user_ids, np.diff(list_offsets(ads))), ads.flatten().to_numpy()


def _joined(parts: list[tuple[Integers, ...]]) -> tuple[Integers, ...]:
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def _of_users(columns: tuple[Integers, ...], users: Integers) -> tuple[Integers, ...]:
    """Values of these users; the first column has the user's number in place of its id."""
    at = np.searchsorted(users, columns[0]).clip(max=len(users) - 1)
    is_kept = users[at] == columns[0]
    return at[is_kept], *(column[is_kept] for column in columns[1:])


def _kinds_by_name(days: Sequence[str]) -> dict[str, int]:
    """Codes of the kinds of engagement, by code."""
    kinds = {name: code for day in days for name, code in read_manifest(day).kinds.items()}
    return dict(sorted(kinds.items(), key=lambda kind: kind[1]))


def _targets_by_kind(
    codes: Mapping[str, int], user: Integers, ad: Integers, kind: Integers
) -> dict[str, NDArray[np.bool_]]:
    """Bool [n] by kind for the n pairs of `_distinct`, without kinds that no pair has."""
    order = np.lexsort((ad, user))
    user, ad, kind = user[order], ad[order], kind[order]
    is_first = np.ones(len(user), bool)
    is_first[1:] = (user[1:] != user[:-1]) | (ad[1:] != ad[:-1])
    number = np.cumsum(is_first) - 1
    found = {}
    for name, code in codes.items():
        has_kind = np.zeros(int(is_first.sum()), bool)
        has_kind[number[kind == code]] = True
        if has_kind.any():
            found[name] = has_kind
    return found


def _distinct(user: Integers, ad: Integers) -> tuple[Integers, Integers]:
    """Distinct pairs, ordered."""
    order = np.lexsort((ad, user))
    user, ad = user[order], ad[order]
    is_first = np.ones(len(user), bool)
    is_first[1:] = (user[1:] != user[:-1]) | (ad[1:] != ad[:-1])
    return user[is_first], ad[is_first]


def _keys(user: Integers, row: Integers, vocabulary: Vocabulary) -> Integers:
    """One number for each pair, in the order of the pairs."""
    return user * vocabulary.num_rows + row
