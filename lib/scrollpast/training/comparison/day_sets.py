"""Published days of a comparison: several sets with the same anchors, mined in different ways."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from scrollpast.config import ComparisonOptions
from scrollpast.config.comparison_options import DaySet
from scrollpast.errors import UserError
from scrollpast.job_commands import mine_command
from scrollpast.shards.manifest import Manifest, day_folder, read_manifest
from scrollpast.training.comparison.arms import Arm


@dataclass(frozen=True)
class DaySets:
    """Sets of days by name, each in the order of time, and the days to evaluate on."""

    sets: Mapping[str, tuple[str, ...]]
    """Days by set, in the order of `DaySet`."""
    evaluation: tuple[str, ...]
    notes: tuple[str, ...]
    """Differences between sets in fields that should be equal."""

    @property
    def every_day(self) -> list[str]:
        """Days of all sets."""
        return [day for days in self.sets.values() for day in days]

    @property
    def history(self) -> tuple[str, ...]:
        """Days of the users' histories in the evaluation, the same for all arms."""
        return next(iter(self.sets.values()))

    def of(self, arm: Arm) -> tuple[str, ...]:
        """Days that an arm trains on."""
        return next(self.sets[name] for name in arm.days if name in self.sets)


def parse_day_sets(words: Sequence[str]) -> dict[str, list[str]]:
    """Parse words such as ``filtered=PATH,PATH``; days of a repeated set are added.

    Raises:
        UserError: a word has another form, or names an unknown set.
    """
    sets: dict[str, list[str]] = {}
    known = get_args(DaySet)
    for word in words:
        name, equals, paths = word.partition("=")
        folders = [path for path in paths.split(",") if path]
        if not equals or name not in known or not folders:
            raise UserError(
                f"--days {word}",
                expected=f"SET=PATH,PATH with one of {', '.join(known)}",
                found=repr(word),
                remedy="write for example --days filtered=days/ds=2026-11-20,days/ds=2026-11-21",
            )
        sets.setdefault(name, []).extend(folders)
    return sets


def read_day_sets(options: ComparisonOptions) -> DaySets:
    """Read the manifests of a configuration's days.

    Raises:
        UserError: no days are given, a day is not published, or the windows of the sets differ: arms trained on
            different days differ in more than their negatives.
    """
    named: Mapping[str, Sequence[str]] = options.days  # type: ignore[assignment]  # its keys are narrower
    sets = {name: _ordered(named[name]) for name in get_args(DaySet) if named.get(name)}
    for place, days in (("--days", sets), ("--evaluate", options.evaluation_days)):
        if not days:
            raise UserError(
                place,
                expected="folders ds=… of published days",
                found="none",
                remedy="see the section comparison of conf/base.yaml, and mine days: "
                + mine_command("DATE", 1, "FOLDER", {}),
            )
    manifests = {name: [read_manifest(day) for day in days] for name, days in sets.items()}
    first, *others = manifests
    windows = {name: _windows(found) for name, found in manifests.items()}
    for name in others:
        if windows[name] != windows[first]:
            raise UserError(
                f"days of the set {name}",
                expected=f"the windows of the set {first}: {_told(windows[first])}",
                found=_told(windows[name]),
                remedy="mine the same days for every set",
            )
    positives = {name: sum(day.num_positives for day in found) for name, found in manifests.items()}
    notes = [
        f"the set {name} has {positives[name]:,} positives, the set {first} {positives[first]:,}: "
        "arms on the two differ in more than their negatives"
        for name in others
        if positives[name] != positives[first]
    ]
    return DaySets(sets, _ordered(options.evaluation_days), tuple(notes))


def content_of(days: Sequence[str]) -> list[str]:
    """Digests of the days' contents: windows and shards, without their places."""
    contents = []
    for day in days:
        manifest = read_manifest(day)
        shards = [shard.sha256 for shard in manifest.shards]
        contents.append(digest([manifest.ds, manifest.window_start, manifest.window_end, shards]))
    return contents


def digest(value: object) -> str:
    """First 16 hex digits of the SHA-256 of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _ordered(days: Sequence[str]) -> tuple[str, ...]:
    folders = dict.fromkeys(day_folder(day) for day in days)
    return tuple(sorted(folders, key=lambda day: (read_manifest(day).window_start, day)))


def _windows(manifests: Sequence[Manifest]) -> list[tuple[str, str]]:
    return [(manifest.window_start, manifest.window_end) for manifest in manifests]


def _told(windows: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{start} to {end}" for start, end in windows)
