"""Suppression list: hashed ids of users whom no later run may use, in a file beside the days.

``forget_users`` adds users to the list of every folder of days before it searches the days. A job that publishes a day
reads the list of the day's folder before and after publication. In any order of the two, one of them removes the user.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.errors import ScrollpastError, UserError
from scrollpast.hashing import ID_MASK, bucket_of, hash_column, xxhash64
from scrollpast.privacy.user_keys import UserKey, check_user_key
from scrollpast.shards import filesystem as files

LIST_NAME = "suppressed_users.json"
SCHEMA_VERSION = 1
HELD_FOLDER = "held"
_ATTEMPTS = 20
_HASH = re.compile(r"[0-9a-f]{16}")
_ABOUT = {
    True: "each user is the first 63 bits of HMAC-SHA256 of the id, under the key with this fingerprint",
    False: "each user is the xxhash64 of the id, without a secret: anyone with an id can search for it here",
}


@dataclass(frozen=True)
class UserSet:
    """Set of users by the hashes of their ids. Picklable, for filters in tasks."""

    hashes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Sorted and distinct: ``xxhash64`` of the id in the log, or under a key the keyed id that mining writes."""
    user_key: str | None = None
    """Fingerprint of the key."""

    @classmethod
    def of(cls, names: Iterable[str], key: UserKey | None) -> UserSet:
        """Set of the users with these ids in the log. An id that is a number matches both a number and its text."""
        distinct = list(dict.fromkeys(names))
        if key is not None:
            return cls(np.unique(np.array([key.id_of(name) for name in distinct], np.int64)), key.fingerprint)
        of_texts = hash_column(pa.array(distinct, pa.string()))
        return cls(np.unique(np.concatenate([of_texts, xxhash64(whole_numbers(distinct))])))

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def digest(self) -> str | None:
        """Digest of the set, 16 hexadecimal digits; None for the empty set."""
        if not len(self):
            return None
        content = (self.user_key or "").encode() + b"\0" + self.hashes.astype("<i8").tobytes()
        return hashlib.sha256(content).hexdigest()[:16]

    def buckets(self, num_buckets: int) -> frozenset[int]:
        """Buckets that may hold users of the set."""
        hashes = self.hashes if self.user_key is None else xxhash64(self.hashes)
        return frozenset(bucket_of(hashes, num_buckets).tolist())

    def in_log(self, users: pa.Array, hashes: NDArray[np.int64], key: UserKey | None) -> NDArray[np.bool_]:
        """Mask of the rows of these users in a log, bool [N]; False for null.

        Under a key, every distinct user of the batch costs an HMAC.

        Args:
            users: ids as in the log [N].
            hashes: their ``xxhash64``, int64 [N].
            key: the key that the set was made with, if any.
        """
        if not len(self):
            return np.zeros(len(users), np.bool_)
        found = self._has(hashes if key is None else key.ids_of(users))
        return found & np.asarray(users.is_valid()) if users.null_count else found

    def in_files(self, users: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
        """Mask of the rows of these users in a day's file: records, invalid rows or revocations [N]; False for null."""
        column = users.combine_chunks() if isinstance(users, pa.ChunkedArray) else users
        if not len(self) or not len(column):
            return np.zeros(len(column), np.bool_)
        hashes = hash_column(column)
        if not pa.types.is_integer(column.type):
            found = self._has(hashes)
        else:
            ids = column.fill_null(0).to_numpy()
            if self.user_key is not None:
                found = self._has(ids)
            else:  # a number from the log, or 63 bits of the hash of a text
                found = self._has(hashes) | np.isin(ids, self.hashes & ID_MASK)
        return found & np.asarray(column.is_valid()) if column.null_count else found

    def union(self, other: UserSet) -> UserSet:
        """Union of two sets.

        Raises:
            UserError: the sets were hashed under two keys.
        """
        if not len(other) or not len(self):
            return self if len(self) else other
        if self.user_key != other.user_key:
            raise UserError(
                LIST_NAME,
                expected="one key of user ids in the lists of all folders of a run",
                found=f"{self.user_key or 'none'} and {other.user_key or 'none'}",
                remedy="run the job once for the days of each key",
            )
        return UserSet(np.union1d(self.hashes, other.hashes), self.user_key)

    def without(self, other: UserSet) -> UserSet:
        return UserSet(np.setdiff1d(self.hashes, other.hashes), self.user_key)

    def _has(self, values: NDArray[np.int64]) -> NDArray[np.bool_]:
        at = np.minimum(np.searchsorted(self.hashes, values), len(self.hashes) - 1)
        return np.asarray(self.hashes[at] == values)


def whole_numbers(names: Iterable[str]) -> NDArray[np.int64]:
    """Names that a log may hold as numbers, int64."""
    whole = [int(name) for name in names if re.fullmatch(r"-?\d{1,19}", name)]
    return np.array([number for number in whole if -(2**63) <= number < 2**63], np.int64)


def folder_of(day_uri: str) -> str:
    """Folder of days that holds a published or held day, and its suppression list."""
    folder, _, name = files.absolute(day_uri).rstrip("/").rpartition("/")[0].rpartition("/")
    return folder if name == HELD_FOLDER else files.join(folder, name)


def read_suppressed(*folder_uris: str) -> UserSet:
    """Read the users on the suppression lists of folders of days; empty where no list exists.

    Raises:
        UserError: a list is damaged, or two lists have two keys.
    """
    users = UserSet()
    for uri in dict.fromkeys(folder_uris):
        users = users.union(_read(uri)[0])
    return users


def check_key_of_list(users: UserSet, key: UserKey | None, folder_uri: str) -> None:
    """Check that a list was made under the job's key.

    Raises:
        UserError: the list was made under another key.
    """
    if len(users):
        check_user_key(key, users.user_key, files.join(folder_uri, LIST_NAME), of="the list")


def suppress(folder_uri: str, users: UserSet) -> None:
    """Add users to the list of a folder of days. Concurrent changes by other jobs are kept.

    Raises:
        UserError: the list was made under another key, or is damaged.
        ScrollpastError: other jobs changed the list in every attempt.
    """
    _change(folder_uri, users, lambda before: before.union(users))


def lift(folder_uri: str, users: UserSet) -> int:
    """Remove users from the list of a folder of days; returns the number of their hashes on the list.

    Raises:
        UserError: the list was made under another key, or is damaged.
        ScrollpastError: other jobs changed the list again and again.
    """
    before, after = _change(folder_uri, users, lambda before: before.without(users))
    return len(before) - len(after)


def _change(folder_uri: str, users: UserSet, change: Callable[[UserSet], UserSet]) -> tuple[UserSet, UserSet]:
    """Replace the list by its changed version; start again if another job replaced it meanwhile."""
    store, folder = files.resolve(folder_uri)
    path = files.join(folder, LIST_NAME)
    for _ in range(_ATTEMPTS):
        before, content = _read(folder_uri)
        if len(before) and before.user_key != users.user_key:
            raise UserError(
                files.join(folder_uri, LIST_NAME),
                expected=f"users under the key {before.user_key}"
                if before.user_key
                else "users without a key",
                found=f"the key {users.user_key}" if users.user_key else "no key",
                remedy="set privacy.user_key_env as for the days of this folder",
            )
        after = change(before)
        if np.array_equal(after.hashes, before.hashes):
            return before, before
        written = _to_json(UserSet(after.hashes, users.user_key))
        if content is None:
            try:
                files.write_new(store, path, written)
            except FileExistsError:
                continue
            return before, after
        if files.write_over(store, path, written, content.equals):
            return before, after
    raise ScrollpastError(
        files.join(folder_uri, LIST_NAME),
        expected="a list that this run can change",
        found=f"other jobs changed it {_ATTEMPTS} times meanwhile",
        remedy="run again",
    )


def _read(folder_uri: str) -> tuple[UserSet, pa.Buffer | None]:
    store, folder = files.resolve(folder_uri)
    try:
        content = files.read_all(store, files.join(folder, LIST_NAME))
    except (FileNotFoundError, NotADirectoryError):
        return UserSet(), None
    return _from_json(content.to_pybytes(), files.join(folder_uri, LIST_NAME)), content


def _to_json(users: UserSet) -> bytes:
    document = {
        "schema_version": SCHEMA_VERSION,
        "about": _ABOUT[users.user_key is not None],
        "user_key": users.user_key,
        # Written as unsigned: sixteen digits each, without the digits of an id.
        "users": [f"{value:016x}" for value in users.hashes.view(np.uint64).tolist()],
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def _from_json(content: bytes, place: str) -> UserSet:
    try:
        document = json.loads(content)
        version, users, user_key = (document[name] for name in ("schema_version", "users", "user_key"))
        values = [*users, *([] if user_key is None else [user_key])]
        if version == SCHEMA_VERSION and all(_HASH.fullmatch(value) for value in values):
            hashes = np.array([int(user, 16) for user in users], np.uint64).view(np.int64)
            return UserSet(np.unique(hashes), user_key)
        found = f"schema_version {version}, or a value that is not 16 hexadecimal digits"
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        found = f"{type(error).__name__}: {error}"
    # A damaged list must not count as empty: forgotten users would be published.
    raise UserError(
        place,
        expected="the list of forgotten users, as forget_users writes it",
        found=found,
        remedy="restore the file from a copy, or remove the file and run forget_users for all its users again",
    )
