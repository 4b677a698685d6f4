"""Remove days that are older than users were told that what is known of them is kept."""

from __future__ import annotations

from datetime import date, timedelta

from scrollpast.errors import UserError
from scrollpast.privacy.forgetting import published_days
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import read_manifest, unpublish


def days_to_sweep(folder_uri: str, keep_days: int | None, today: date) -> list[str]:
    """The days below a folder, held ones too, whose last day is more than ``keep_days`` before ``today``.

    Raises:
        UserError: no number of days is configured, or no day is published there.
    """
    if keep_days is None:
        raise UserError(
            "privacy.keep_days",
            expected="how many days are kept",
            found="none",
            remedy="set it in the configuration, or pass --set privacy.keep_days=N",
        )
    last_kept = today - timedelta(days=keep_days)
    return [
        uri for uri in published_days(folder_uri) if date.fromisoformat(read_manifest(uri).ds) < last_kept
    ]


def sweep_day(day_uri: str) -> int:
    """Remove a day: its manifest first, so that nobody begins to read what is going; returns the number of files.

    Raises:
        DayChangedError: another job replaced the day meanwhile; it stays.
    """
    store, folder = files.resolve(day_uri)
    unpublish(day_uri, read_manifest(day_uri))
    left = files.list_files(store, folder)
    for info in left:
        files.delete_file(store, info.path)
    if not files.is_object_store(store):
        store.delete_dir(folder)
    return 1 + len(left)
