"""Shuffling as a function from integers to an order, the same on every machine and with every version of NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scrollpast.hashing import seeded_hash


def permutation(size: int, seed: int, *keys: int) -> NDArray[np.int64]:
    """An order of 0 … size − 1 that depends on nothing but the arguments: int64 [size].

    Sorted by a seeded hash rather than drawn from a generator, whose stream NumPy may change.
    """
    numbers = np.arange(size, dtype=np.int64)
    columns = [np.full(size, key, np.int64) for key in keys]
    return np.argsort(seeded_hash(seed, *columns, numbers), kind="stable").astype(np.int64, copy=False)
