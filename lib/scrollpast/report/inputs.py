"""Input of a report: days with their files, runs, a comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from pyarrow import fs

from scrollpast.config import Privacy
from scrollpast.documents.comparison import ComparisonDocument
from scrollpast.documents.document import checked, read_document, read_text
from scrollpast.documents.evaluation import Metrics
from scrollpast.documents.examination import EstimateDocument, ExaminationDocument
from scrollpast.documents.exposure import ExposureDocument
from scrollpast.documents.health import Health
from scrollpast.documents.purity import Purity
from scrollpast.errors import CorruptShardError, UserError
from scrollpast.job_commands import job_command, mine_command, program_command, table_options
from scrollpast.report.examination_table import read_examination_table
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import Manifest, day_folder, read_manifest

MOST_DAYS = 92
"""Largest number of days beside the reported day; the latest days are used."""
_EXAMINATION, _COMPARISON, _CURVE, _METRICS = (
    "examination.json",
    "comparison.json",
    "curve.jsonl",
    "metrics.json",
)


@dataclass(frozen=True)
class ReportedDay:
    """Published or held day."""

    uri: str
    manifest: Manifest
    exposure: ExposureDocument | None
    health: Health | None

    @property
    def mined_again(self) -> str:
        """Command that mines the day again."""
        return self._mine_command(self.manifest.ds, "--overwrite")

    @property
    def day_before(self) -> str:
        """Command that mines the day before into the same folder."""
        return self._mine_command((date.fromisoformat(self.manifest.ds) - timedelta(days=1)).isoformat())

    @property
    def examination(self) -> str:
        """Command that estimates the examination of the day."""
        words = table_options(self.manifest.config, "impressions", "engagements")
        return job_command("estimate_examination", "--date", self.manifest.ds, *words, "--out", self._folder)

    @property
    def revocation(self) -> str:
        """Command that searches for engagements that contradict the negatives of the day."""
        return job_command("revoke_negatives", self.uri, *table_options(self.manifest.config, "engagements"))

    def _mine_command(self, ds: str, *options: str) -> str:
        window = [
            datetime.fromisoformat(text) for text in (self.manifest.window_start, self.manifest.window_end)
        ]
        return mine_command(ds, (window[1] - window[0]).days, self._folder, self.manifest.config, *options)

    @property
    def _folder(self) -> str:
        """Folder of the published days."""
        return files.absolute(self.uri).rstrip("/").rpartition("/")[0].removesuffix("/held")

    @property
    def options(self) -> Mapping[str, Any]:
        """Section ``mining`` of the configuration that the day was mined with."""
        mining = self.manifest.config.get("mining")
        return mining if isinstance(mining, dict) else {}

    @property
    def examined(self) -> Mapping[str, Any]:
        """Section ``mining.examined`` of the day's configuration."""
        examined = self.options.get("examined")
        return examined if isinstance(examined, dict) else {}


@dataclass(frozen=True)
class ExaminationInput:
    """Curves of examination: every estimate, or only the table used in mining."""

    uri: str
    estimates: ExaminationDocument | None
    table: Mapping[str, EstimateDocument]


@dataclass(frozen=True)
class TrainedRun:
    """Training run: the points of its curve, and the evaluation of its last evaluated checkpoint."""

    name: str
    uri: str
    points: Sequence[Mapping[str, float]]
    metrics: Metrics | None


@dataclass(frozen=True)
class Inputs:
    """All inputs of a report."""

    day: ReportedDay
    days: Sequence[Manifest]
    """Days of the trend, in order, including the reported day"""
    left_out: Sequence[str]
    """Folders beside the day whose manifests cannot be read"""
    are_days_named: bool
    """True: the days were named; False: the days were found beside the reported day"""
    examined: ExaminationInput | None
    runs: Sequence[TrainedRun]
    comparison: ComparisonDocument | None
    purity: Purity | None
    floor: int
    """Smallest number of users, or ads, of a shown figure"""


def read_inputs(
    days: Sequence[str],
    runs: Sequence[str],
    comparison: str | None,
    examination: str | None,
    purity: str | None,
    floor: int | None = None,
) -> Inputs:
    """Read the inputs named on the command line. The report is on the latest day, whose options hold the default floor.

    Raises:
        UserError: an input is missing or malformed.
    """
    if floor is not None and floor < 1:
        raise UserError(
            "--floor", expected="1 or more", found=str(floor), remedy="pass --floor 1 to show every figure"
        )
    found = {folder: _read_day(folder) for folder in dict.fromkeys(map(day_folder, days))}
    uri, manifest = max(found.items(), key=lambda item: (item[1].ds, item[0]))
    others, left_out = ([], []) if len(found) > 1 else _beside(uri, manifest.ds)
    day = ReportedDay(uri, manifest, _exposure_of(uri, manifest), _health_of(uri, manifest))
    trend = sorted([*found.values(), *others], key=lambda one: one.ds)
    return Inputs(
        day=day,
        days=trend,
        left_out=left_out,
        are_days_named=len(found) > 1,
        examined=_examination_of(examination, day),
        runs=_read_runs(runs),
        comparison=_read_comparison(comparison),
        purity=None
        if purity is None
        else read_document(
            Purity, purity, "run it again: " + program_command("scripts/bench/bench_quality.py")
        ),
        floor=floor or _floor_of(manifest),
    )


def _floor_of(manifest: Manifest) -> int:
    """Floor in the day's configuration; days of older versions have the default."""
    privacy = manifest.config.get("privacy")
    found = privacy.get("report_floor") if isinstance(privacy, dict) else None
    return found if isinstance(found, int) and found >= 1 else Privacy().report_floor


def _read_day(uri: str) -> Manifest:
    try:
        return read_manifest(uri)
    except CorruptShardError as error:
        raise UserError(
            error.place, expected=error.expected, found=error.found, remedy=error.remedy
        ) from error


def _beside(uri: str, ds: str) -> tuple[list[Manifest], list[str]]:
    """Other published days of the folder, and names of days that cannot be read."""
    parent = files.absolute(uri).rpartition("/")[0]
    parent = parent.removesuffix("/held")
    filesystem, folder = files.resolve(parent)
    selector = fs.FileSelector(folder, allow_not_found=True)
    names = sorted(info.base_name for info in filesystem.get_file_info(selector))
    days = [name for name in names if name.startswith("ds=") and name != f"ds={ds}"]
    found, left_out = [], []
    for name in days[-MOST_DAYS:]:
        try:
            found.append(read_manifest(files.join(parent, name)))
        except UserError:
            continue  # not published
        except (CorruptShardError, OSError):
            left_out.append(name)
    return found, left_out


def _exposure_of(uri: str, manifest: Manifest) -> ExposureDocument | None:
    if manifest.exposure_file is None:
        return None
    place = files.join(uri, manifest.exposure_file)
    return read_document(ExposureDocument, place, "mine the day again with --overwrite")


def _health_of(uri: str, manifest: Manifest) -> Health | None:
    if manifest.health is None:
        return None
    return checked(Health, manifest.health, f"{uri}/manifest.json, health", "mine the day again")


def _examination_of(uri: str | None, day: ReportedDay) -> ExaminationInput | None:
    """Read the examination from the named folder, else from the place of the day's table."""
    configured = day.examined.get("table")
    if uri is None and configured is None:
        return None
    given = str(uri or configured)
    folder = given.rpartition("/")[0] if given.endswith((".parquet", ".json")) else given.rstrip("/")
    document = files.join(folder, _EXAMINATION)
    if _is_there(document):
        remedy = "run estimate_examination again"
        return ExaminationInput(document, read_document(ExaminationDocument, document, remedy), {})
    table = given if given.endswith(".parquet") else files.join(folder, "table.parquet")
    if uri is None and not _is_there(table):
        return None  # the table that the day was mined with was removed since: no error of this command
    return ExaminationInput(table, None, read_examination_table(table))


def _read_runs(uris: Sequence[str]) -> list[TrainedRun]:
    runs: list[TrainedRun] = []
    for given in dict.fromkeys(uri.rstrip("/") for uri in uris):
        name = given.rpartition("/")[2]
        names = {run.name for run in runs}
        runs.append(
            TrainedRun(given if name in names else name, given, _read_curve(given), _last_metrics(given))
        )
    return runs


def _read_curve(run_uri: str) -> list[dict[str, float]]:
    place = files.join(run_uri, _CURVE)
    remedy = "name the folder that train_two_tower wrote with --out"
    points = []
    for number, line in enumerate(read_text(place, remedy).splitlines(), start=1):
        try:
            point = json.loads(line)
            points.append(
                {"step": int(point["step"]), **{k: float(v) for k, v in point.items() if k != "step"}}
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{place}, line {number}", expected="step and numbers as JSON", found=line[:60], remedy=remedy
            ) from error
    return points


def _last_metrics(run_uri: str) -> Metrics | None:
    """Metrics of the latest evaluated checkpoint."""
    filesystem, folder = files.resolve(files.join(run_uri, "checkpoints"))
    selector = fs.FileSelector(folder, allow_not_found=True)
    steps = sorted(info.base_name for info in filesystem.get_file_info(selector))
    for step in reversed(steps):
        place = files.join(run_uri, "checkpoints", step, _METRICS)
        if _is_there(place):
            return read_document(Metrics, place, "run evaluate_two_tower again")
    return None


def _read_comparison(uri: str | None) -> ComparisonDocument | None:
    if uri is None:
        return None
    place = uri if uri.endswith(".json") else files.join(uri, _COMPARISON)
    return read_document(ComparisonDocument, place, "name the folder that compare_negatives wrote with --out")


def _is_there(uri: str) -> bool:
    filesystem, path = files.resolve(uri)
    return files.exists(filesystem, path)
