"""Trailing days of a day: the day metrics in the manifests of the published days before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from scrollpast.config import Config
from scrollpast.documents.health import Health
from scrollpast.errors import CorruptShardError, UserError
from scrollpast.mining.publication import what_decided, what_decides
from scrollpast.mining.rules.rules import DAY_US, Window, epoch_us
from scrollpast.shards import filesystem
from scrollpast.shards.manifest import Manifest, read_manifest

_ANY_BYTES = ("seed", "num_buckets")
"""Options that change a day's bytes and none of its metrics."""


@dataclass(frozen=True)
class Trailing:
    """The trailing days of one day."""

    days: Mapping[str, Health]
    """Metrics of the comparable days, by day (``ds``), in order."""
    sketches: tuple[tuple[int, ...], ...]
    """Sketches of the impressions of all days whose windows do not overlap the day's window."""
    left_out: Mapping[str, int]
    """Other published days, by the reason why they are not comparable."""

    def note(self, config: Config) -> str | None:
        """Note where the days are too few for a band."""
        options = config.gate
        if len(self.days) >= options.min_trailing_days:
            return None
        reasons = "".join(f"; {count} {reason}" for reason, count in self.left_out.items())
        return (
            f"the gate checked fixed limits only: {len(self.days)} of the last {options.trailing_days} days are "
            f"published and comparable, {options.min_trailing_days} are needed{reasons}"
        )


def read_trailing(out_uri: str, last_day: date, window: Window, health: Health, config: Config) -> Trailing:
    """Read the manifests of the days before ``last_day``, as far back as the gate looks.

    Args:
        out_uri: folder of the published days.
        health: the day's metrics; days are comparable that were mined about as long after their end.
    """
    num_days = (window.end_us - window.start_us) // DAY_US
    dates = [last_day - timedelta(days=back) for back in range(1, config.gate.trailing_days * num_days + 1)]
    uris = [filesystem.join(out_uri, f"ds={day.isoformat()}") for day in reversed(dates)]
    with ThreadPoolExecutor(16) as pool:
        manifests = list(pool.map(_read, uris))
    days: dict[str, Health] = {}
    sketches, left_out = [], Counter[str]()
    for found in manifests:
        if found is None:
            continue
        past = _health_of(found) if isinstance(found, Manifest) else None
        if past is None or not isinstance(found, Manifest):
            left_out["whose manifest cannot be read or holds no metrics"] += 1
            continue
        start_us, end_us = (
            epoch_us(datetime.fromisoformat(text)) for text in (found.window_start, found.window_end)
        )
        if end_us <= window.start_us:
            sketches.append(past.sketch)
        if _figures_follow_from(what_decided(found)) != _figures_follow_from(what_decides(config)):
            left_out["mined with other options"] += 1
        elif end_us - start_us != num_days * DAY_US:
            left_out["with windows of another length"] += 1
        elif abs(past.lag_h - health.lag_h) > config.gate.max_lag_difference_h:
            left_out["mined sooner or later after their end"] += 1
        else:
            days[found.ds] = past
    return Trailing(days, tuple(sketches), left_out)


def _read(uri: str) -> Manifest | Exception | None:
    """Manifest of a day; None where the day is not published; the exception where the manifest cannot be read."""
    try:
        return read_manifest(uri)
    except UserError:
        return None
    except (CorruptShardError, OSError) as error:
        return error


def _health_of(manifest: Manifest) -> Health | None:
    try:
        return None if manifest.health is None else Health.model_validate(manifest.health)
    except ValueError:
        return None


def _figures_follow_from(options: Any) -> Any:
    if not isinstance(options, dict):
        return options
    return {name: value for name, value in options.items() if name not in _ANY_BYTES}
