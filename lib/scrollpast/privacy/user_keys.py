"""User ids as keyed hashes: the same user is the same number on every day, and nobody without the key knows which.

HMAC-SHA256 (RFC 2104) over the id as text, UTF-8; a whole number is its decimal digits, so that an id means the same
whether a log holds it as a number or as text. The first 63 bits of the hash are the id that leaves: two of n users
share one with a probability of about n² / 2⁶⁴.

The key is read on the driver and travels to the tasks inside the functions that Spark sends them, which are neither
logged nor shown; a manifest says which key it was by a fingerprint that does not tell the key.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.config import Privacy
from scrollpast.errors import UserError
from scrollpast.hashing import ID_MASK

SHORTEST_KEY_BYTES = 32
_FINGERPRINT_OF = b"scrollpast: which key is this?"


@dataclass(frozen=True)
class UserKey:
    """A secret that turns user ids into hashes."""

    secret: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ from key to key."""
        return hmac.digest(self.secret, _FINGERPRINT_OF, "sha256").hex()[:16]

    def id_of(self, user: int | str) -> int:
        """The id that leaves mining for a user of the log, in [0, 2⁶³)."""
        digest = hmac.digest(self.secret, str(user).encode(), "sha256")
        return int.from_bytes(digest[:8], "little") & int(ID_MASK)

    def ids_of(self, column: pa.Array) -> NDArray[np.int64]:
        """`id_of` for a column of whole numbers or texts [N], as int64 [N]; of a null, that of "0" or ""."""
        encoded = column.dictionary_encode()
        is_number = pa.types.is_integer(column.type)
        users = [*encoded.dictionary.to_pylist(), 0 if is_number else ""]
        ids = np.fromiter((self.id_of(user) for user in users), np.int64, len(users))
        at = encoded.indices.fill_null(len(users) - 1).to_numpy(zero_copy_only=False)
        return np.asarray(ids[at])

    def hide(self, column: pa.Array) -> pa.Array:
        """The column as keyed int64; a null stays null."""
        return pa.array(self.ids_of(column), mask=np.asarray(column.is_null()))


def read_user_key(privacy: Privacy) -> UserKey | None:
    """The key that the configuration names; None where it names none.

    Raises:
        UserError: the variable is not there, or too short to be a secret.
    """
    variable = privacy.user_key_env
    if variable is None:
        return None
    secret = os.environb.get(variable.encode())
    if secret is None or len(secret) < SHORTEST_KEY_BYTES:
        # Never what was found: half a key is half a secret.
        raise UserError(
            f"privacy.user_key_env ({variable})",
            expected=f"an environment variable with a secret of at least {SHORTEST_KEY_BYTES} bytes",
            found="no such variable" if secret is None else f"{len(secret)} bytes",
            remedy=f"set {variable} for the driver, with the key of the days before; a new one: openssl rand -hex 32",
        )
    return UserKey(secret)


def check_user_key(key: UserKey | None, fingerprint: str | None, place: str, *, of: str = "the day") -> None:
    """Hold a key against the one that a day was mined with, or that something else was made with.

    Raises:
        UserError: another key, or a key on one side only.
    """
    mine = None if key is None else key.fingerprint
    if mine != fingerprint:
        raise UserError(
            f"privacy.user_key_env, {place}",
            expected=_shown(fingerprint, of),
            found=_shown(mine, of),
            remedy=f"set the variable to the key that {of} was made with (its field user_key is the fingerprint)",
        )


def _shown(fingerprint: str | None, of: str) -> str:
    return f"no key: user ids of {of} are as in the log" if fingerprint is None else f"key {fingerprint}"
