"""Options of the outcome rules for kernels: whole microseconds, codes and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from scrollpast.config import Confidence, ExaminedOptions, Kind, Mining
from scrollpast.mining.io.contracts import CREATED_AT
from scrollpast.mining.rules.strategies import STRATEGIES, Strategy
from scrollpast.privacy.suppression import UserSet
from scrollpast.privacy.user_keys import UserKey

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
UNBOUNDED = np.int64(2**62)
"""Value of a threshold that is not set."""


@dataclass(frozen=True)
class Window:
    """The days that one data set is mined from, and the moment up to which engagements are used.

    ``start_us`` (inclusive), ``end_us`` (exclusive) and ``as_of_us`` (inclusive) are microseconds since the
    epoch, UTC.
    """

    start_us: int
    end_us: int
    as_of_us: int

    @classmethod
    def of_days(cls, last_day: date, num_days: int, as_of: datetime) -> Window:
        """The ``num_days`` days (UTC) that end with ``last_day``, as known at ``as_of``."""
        end = datetime(last_day.year, last_day.month, last_day.day, tzinfo=UTC) + timedelta(days=1)
        end_us = epoch_us(end)
        return cls(end_us - num_days * DAY_US, end_us, epoch_us(as_of))


def epoch_us(moment: datetime) -> int:
    """Microseconds since the epoch of an aware datetime, exactly."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@dataclass(frozen=True)
class KindTable:
    """Configured kinds of engagement, one row each, in ascending order of their codes.

    Messages hold a kind's row number: a higher row wins where kinds compete.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    is_positive: NDArray[np.bool_]
    attribution_us: NDArray[np.int64]
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, kinds: dict[str, Kind]) -> KindTable:
        ordered = sorted(kinds.items(), key=lambda item: item[1].code)
        return cls(
            names=tuple(name for name, _ in ordered),
            codes=np.array([kind.code for _, kind in ordered], np.int64),
            is_positive=np.array([kind.role == "positive" for _, kind in ordered]),
            attribution_us=np.array([round(kind.attribution_h * HOUR_US) for _, kind in ordered], np.int64),
            weights=np.array([kind.weight for _, kind in ordered], np.float32),
        )


@dataclass(frozen=True)
class SurfaceTable:
    """Thresholds and examination probabilities by surface code, for the surfaces of one bucket.

    ``max_position``, ``min_dwell_ms``, ``max_dwell_ms``: int64 [S]; ``examination``: float64 [S, P], the last position
    for all deeper positions too; ``mean_examination``: float64 [S], for unknown positions.
    """

    max_position: NDArray[np.int64]
    min_dwell_ms: NDArray[np.int64]
    max_dwell_ms: NDArray[np.int64]
    examination: NDArray[np.float64]
    mean_examination: NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """All inputs that decide an outcome or a weight. Picklable, made once on the driver."""

    window: Window
    kinds: KindTable
    num_buckets: int
    seed: int
    keep_users_without_positive: bool
    max_impressions_per_user_day: int
    clock_skew_us: int
    maturity_us: int
    guard_before_us: int
    guard_after_us: int
    guard_keys: tuple[str, ...]
    examined: ExaminedOptions
    confidence: Confidence
    negatives_per_user: int
    strategy: Strategy
    """Order in which a user's candidates are kept where their number exceeds the cap."""
    stratify_by: str | None
    score_column: str | None
    max_ad_share: float
    new_ad_us: int
    new_ad_quarantine_us: int
    """0 = no quarantine."""
    user_features: tuple[str, ...]
    user_history: str | None
    """List column of the table of users; None = records without a history."""
    user_history_length: int
    features_of_users: tuple[str, ...] = ()
    """User features that the table of users holds; the other user features are columns of impressions."""
    examination: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Probability that a position is examined, float64 [positions] by surface; empty = 1 everywhere."""
    user_key: UserKey | None = None
    """Key with which user ids are hashed before they are written; None = ids are not hashed."""
    suppressed: UserSet = field(default_factory=UserSet)
    """Users whose rows are left out."""

    @classmethod
    def of(
        cls,
        mining: Mining,
        window: Window,
        examination: dict[str, NDArray[np.float64]] | None = None,
        user_key: UserKey | None = None,
        suppressed: UserSet | None = None,
    ) -> Rules:
        kinds = KindTable.of(mining.kinds)
        longest = int(kinds.attribution_us.max())
        return cls(
            window=window,
            kinds=kinds,
            num_buckets=mining.num_buckets,
            seed=mining.seed,
            keep_users_without_positive=mining.users_without_positive == "keep",
            max_impressions_per_user_day=mining.max_impressions_per_user_day,
            clock_skew_us=round(mining.clock_skew_s * 1_000_000),
            maturity_us=longest if mining.maturity_h is None else round(mining.maturity_h * HOUR_US),
            guard_before_us=round(mining.guard.before_h * HOUR_US),
            guard_after_us=round(mining.guard.after_h * HOUR_US),
            guard_keys=tuple(mining.guard.keys),
            examined=mining.examined,
            confidence=mining.confidence,
            negatives_per_user=mining.negatives_per_user,
            strategy=STRATEGIES.find(mining.strategy, "mining.strategy"),
            stratify_by=mining.stratify_by,
            score_column=mining.score_column,
            max_ad_share=mining.max_ad_share,
            new_ad_us=round(mining.exposure.new_ad_h * HOUR_US),
            new_ad_quarantine_us=round((mining.exposure.new_ad_quarantine_h or 0) * HOUR_US),
            user_features=tuple(mining.user_features),
            user_history=mining.user_history,
            user_history_length=mining.user_history_length,
            examination=examination or {},
            user_key=user_key,
            suppressed=suppressed or UserSet(),
        )

    @property
    def engagements_from_us(self) -> int:
        """First moment (inclusive) of engagements that can affect an impression of the window."""
        return self.window.start_us - max(self.guard_before_us, self.clock_skew_us)

    @property
    def engagements_to_us(self) -> int:
        """Last moment (inclusive) of engagements that can affect an impression of the window: at most --as-of."""
        return min(self.window.end_us + self.longest_reach_us, self.window.as_of_us)

    @property
    def ad_attributes(self) -> tuple[str, ...]:
        """Columns of the ads table that the rules read."""
        stratum = (self.stratify_by,) if self.strategy.reads_stratum and self.stratify_by else ()
        age = (CREATED_AT,) if self.new_ad_quarantine_us else ()
        return tuple(dict.fromkeys((*self.guard_keys, *stratum, *age)))

    @property
    def features_of_impressions(self) -> tuple[str, ...]:
        """User features that are columns of impressions."""
        return tuple(name for name in self.user_features if name not in self.features_of_users)

    @property
    def reads_users(self) -> bool:
        """True if records hold something of the table of users."""
        return self.user_history is not None or bool(self.features_of_users)

    @property
    def longest_reach_us(self) -> int:
        """Longest time after an impression in which an engagement can affect the impression's outcome."""
        return max(int(self.kinds.attribution_us.max()), self.guard_after_us)

    def on(self, surfaces: Sequence[str]) -> SurfaceTable:
        """Thresholds of the given surfaces, in their order."""
        limits = [self.examined.surfaces.get(surface) for surface in surfaces]

        def column(name: str, unset: np.int64) -> NDArray[np.int64]:
            default = getattr(self.examined, name)
            values = [getattr(own, name) if own is not None else None for own in limits]
            resolved = [default if value is None else value for value in values]
            return np.array([unset if value is None else value for value in resolved], np.int64)

        curves = [self.examination.get(surface, np.ones(1)) for surface in surfaces]
        depth = max((len(curve) for curve in curves), default=1)
        padded = [np.pad(curve, (0, depth - len(curve)), mode="edge") for curve in curves]
        return SurfaceTable(
            max_position=column("max_position", UNBOUNDED),
            min_dwell_ms=column("min_dwell_ms", np.int64(0)),
            max_dwell_ms=column("max_dwell_ms", UNBOUNDED),
            examination=np.array(padded, np.float64).reshape(len(surfaces), depth),
            mean_examination=np.array([curve.mean() for curve in curves], np.float64),
        )
