"""Ads that a retriever put into the users' pools: an optional input file of a simulated log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrollpast.errors import UserError

Pools = NDArray[np.int32]
"""Rows of ads (``ad_id`` − 1) by user (``user_id`` − 1) and slot of the pool; -1 = drawn by the funnel. Read-only."""


def no_pools() -> Pools:
    """Empty pools: int32 [0, 0], of the same type as those of `read_pools`, so that loops are compiled once."""
    return _frozen(np.empty((0, 0), np.int32))


def read_pools(path: Path, num_users: int, num_slots: int, num_ads: int) -> Pools:
    """Map a file of ``numpy.save`` into memory, shared by all processes that read it.

    Args:
        path: the file.
        num_users: users of the log, without bots.
        num_slots: ads of a pool.
        num_ads: ads of the log.

    Returns:
        int32 [num_users, num_slots], values in [-1, num_ads).

    Raises:
        UserError: the file is missing, is not an array, or has another shape, type or range.
    """
    place = f"--retrieved {path}"
    try:
        found = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise UserError(
            place,
            expected="an array as numpy.save writes it",
            found=f"{type(error).__name__}: {error}",
            remedy="write it with numpy.save",
        ) from error
    is_fitting = found.dtype == np.int32 and found.shape == (num_users, num_slots)
    bounds = f" with values from {found.min()} to {found.max()}" if is_fitting else ""
    if not is_fitting or found.min() < -1 or found.max() >= num_ads:
        raise UserError(
            place,
            expected=f"int32 [{num_users}, {num_slots}] (users, slots of a pool) with values from -1 to {num_ads - 1}",
            found=f"{found.dtype} {list(found.shape)}{bounds}",
            remedy="make the file for this log: the numbers of users and ads follow from --rows",
        )
    return _frozen(np.asarray(found, order="C"))


def _frozen(pools: Pools) -> Pools:
    pools.flags.writeable = False
    return pools
