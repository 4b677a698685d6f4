"""Removal of days that are older than the retention period ``privacy.keep_days``."""

from __future__ import annotations

from datetime import date, timedelta

from scrollpast.errors import UserError
from scrollpast.privacy.forgetting import published_days
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import MANIFEST_NAME, read_manifest, remove_unpublished, unpublish


def days_to_sweep(folder_uri: str, keep_days: int | None, today: date) -> list[str]:
    """URIs of days below a folder, including held days, whose last day is more than ``keep_days`` before ``today``.

    Raises:
        UserError: no number of days is configured, or no day is published there.
    """
    if keep_days is None:
        raise UserError(
            "privacy.keep_days",
            expected="a number of days",
            found="none",
            remedy="set privacy.keep_days in the configuration, or pass --set privacy.keep_days=N",
        )
    last_kept = today - timedelta(days=keep_days)
    return [
        uri for uri in published_days(folder_uri) if date.fromisoformat(read_manifest(uri).ds) < last_kept
    ]


def sweep_day(day_uri: str) -> int:
    """Remove a day: its manifest first, so that no reader starts on it; returns the number of removed files.

    Raises:
        DayChangedError: another job replaced the day meanwhile; the new day stays.
    """
    store, folder = files.resolve(day_uri)
    manifest = read_manifest(day_uri)
    # Only files listed before: a day that another job publishes meanwhile keeps its files.
    there = [info.path[len(folder) :].lstrip("/") for info in files.list_files(store, folder)]
    unpublish(day_uri, manifest)
    remove_unpublished(day_uri, set(there) - {MANIFEST_NAME})
    return len(there)
