"""User ids as keyed hashes: a user has the same number on every day, which nobody without the key can compute.

HMAC-SHA256 (RFC 2104) over the id as UTF-8 text. A whole number is hashed as its decimal digits, so that an id has the
same hash as a number and as text. The first 63 bits of the hash are the written id: two of n users share an id with a
probability of about n² / 2⁶⁴.

The key is read on the driver and sent to the tasks inside Spark's serialised functions, which are neither logged nor
shown. A manifest identifies the key by a fingerprint that does not reveal it.
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
    """Secret key for the hashes of user ids."""

    secret: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the key, 16 hexadecimal digits."""
        return hmac.digest(self.secret, _FINGERPRINT_OF, "sha256").hex()[:16]

    def id_of(self, user: int | str) -> int:
        """Id that mining writes for a user of the log, in [0, 2⁶³)."""
        digest = hmac.digest(self.secret, str(user).encode(), "sha256")
        return int.from_bytes(digest[:8], "little") & int(ID_MASK)

    def ids_of(self, column: pa.Array) -> NDArray[np.int64]:
        """`id_of` for a column of whole numbers or texts [N], as int64 [N]; null counts as "0" or ""."""
        encoded = column.dictionary_encode()
        is_number = pa.types.is_integer(column.type)
        users = [*encoded.dictionary.to_pylist(), 0 if is_number else ""]
        ids = np.fromiter((self.id_of(user) for user in users), np.int64, len(users))
        at = encoded.indices.fill_null(len(users) - 1).to_numpy(zero_copy_only=False)
        return np.asarray(ids[at])

    def hide(self, column: pa.Array) -> pa.Array:
        """Column as keyed int64; a null stays null."""
        return pa.array(self.ids_of(column), mask=np.asarray(column.is_null()))


def read_user_key(privacy: Privacy) -> UserKey | None:
    """Read the key that the configuration names; None where it names no key.

    Raises:
        UserError: the environment variable is not set, or too short to be a secret.
    """
    variable = privacy.user_key_env
    if variable is None:
        return None
    secret = os.environb.get(variable.encode())
    if secret is None or len(secret) < SHORTEST_KEY_BYTES:
        # The message never shows the value: a part of the key would leak.
        raise UserError(
            f"privacy.user_key_env ({variable})",
            expected=f"an environment variable with a secret of at least {SHORTEST_KEY_BYTES} bytes",
            found="no such variable" if secret is None else f"{len(secret)} bytes",
            remedy=f"set {variable} for the driver to the key of the earlier days; to make a new key: "
            "openssl rand -hex 32",
        )
    return UserKey(secret)


def check_user_key(key: UserKey | None, fingerprint: str | None, place: str, *, of: str = "the day") -> None:
    """Compare a key with the key that a day, or another artefact, was made with.

    Raises:
        UserError: the keys differ, or only one side has a key.
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
