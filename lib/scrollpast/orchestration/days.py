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
    """The last mined version is held by the gate, whether or not an older version is published"""


def day_uri(negatives: str, day: date) -> str:
    """The folder of a published day."""
    return files.join(negatives, f"ds={day}")


def held_uri(negatives: str, day: date) -> str:
    """The folder of a day that the gate held; publishing it removes its manifest."""
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
    """Whether the log of a day is there.

    Args:
        table: the folder of impressions or of engagements.
        day_folder: the day's folder in it, as strftime writes it.
        mark: the file that says it is complete; empty: any visible file that is not empty will do.
    """
    filesystem, folder = files.resolve(files.join(table, day.strftime(day_folder)))
    if mark:
        return files.exists(filesystem, files.join(folder, mark))
    # Names that begin with '_' or '.' are marks and half-written files, as Spark and Hadoop take them.
    return any(
        info.size and info.base_name[:1] not in ("_", ".") for info in files.list_files(filesystem, folder)
    )
