"""Arrays that the compiled loop fills, and numbers that it reads, as named tuples for numba."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrollpast.simulation.shape import LogShape

UNKNOWN_DWELL = -(2**31)
FINE, NO_USER, NO_AD, NO_REQUEST_ID, NO_TIME, NEGATIVE_DWELL, NEGATIVE_POSITION = range(7)


class Rows(NamedTuple):
    """Impressions and their truth, arrays [N]; user and ad are ids (row of the world + 1)."""

    request: NDArray[np.int64]
    user: NDArray[np.int64]
    ad: NDArray[np.int64]
    served_us: NDArray[np.int64]
    surface: NDArray[np.int8]
    position: NDArray[np.int32]
    dwell_ms: NDArray[np.int32]  # UNKNOWN_DWELL = null
    propensity: NDArray[np.float64]  # NaN = unknown
    score: NDArray[np.float32]  # NaN = not chosen by the ranker
    is_random: NDArray[np.bool_]
    relevance: NDArray[np.float32]
    is_relevant: NDArray[np.bool_]
    is_examined: NDArray[np.bool_]
    is_clicked: NDArray[np.bool_]
    is_bot: NDArray[np.bool_]
    is_duplicate: NDArray[np.bool_]
    broken: NDArray[np.int8]  # FINE, or the fault of the row
    is_dwell_sent: NDArray[np.bool_]


class Engaged(NamedTuple):
    """Engagements, arrays [N]; engagements from ``until_us`` on are left out."""

    kind: NDArray[np.int8]
    request: NDArray[np.int64]
    user: NDArray[np.int64]
    ad: NDArray[np.int64]
    at_us: NDArray[np.int64]
    value: NDArray[np.float64]
    until_us: int


class Rates(NamedTuple):
    """Numbers of a ``LogShape`` that the compiled loop reads."""

    min_slate: int
    max_slate: int
    pool_ads: int
    pool_days: int
    relevance_spread: float
    ranker_noise: float
    random_slot_share: float
    click_given_want: float
    accidental_click: float
    long_click_given_click: float
    save_given_click: float
    conversion_given_click: float
    conversion_cap_days: float
    organic_given_want: float
    organic_cap_days: float
    save_without_request: float
    conversion_without_request: float
    hide_given_unwanted: float
    report_given_unwanted: float
    dwell_missing: float
    bot_rows: float
    bot_click: float
    duplicates: float
    broken: float


def rates_of(shape: LogShape) -> Rates:
    """Numbers of a shape for the compiled loop."""
    return Rates._make(kind(getattr(shape, name)) for name, kind in _RATE_TYPES.items())


_WHOLE = ("min_slate", "max_slate", "pool_ads", "pool_days")
_RATE_TYPES = {name: int if name in _WHOLE else float for name in Rates._fields}


def empty_rows(num_rows: int) -> Rows:
    """Allocate arrays for ``num_rows`` impressions."""
    kinds = (
        "i8",
        "i8",
        "i8",
        "i8",
        "i1",
        "i4",
        "i4",
        "f8",
        "f4",
        "?",
        "f4",
        "?",
        "?",
        "?",
        "?",
        "?",
        "i1",
        "?",
    )
    return Rows(*(np.empty(num_rows, kind) for kind in kinds))


def empty_engaged(num_rows: int, until_us: int) -> Engaged:
    """Allocate arrays for the engagements of ``num_rows`` impressions: at most four each."""
    columns = [np.empty(4 * num_rows, kind) for kind in ("i1", "i8", "i8", "i8", "i8", "f8")]
    return Engaged._make([*columns, until_us])
