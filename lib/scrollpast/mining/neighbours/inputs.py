"""Inputs of the neighbour job: days and export, read and checked for compatibility before any task starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from scrollpast.config import Neighbours
from scrollpast.errors import UserError
from scrollpast.mining.neighbours.shard_tasks import DayShards
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import Manifest, day_folder, read_manifest
from scrollpast.shards.reader import published_shards


class Towers(Protocol):
    """Description of exported towers for the driver, which does not open them: an ``Export`` of training's serving."""

    @property
    def uri(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def about(self) -> Mapping[str, Any]: ...
    @property
    def num_ads(self) -> int: ...
    @property
    def user_features(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class NeighbourDay:
    """A published day, and the folder of its day with neighbours (empty: only the day's engagements are used)."""

    uri: str
    manifest: Manifest
    out_uri: str

    @property
    def shards(self) -> DayShards:
        return DayShards(
            self.manifest.num_buckets,
            self.manifest.records,
            tuple(published_shards(self.uri, self.manifest)),
        )


def read_days(uris: Sequence[str], out: str | None, but: Sequence[NeighbourDay] = ()) -> list[NeighbourDay]:
    """Published days, each once.

    Args:
        uris: folders of days, or their manifests.
        out: folder that receives the days with neighbours; None = these days get no neighbours.
        but: days that are left out.

    Raises:
        UserError: a day is not published, its output folder is its own folder, or two days have the same date.
    """
    days: list[NeighbourDay] = []
    for uri in map(day_folder, uris):
        if any(files.resolve(uri) == files.resolve(other.uri) for other in (*days, *but)):
            continue
        manifest = read_manifest(uri)
        day = NeighbourDay(uri, manifest, "" if out is None else files.join(out, f"ds={manifest.ds}"))
        if out is not None:
            _check_place(day, days, out)
        days.append(day)
    return days


def _check_place(day: NeighbourDay, before: Sequence[NeighbourDay], out: str) -> None:
    if files.resolve(day.uri) == files.resolve(day.out_uri):
        raise UserError(
            f"--out {out}",
            expected="a folder other than the day's own",
            found=f"the folder of {day.uri}",
            remedy="name a folder for days with neighbours, such as negatives_with_neighbours",
        )
    if any(day.out_uri == other.out_uri for other in before):
        raise UserError(
            day.uri,
            expected=f"one day ds={day.manifest.ds}",
            found="a second one",
            remedy="mine the days one after the other, each with its own --out",
        )


def check_fit(options: Neighbours, days: Sequence[NeighbourDay], towers: Towers) -> None:
    """Check that the export has ads of the wanted ranks, and the days the features of its user tower.

    Raises:
        UserError: the export has too few ads, or a day lacks a feature.
    """
    if towers.num_ads < options.first_rank:
        raise UserError(
            "neighbours.first_rank",
            expected=f"at most {towers.num_ads:,}, the ads of {towers.uri}",
            found=f"{options.first_rank:,}",
            remedy="lower first_rank and last_rank: the catalogue has no ad of this rank",
        )
    for day in days:
        missing = sorted(set(towers.user_features) - set(day.manifest.user_features))
        if missing:
            raise UserError(
                f"{day.uri}/manifest.json, user_features",
                expected=f"{', '.join(missing)}, which the user tower of {towers.uri} reads",
                found=", ".join(day.manifest.user_features) or "none",
                remedy="mine the day with them in mining.user_features, or export towers trained on such days",
            )
