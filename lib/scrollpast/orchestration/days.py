"""State of a day: log complete, published, held by the gate."""

from __future__ import annotations

from datetime import date
from enum import Enum

from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import is_published


class DayState(Enum):
    """A day between its log and its readers."""

    MISSING = "missing"
    """Neither published nor held"""
    PUBLISHED = "published"
    HELD = "held"
    """The gate holds the last mined version; an older version may be published"""


def day_uri(negatives: str, day: date) -> str:
    """Folder of a published day."""
    return files.join(negatives, f"ds={day}")


def held_uri(negatives: str, day: date) -> str:
    """Folder of a day held by the gate; publishing the day removes its manifest."""
    return files.join(negatives, "held", f"ds={day}")


def state_of(negatives: str, day: date) -> DayState:
    """State of a day.

    Args:
        negatives: the folder of the published days.
    """
    if is_published(held_uri(negatives, day)):
        return DayState.HELD
    return DayState.PUBLISHED if is_published(day_uri(negatives, day)) else DayState.MISSING


def has_arrived(table: str, day: date, day_folder: str, mark: str) -> bool:
    """True if the log of a day is complete.

    Args:
        table: the folder of impressions or of engagements.
        day_folder: format of the day's folder in the table, for strftime.
        mark: name of the file that marks a complete folder; empty: any visible non-empty file is enough.
    """
    filesystem, folder = files.resolve(files.join(table, day.strftime(day_folder)))
    if mark:
        return files.exists(filesystem, files.join(folder, mark))
    # In Spark and Hadoop, names that begin with '_' or '.' are markers and unfinished files.
    return any(
        info.size and info.base_name[:1] not in ("_", ".") for info in files.list_files(filesystem, folder)
    )
