"""Presets of `LogShape`: worlds that differ in strength of taste, exposure and positives per user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scrollpast.registry import Registry


@dataclass(frozen=True)
class LogWorld:
    """A preset of `LogShape`."""

    name: str
    about: str
    """One line for tables."""
    settings: Mapping[str, float]
    """Values by the name of a parameter; all others keep their default."""


# With fewer users, a smaller user_skew keeps the most active ones below mining.max_impressions_per_user_day.
_REVEALED = {"feature_purity": 0.7, "watched_ads": 30.0, "watched_purity": 0.9, "bot_rows": 0.001}

WORLDS = Registry(
    "world",
    (
        LogWorld("plain", "defaults: weak tastes, revealed by positives only", {}),
        LogWorld(
            "tastes",
            "strong tastes, revealed by features and watched ads; many ads in each user's pool",
            {
                **_REVEALED,
                "impressions_per_user": 600,
                "user_skew": 0.6,
                "relevance_spread": 6.0,
                "pool_ads": 512,
                "pool_days": 3,
            },
        ),
        LogWorld(
            "campaigns",
            "exposure decided by popularity and by few campaigns for each user",
            {
                **_REVEALED,
                "impressions_per_user": 300,
                "user_skew": 0.8,
                "relevance_spread": 4.0,
                "ad_skew": 1.2,
                "pool_ads": 64,
                "ranker_noise": 1.5,
            },
        ),
        LogWorld(
            "sparse",
            "strong tastes; few impressions and positives per user",
            {
                **_REVEALED,
                "impressions_per_user": 60,
                "relevance_spread": 6.0,
                "pool_ads": 256,
                "pool_days": 3,
                "watched_ads": 12.0,
            },
        ),
    ),
)
"""Values of ``simulate_logs.py --world``."""
