"""Days that the gate holds: kept whole in ``held/ds=…``, and published from there without being mined again."""

from __future__ import annotations

from contextlib import suppress
from datetime import date

from scrollpast.config import Config
from scrollpast.errors import UserError
from scrollpast.job_commands import job_command
from scrollpast.mining.gate.bands import Breach, Verdict, shown, spell_days
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
    """The folder of a day that is published, or may be.

    Raises:
        UserError: no place is configured.
    """
    return filesystem.join(folder_of_days(config), f"ds={day.isoformat()}")


def held_uri(config: Config, day: date) -> str:
    """The folder of a day that is held, or may be; no reader of published days looks there.

    Raises:
        UserError: no place is configured.
    """
    return filesystem.join(folder_of_days(config), HELD_FOLDER, f"ds={day.isoformat()}")


def grace_s(config: Config) -> float:
    """Seconds that a file no manifest names is left alone."""
    return config.output.orphan_grace_h * 3600


def hold_day(config: Config, day: date, manifest: Manifest) -> str:
    """Copy what was written of a day, and write its manifest there last.

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
    """Remove a held day that is published by now; none is there, most often. One that is held anew meanwhile stays."""
    manifest = published_manifest(uri)
    if manifest is None:
        return
    with suppress(DayChangedError):
        # Its manifest first: without it nothing can be released half.
        unpublish(uri, manifest)
        remove_unpublished(uri, list_day(uri))


def release(config: Config, day: date, *, overwrite: bool = False) -> Manifest:
    """Publish a held day as it is; returns its manifest.

    It is the very manifest that is held, unless users came on the suppression list since.

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
            expected="a day that the gate holds",
            found="none" if replaced is None else "none, and the day is published",
            remedy="mine the day without --release",
        )
    if replaced is not None and not overwrite:
        raise UserError(
            to_uri,
            expected="an unpublished day",
            found="a published one beside the one that is held",
            remedy="pass --overwrite to replace it by the one that is held",
        )
    with removed_on_failure(to_uri):
        try:
            _copy(from_uri, to_uri, manifest)
        except FileNotFoundError as error:
            raise DayChangedError(
                from_uri,
                expected="the held day as this run read it",
                found="files of it are gone: another job released it, or changed it, meanwhile",
                remedy="run again",
            ) from error
        manifest = publish_obeying(to_uri, manifest, replacing=replaced)
    sweep_orphans(to_uri, manifest, older_than_s=grace_s(config))
    discard(from_uri)
    return manifest


def why_held(config: Config, day: date, verdict: Verdict, *, overwrite: bool) -> dict[str, str]:
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


def _held_against(breach: Breach, verdict: Verdict) -> str:
    if breach.median is None:
        return f"gate.bounds.{breach.figure}"
    median = shown(breach.figure, breach.median)
    return f"the median of {len(verdict.days)} trailing days, {spell_days(verdict.days)}, is {median}"


def _copy(from_uri: str, to_uri: str, manifest: Manifest) -> None:
    """Copy the files that a manifest names; those that are there are the same, as their names say."""
    store, from_folder = filesystem.resolve(from_uri)
    to_folder = filesystem.resolve(to_uri)[1]
    for path in manifest.paths:
        if not filesystem.exists(store, filesystem.join(to_folder, path)):
            filesystem.copy_file(store, filesystem.join(from_folder, path), filesystem.join(to_folder, path))
