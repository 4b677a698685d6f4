"""Days that the gate holds: kept whole in ``held/ds=…``, and published from there without being mined again."""

from __future__ import annotations

from datetime import date

from scrollpast.config import Config
from scrollpast.errors import UserError
from scrollpast.job_commands import job_command
from scrollpast.mining.gate import Breach, Verdict, shown, spell_days
from scrollpast.shards import filesystem
from scrollpast.shards.manifest import (
    MANIFEST_NAME,
    Manifest,
    is_published,
    publish_manifest,
    published_manifest,
    read_manifest,
    sweep_orphans,
)


def folder_of_days(config: Config) -> str:
    """Where days are published.

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
    return filesystem.join(folder_of_days(config), "held", f"ds={day.isoformat()}")


def grace_s(config: Config) -> float:
    """Seconds that a file no manifest names is left alone."""
    return config.output.orphan_grace_h * 3600


def keep_aside(config: Config, day: date, manifest: Manifest) -> str:
    """Copy what was written of a day, and write its manifest there last.

    The files where the day would have been published stay, invisible without a manifest, until they are published
    or swept: another run may be writing the same ones.

    Returns:
        The URI of the held day.
    """
    to_uri = held_uri(config, day)
    _copy(day_uri(config, day), to_uri, manifest)
    publish_manifest(to_uri, manifest, replace=True)
    sweep_orphans(to_uri, manifest, older_than_s=grace_s(config))
    return to_uri


def discard(uri: str) -> None:
    """Remove a held day that is published by now; none is there, most often."""
    if is_published(uri):
        store, folder = filesystem.resolve(uri)
        # Its manifest first: without it nothing can be released half.
        filesystem.delete_file(store, filesystem.join(folder, MANIFEST_NAME))
        for info in filesystem.list_files(store, folder):
            filesystem.delete_file(store, info.path)


def release(config: Config, day: date, *, overwrite: bool = False) -> Manifest:
    """Publish a held day as it is, with the very manifest that is held; returns it.

    A release that is interrupted can be run again.

    Raises:
        UserError: no day is held, or it is published already and ``overwrite`` is not given.
    """
    to_uri, from_uri = day_uri(config, day), held_uri(config, day)
    if not is_published(from_uri):
        raise UserError(
            from_uri,
            expected="a day that the gate holds",
            found="none, and the day is published" if is_published(to_uri) else "none",
            remedy="mine the day without --release",
        )
    if is_published(to_uri) and not overwrite:
        raise UserError(
            to_uri,
            expected="an unpublished day",
            found="a published one beside the one that is held",
            remedy="pass --overwrite to replace it by the one that is held",
        )
    replaced = published_manifest(to_uri)
    manifest = read_manifest(from_uri)
    _copy(from_uri, to_uri, manifest)
    publish_manifest(to_uri, manifest, replacing=replaced)
    sweep_orphans(to_uri, manifest, older_than_s=grace_s(config))
    discard(from_uri)
    return manifest


def why_held(config: Config, day: date, verdict: Verdict, *, overwrite: bool) -> dict[str, str]:
    """Which figure is where it should not be, what it was held against, and how to go on: the parts of an error."""
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
