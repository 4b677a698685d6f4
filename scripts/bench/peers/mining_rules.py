"""The rules of a run of the mining job, for the peers: no peer has a constant of the rules in its code.

scripts/bench/bench_mining.py writes the resolved configuration and the window of a run as JSON, and every peer reads
this file. Only the standard library is imported, because a peer may run in another environment.
"""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
UNBOUNDED = 2**62
"""Value of a threshold that is not set."""

FOLLOWED = frozenset(
    {
        "num_buckets", "max_impressions_per_user_day", "kinds", "clock_skew_s", "maturity_h", "guard.before_h",
        "guard.after_h", "examined.max_position", "examined.min_dwell_ms", "examined.max_dwell_ms",
        "examined.long_dwell_excludes", "examined.unknown", "confidence.floor", "confidence.full_from_ms",
        "confidence.full_to_ms", "confidence.unknown", "negatives_per_user",
    }
)  # fmt: skip
"""Options of ``mining`` that every peer follows."""
FIXED: Mapping[str, Any] = {
    "users_without_positive": "drop", "guard.keys": [], "examined.surfaces": {}, "examined.table": None,
    "strategy": "recent", "max_ad_share": 1.0, "exposure.new_ad_quarantine_h": None, "user_features": [],
    "user_history": None, "user_history_length": 64,
}  # fmt: skip
"""Options that no peer follows, with the values at which the options change nothing."""
WITHOUT_EFFECT = frozenset(
    {"seed", "require_engagements", "stratify_by", "score_column", "exposure.new_ad_h"}
)
"""Options that change no record at the values of ``FIXED``, except ties that the comparison leaves open."""


@dataclass(frozen=True)
class Kind:
    """A kind of engagement."""

    name: str
    code: int
    is_positive: bool
    attribution_us: int
    weight: float


@dataclass(frozen=True)
class Rules:
    """Window and thresholds in the units of the log: microseconds since the epoch, milliseconds of dwell."""

    start_us: int
    end_us: int
    as_of_us: int
    num_buckets: int
    max_impressions_per_user_day: int
    kinds: tuple[Kind, ...]
    clock_skew_us: int
    maturity_us: int
    guard_before_us: int
    guard_after_us: int
    max_position: int
    min_dwell_ms: int
    max_dwell_ms: int
    is_unknown_dropped: bool
    is_lingering_of_the_ad: bool
    floor: float
    full_from_ms: int
    full_to_ms: int
    unknown: float
    negatives_per_user: int

    @classmethod
    def read(cls, path: Path) -> Rules:
        """The rules that ``write_rules`` left there."""
        written = json.loads(path.read_text(encoding="utf-8"))
        mining, window = written["mining"], written["window"]
        guard, examined, confidence = mining["guard"], mining["examined"], mining["confidence"]
        kinds = tuple(
            Kind(
                name, kind["code"], kind["role"] == "positive", round(kind["attribution_h"] * HOUR_US), kind["weight"]
            )
            for name, kind in mining["kinds"].items()
        )  # fmt: skip
        maturity_h = mining["maturity_h"]
        longest = max(kind.attribution_us for kind in kinds)
        return cls(
            **window,
            num_buckets=mining["num_buckets"],
            max_impressions_per_user_day=mining["max_impressions_per_user_day"],
            kinds=kinds,
            clock_skew_us=round(mining["clock_skew_s"] * 1_000_000),
            maturity_us=longest if maturity_h is None else round(maturity_h * HOUR_US),
            guard_before_us=round(guard["before_h"] * HOUR_US),
            guard_after_us=round(guard["after_h"] * HOUR_US),
            max_position=_or(examined["max_position"], UNBOUNDED),
            min_dwell_ms=_or(examined["min_dwell_ms"], 0),
            max_dwell_ms=_or(examined["max_dwell_ms"], UNBOUNDED),
            is_unknown_dropped=examined["unknown"] == "drop",
            is_lingering_of_the_ad=examined["long_dwell_excludes"] == "ad",
            floor=confidence["floor"],
            full_from_ms=confidence["full_from_ms"],
            full_to_ms=confidence["full_to_ms"],
            unknown=confidence["unknown"],
            negatives_per_user=mining["negatives_per_user"],
        )

    @property
    def positive_weights(self) -> dict[int, float]:
        """Weights of the positive kinds by their codes."""
        return {kind.code: kind.weight for kind in self.kinds if kind.is_positive}

    @property
    def engagements_from_us(self) -> int:
        """The first moment whose engagements concern an impression of the window."""
        return self.start_us - max(self.guard_before_us, self.clock_skew_us)

    @property
    def engagements_to_us(self) -> int:
        """The last moment whose engagements are known and concern an impression of the window."""
        reach = max(self.guard_after_us, *(kind.attribution_us for kind in self.kinds))
        return min(self.end_us + reach, self.as_of_us)

    @property
    def shortest_ms(self) -> int:
        """The dwell where the ramp up of confidence begins."""
        return min(self.min_dwell_ms, self.full_from_ms)

    @property
    def longest_ms(self) -> int:
        """The dwell where the ramp down of confidence ends."""
        return max(self.max_dwell_ms, self.full_to_ms)

    @property
    def rise_ms(self) -> int:
        """Length of the ramp up."""
        return max(self.full_from_ms - self.shortest_ms, 1)

    @property
    def fall_ms(self) -> int:
        """Length of the ramp down."""
        return max(self.longest_ms - self.full_to_ms, 1)


def write_rules(path: Path, mining: Mapping[str, Any], start_us: int, end_us: int, as_of_us: int) -> None:
    """Write the options of ``mining``, all of them, and the window, in microseconds since the epoch."""
    window = {"start_us": start_us, "end_us": end_us, "as_of_us": as_of_us}
    path.write_text(json.dumps({"mining": dict(mining), "window": window}, indent=1), encoding="utf-8")


def leaves(mining: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``mining`` by their dotted names, those of its sections too."""
    found: dict[str, Any] = {}
    for name, value in mining.items():
        if name in ("guard", "examined", "confidence", "exposure"):
            found |= {f"{name}.{inner}": own for inner, own in value.items()}
        else:
            found[name] = value
    return found


def not_followed(mining: Mapping[str, Any]) -> dict[str, Any]:
    """The options whose values no peer follows."""
    options = leaves(mining)
    return {
        name: value
        for name, value in options.items()
        if name not in FOLLOWED | WITHOUT_EFFECT and (name not in FIXED or value != FIXED[name])
    }


def _or(value: int | None, unset: int) -> int:
    return unset if value is None else value


def num_threads(text: str) -> int:
    """Parse a command-line option: a whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number, 1 or more, found {text!r}")
    return int(text)
