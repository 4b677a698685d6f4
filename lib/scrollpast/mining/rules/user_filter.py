"""Bloom filter of the users who may have an anchor, small enough to send to every task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrollpast.compiled import compiled, frozen, inlined

BITS_PER_USER = 16
"""With two probes a user, about 1.4 % of the other users pass as well (Bloom, CACM 1970)."""


@dataclass(frozen=True)
class UserBloomFilter:
    """A Bloom filter over ``xxhash64(user_id)``: no member is missed, few others pass.

    A row of a false positive goes through the shuffle and ends as ``unanchored``, like every row whose user has no
    positive after attribution: the ledger does not depend on the filter.
    """

    words: NDArray[np.uint64]

    @classmethod
    def of(cls, hashes: Iterable[NDArray[np.int64]]) -> UserBloomFilter:
        parts = list(hashes)
        num_users = sum(len(part) for part in parts)
        num_bits = 1 << max(12, (num_users * BITS_PER_USER - 1).bit_length())
        words = np.zeros(num_bits // 64, np.uint64)
        for part in parts:
            _add(words, frozen(part, np.int64))
        return cls(words)

    def may_contain(self, hashes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mask bool [N] of int64 [N] hashes: True for every member and for few other hashes."""
        return _probe(frozen(self.words, np.uint64), frozen(hashes, np.int64))


@inlined
def _two_bits(hashed: Any, mask: Any) -> tuple[Any, Any]:
    value = np.uint64(hashed)
    return value & mask, ((value >> np.uint64(32)) | (value << np.uint64(32))) & mask


@compiled
def _add(words: NDArray[np.uint64], hashes: NDArray[np.int64]) -> None:
    mask = np.uint64(len(words) * 64 - 1)
    for hashed in hashes:
        first, second = _two_bits(hashed, mask)
        words[first >> np.uint64(6)] |= np.uint64(1) << (first & np.uint64(63))
        words[second >> np.uint64(6)] |= np.uint64(1) << (second & np.uint64(63))


@compiled
def _probe(words: NDArray[np.uint64], hashes: NDArray[np.int64]) -> NDArray[np.bool_]:
    mask = np.uint64(len(words) * 64 - 1)
    found = np.empty(len(hashes), np.bool_)
    for row in range(len(hashes)):
        first, second = _two_bits(hashes[row], mask)
        found[row] = (words[first >> np.uint64(6)] >> (first & np.uint64(63))) & np.uint64(1) and (
            words[second >> np.uint64(6)] >> (second & np.uint64(63))
        ) & np.uint64(1)
    return found
