"""Days that the gate holds: complete copies in ``held/ds=…``, published from there without mining again."""

from __future__ import annotations

from contextlib import suppress
from datetime import date

from scrollpast.config import Config
from scrollpast.documents.health import Breach, GateVerdict, shown
from scrollpast.errors import UserError
from scrollpast.job_commands import job_command
from scrollpast.mining.gate.bands import spell_days
from scrollpast.privacy.forgetting import publish_obeying
from scrollpast.privacy.suppression import HELD_FOLDER
from scrollpast.shards import filesystem
from scrollpast.shards.manifest import (
    DayChangedError,
    Manifest,
    list_day,
    published_manifest,
    remove_unpublished,
    removed_on_failure,
    sweep_orphans,
    unpublish,
)


def folder_of_days(config: Config) -> str:
    """Folder of published days.

    Raises:
        UserError: no place is configured.
    """
    if config.output.path is None:
        raise UserError(
            "output.path",
            expected="a folder for the published days",
            found="none",
            remedy="pass --out PATH or set output.path in the configuration",
        )
    return config.output.path


def day_uri(config: Config, day: date) -> str:
    """Folder of a published day, whether it exists or not.

    Raises:
        UserError: no place is configured.
    """
    return filesystem.join(folder_of_days(config), f"ds={day.isoformat()}")


def held_uri(config: Config, day: date) -> str:
    """Folder of a held day, whether it exists or not; readers of published days ignore this folder.

    Raises:
        UserError: no place is configured.
    """
    return filesystem.join(folder_of_days(config), HELD_FOLDER, f"ds={day.isoformat()}")


def grace_s(config: Config) -> float:
    """Seconds for which a file that no manifest names is kept."""
    return config.output.orphan_grace_h * 3600


def hold_day(config: Config, day: date, manifest: Manifest) -> str:
    """Copy a day's files to its held folder, and write the manifest there last.

    Returns:
        The URI of the held day.

    Raises:
        DayChangedError: another job held the day, or took users out of the held one, meanwhile.
    """
    to_uri = held_uri(config, day)
    replaced = published_manifest(to_uri)
    _copy(day_uri(config, day), to_uri, manifest)
    manifest = publish_obeying(to_uri, manifest, replacing=replaced)
    sweep_orphans(to_uri, manifest, older_than_s=grace_s(config))
    return to_uri


def discard(uri: str) -> None:
    """Remove a held day, if it exists, after its publication. A day that was held again meanwhile stays."""
    manifest = published_manifest(uri)
    if manifest is None:
        return
    with suppress(DayChangedError):
        # The manifest is removed first: a day without a manifest cannot be released in part.
        unpublish(uri, manifest)
        remove_unpublished(uri, list_day(uri))


def release(config: Config, day: date, *, overwrite: bool = False) -> Manifest:
    """Publish a held day unchanged; returns its manifest.

    The manifest is the held manifest, unless users were added to the suppression list since.

    A release that is interrupted can be run again.

    Raises:
        UserError: no day is held, or it is published already and ``overwrite`` is not given.
        DayChangedError: another job replaced the published day, or released the held one, meanwhile.
    """
    to_uri, from_uri = day_uri(config, day), held_uri(config, day)
    replaced = published_manifest(to_uri)
    manifest = published_manifest(from_uri)
    if manifest is None:
        raise UserError(
            from_uri,
            expected="a day held by the gate",
            found="no held day" if replaced is None else "no held day; the day is published",
            remedy="mine the day without --release",
        )
    if replaced is not None and not overwrite:
        raise UserError(
            to_uri,
            expected="an unpublished day",
            found="a published day and a held day",
            remedy="pass --overwrite to replace the published day by the held day",
        )
    with removed_on_failure(to_uri):
        try:
            _copy(from_uri, to_uri, manifest)
        except FileNotFoundError as error:
            raise DayChangedError(
                from_uri,
                expected="the held day as this run read it",
                found="missing files: another job released or changed the held day meanwhile",
                remedy="run again",
            ) from error
        manifest = publish_obeying(to_uri, manifest, replacing=replaced)
    sweep_orphans(to_uri, manifest, older_than_s=grace_s(config))
    discard(from_uri)
    return manifest


def why_held(config: Config, day: date, verdict: GateVerdict, *, overwrite: bool) -> dict[str, str]:
    """Parts of the error of a held day: the metric, its limits, and the remedy."""
    first, *others = verdict.breaches
    also = f"; and {', '.join(map(str, others))}" if others else ""
    options = ("--release", "--overwrite") if overwrite else ("--release",)
    command = job_command("mine_negatives", "--date", day, "--out", config.output.path, *options)
    return {
        "place": held_uri(config, day),
        "expected": f"{first.figure} {first.expected} ({_held_against(first, verdict)})",
        "found": f"{shown(first.figure, first.value)}{also}",
        "remedy": f"nothing was published; mend the logs and mine the day again, or publish it as it is: {command}",
    }


def _held_against(breach: Breach, verdict: GateVerdict) -> str:
    if breach.median is None:
        return f"gate.bounds.{breach.figure}"
    median, days = shown(breach.figure, breach.median), verdict.trailing_days
    return f"the median of {len(days)} trailing days, {spell_days(days)}, is {median}"


def _copy(from_uri: str, to_uri: str, manifest: Manifest) -> None:
    """Copy the files that a manifest names; an existing file has the same content, because names are content hashes."""
    store, from_folder = filesystem.resolve(from_uri)
    to_folder = filesystem.resolve(to_uri)[1]
    for path in manifest.paths:
        if not filesystem.exists(store, filesystem.join(to_folder, path)):
            filesystem.copy_file(store, filesystem.join(from_folder, path), filesystem.join(to_folder, path))
