"""Write a whole simulated log: calibrate, make the partitions in a few processes, summarise."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import math
import multiprocessing
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scrollpast.errors import UserError
from scrollpast.simulation import tables
from scrollpast.simulation.partition import Plan, make_stretch, plan_of
from scrollpast.simulation.rows import FINE
from scrollpast.simulation.shape import LogShape
from scrollpast.simulation.users import user_facts
from scrollpast.simulation.world import DAY_US, World, build_world, number_of_bots

RECORD = "simulation.json"
_CALIBRATION_ROWS = 60_000
_EPOCH = dt.date(1970, 1, 1)


@dataclasses.dataclass(frozen=True)
class LogRequest:
    """Request for a simulated log: equal requests give equal bytes, with any number of processes.

    Raises:
        UserError: a number is out of bounds.
    """

    num_rows: int
    """Exact number of impressions, invalid and duplicate rows included."""
    num_days: int
    """Days (UTC) of impressions."""
    last_day: dt.date
    """Last day of the log."""
    seed: int = 0
    """Seed of all draws."""
    shape: LogShape = dataclasses.field(default_factory=LogShape)
    only_day: int | None = None
    """Write only the files of this day, from 0 on, equal to those of the whole log. Late re-deliveries in them belong
    to the day before, and are made again with the pools of this request; ``shape.duplicates`` sets their share."""
    retrieved: Path | None = None
    """File of `numpy.save`, int32 [users, shape.pool_ads]: rows of ads (``ad_id`` − 1) that a retriever put into the
    pool of each user (``user_id`` − 1). For -1, and for an ad that does not exist yet, the funnel draws the slot; for
    bots it draws all slots. Users, ads and tastes stay the same."""

    def __post_init__(self) -> None:
        bounds = {"num_rows": (1, 10**11), "num_days": (1, 3650), "seed": (0, 2**62)}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise UserError(
                    f"--{name.removeprefix('num_')}",
                    expected=f"a value in [{low}, {high}]",
                    found=str(getattr(self, name)),
                    remedy="pass another one",
                )
        if self.only_day is not None:
            self._check_only_day(self.only_day)

    def _check_only_day(self, day: int) -> None:
        num_files = plan_of(self.num_rows, self.shape).num_stretches
        if not 0 <= day < self.num_days:
            raise UserError(
                "--only-day",
                expected=f"a day of the log's {self.num_days}, from 0 to {self.num_days - 1}",
                found=str(day),
                remedy="pass another one",
            )
        if self.num_rows % self.num_days or num_files % self.num_days:
            raise UserError(
                "--only-day",
                expected=f"rows and files that {self.num_days} days share evenly",
                found=f"{self.num_rows:,} rows in {num_files} files",
                remedy="pass --rows as a multiple of --days, and --set rows_per_file to a divisor of a day's rows",
            )

    @property
    def first_us(self) -> int:
        """Start of the first day, microseconds since 1970."""
        return ((self.last_day - _EPOCH).days - self.num_days + 1) * DAY_US

    @property
    def until_us(self) -> int:
        """End of the engagements, microseconds since 1970 (exclusive)."""
        return self.first_us + int((self.num_days + self.shape.engagement_days_after) * DAY_US)


def simulate_log(
    request: LogRequest, folder: Path, num_processes: int = 1, overwrite: bool = False
) -> Counter[str]:
    """Write the tables of a log into a folder, and ``simulation.json`` last, with all parameters.

    Args:
        request: request for the log.
        folder: receives impressions/, engagements/, ads/, users/, truth/ (row for row beside impressions/),
            truth_users/ and truth_ads/ (P(want) of any pair) and truth_examination/ (the true curve).
        num_processes: number of parallel processes.
        overwrite: replace an existing log.

    Returns:
        Counts: impressions, engagements, ads, examined, clicked, unclicked_relevant, duplicates, broken,
        bots (rows shown to bots), and the three rates' denominators are impressions.

    Raises:
        UserError: the folder is not empty and ``overwrite`` is not given, or the retrieved ads do not fit.
    """
    plan = plan_of(request.num_rows, request.shape)
    _check_may_be_cleared(folder, overwrite)
    intercept = calibrate_intercept(request)
    world = _world(request, intercept)
    _clear(folder)
    tables.write_part(tables.ads_of(world), folder / "ads")
    tables.write_part(
        tables.users_of(world, user_facts(world, request.shape, request.seed)), folder / "users"
    )
    tables.write_part(tables.truth_users_of(world, request.shape), folder / "truth_users")
    tables.write_part(tables.truth_ads_of(world), folder / "truth_ads")
    tables.write_part(tables.examination_of(world), folder / "truth_examination")
    counts: Counter[str] = Counter(ads=world.ad_created_us.size)
    num_rows = request.num_rows if request.only_day is None else request.num_rows // request.num_days
    started = time.monotonic()
    for part in _parts(request, intercept, world, plan, folder, num_processes):
        counts.update(part)
        _show_progress(counts["impressions"], num_rows, time.monotonic() - started)
    _write_record(request, intercept, world, counts, folder)
    return counts


def calibrate_intercept(request: LogRequest) -> float:
    """Log-odds offset at which the mean relevance of the served ads is ``shape.served_relevance``.

    An offset changes no ranking, so that one sample of served log-odds, spread over the window, determines it. The
    size of the sample is fixed, and the log's mean is met up to sampling error.
    """
    num_rows = min(request.num_rows, _CALIBRATION_ROWS)
    without = dataclasses.replace(request, retrieved=None)
    rows, _ = make_stretch(
        _world(without, 0.0), request.shape, Plan(num_rows, 1), 0, request.seed, request.until_us
    )
    relevance = np.clip(rows.relevance.astype(np.float64), 1e-7, 1 - 1e-7)
    odds = np.log(relevance / (1 - relevance))
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = float(np.mean(1 / (1 + np.exp(-(odds + middle)))))
        low, high = (middle, high) if mean < request.shape.served_relevance else (low, middle)
    # Rounded, so that a log does not depend on the last bit of a sum.
    return round((low + high) / 2, 6)


def _world(request: LogRequest, intercept: float) -> World:
    return build_world(
        request.shape,
        request.num_rows,
        request.first_us,
        request.num_days,
        request.seed,
        intercept,
        request.retrieved,
    )


_Task = tuple[LogRequest, float, Plan, int, Path]
_worlds: dict[tuple[LogRequest, float], World] = {}


def _parts(
    request: LogRequest, intercept: float, world: World, plan: Plan, folder: Path, num_processes: int
) -> Iterator[Counter[str]]:
    stretches = range(plan.num_stretches)
    if request.only_day is not None:
        a_day = plan.num_stretches // request.num_days
        stretches = range(request.only_day * a_day, (request.only_day + 1) * a_day)
    tasks = [(request, intercept, plan, stretch, folder) for stretch in stretches]
    num_processes = min(num_processes, len(stretches))
    if num_processes <= 1:
        _worlds.clear()
        _worlds[request, intercept] = world
        yield from map(_write_stretch, tasks)
        return
    # Processes are spawned and draw the world again: forking a process with Arrow's threads can hang.
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        yield from pool.imap_unordered(_write_stretch, tasks)


def _write_stretch(task: _Task) -> Counter[str]:
    request, intercept, plan, stretch, folder = task
    if (request, intercept) not in _worlds:
        _worlds.clear()
        _worlds[request, intercept] = _world(request, intercept)
    world = _worlds[request, intercept]
    rows, engaged = make_stretch(world, request.shape, plan, stretch, request.seed, request.until_us)
    tables.write_part(tables.impressions_of(rows, world), folder / "impressions", stretch)
    tables.write_part(tables.truth_of(rows), folder / "truth", stretch)
    tables.write_part(tables.engagements_of(engaged), folder / "engagements", stretch)
    return Counter(
        impressions=rows.request.size,
        engagements=engaged.kind.size,
        examined=int(rows.is_examined.sum()),
        clicked=int(rows.is_clicked.sum()),
        unclicked_relevant=int((rows.is_relevant & ~rows.is_clicked).sum()),
        duplicates=int(rows.is_duplicate.sum()),
        broken=int((rows.broken != FINE).sum()),
        bots=int(rows.is_bot.sum()),
    )


def _check_may_be_cleared(folder: Path, overwrite: bool) -> None:
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if found and not overwrite:
        raise UserError(
            str(folder),
            expected="an empty or new folder",
            found=", ".join(found[:6]),
            remedy="pass --overwrite",
        )


def _clear(folder: Path) -> None:
    # The record is removed first, so that the rest of an interrupted run is not taken for a log.
    (folder / RECORD).unlink(missing_ok=True)
    for name in tables.TABLES:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)


def _write_record(
    request: LogRequest, intercept: float, world: World, counts: Counter[str], folder: Path
) -> None:
    record: dict[str, object] = {
        "num_rows": request.num_rows,
        "num_days": request.num_days,
        "last_day": request.last_day.isoformat(),
        "seed": request.seed,
        "shape": dataclasses.asdict(request.shape),
        "num_users": world.user_keep.size,
        "num_bots": number_of_bots(request.shape, request.num_rows, request.num_days),
        "num_ads": world.ad_created_us.size,
        "intercept": intercept,
        "counts": dict(sorted(counts.items())),
    }
    if request.only_day is not None:
        record["only_day"] = request.only_day
    if request.retrieved is not None:
        # The content of the file, not its place: equal requests give equal bytes.
        record["retrieved_sha256"] = _sha256(request.retrieved)
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _show_progress(done: int, total: int, seconds: float) -> None:
    if not sys.stderr.isatty():
        return
    left_s = math.ceil(seconds / done * (total - done)) if done else 0
    end = "\r" if done < total else "\n"
    print(f"  {done:,} of {total:,} rows, {left_s} s to go   ", end=end, file=sys.stderr, flush=True)


def summary_of(counts: Counter[str]) -> str:
    """Short table of the written counts."""
    total = counts["impressions"]
    lines = [f"{name:<24}{counts[name]:>15,}" for name in ("impressions", "engagements", "ads")]
    shares = {
        "examined": "examined",
        "clicked": "clicked (CTR)",
        "unclicked_relevant": "relevant, not clicked",
        "duplicates": "duplicates",
        "broken": "broken",
        "bots": "shown to bots",
    }
    lines += [f"{title:<24}{counts[name]:>15,}{counts[name] / total:>9.2%}" for name, title in shares.items()]
    return "\n".join(lines)
