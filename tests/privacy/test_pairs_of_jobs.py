"""Every pair of jobs on one day at once: nothing is lost, and nobody comes back.

The second job runs whole inside the first, just before or just after the first replaces a manifest, a list or removes
a manifest. Whoever loses ends with exit code 1 and is run again. What is there then is what one of the two orders,
one job after the other, gives as well.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scripts.bench.synthetic_days import Plan, plant_towers
from tests.jobs.job_runs import JobRun, mine, run_job
from tests.jobs.published_days import SERVED, day_of, records_of, side_of
from tests.toy_logs import HOUR_US, toy_log, write_parquet

from scrollpast.privacy.suppression import LIST_NAME
from scrollpast.privacy.traces import Forgotten
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import MANIFEST_NAME, published_manifest, read_manifest
from scrollpast.shards.reader import ShardReader

_TOY = toy_log(60)
LOG = _TOY.with_impressions(age=pc.bit_wise_and(_TOY.impressions["user_id"], 3))
USER = 3
PLAN = Plan(num_ads=60, num_users=10, ads_per_cluster=20)


@dataclass(frozen=True)
class Place:
    """A folder with a log, late engagements, an export, and days."""

    root: Path

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def day(self) -> Path:
        return day_of(self.out)


def mine_log(place: Place, *arguments: str) -> JobRun:
    """With the user feature that the export looks at."""
    return mine(place.root / "log", place.out, "--set", "mining.user_features=[age]", *arguments)


def mine_again(place: Place) -> JobRun:
    return mine_log(place, "--overwrite")


def mine_other_day(place: Place) -> JobRun:
    """A first publication: the day before is not there yet."""
    return mine_log(place, "--date", "2026-11-19")


def release(place: Place) -> JobRun:
    return mine_log(place, "--release", "--overwrite")


def forget(place: Place) -> JobRun:
    return run_job("forget_users", place.out, "--user", USER)


def revoke(place: Place) -> JobRun:
    return run_job("revoke_negatives", place.day, "--engagements", place.root / "late")


def name_vocabulary(place: Place) -> JobRun:
    arguments = ("--ads", place.root / "log" / "ads", "--out", place.out / "vocabulary")
    return run_job("build_vocabulary", place.day, *arguments)


def add_neighbours(place: Place) -> JobRun:
    options = [f"neighbours.{name}" for name in ("first_rank=5", "last_rank=30", "negatives_per_user=2")]
    settings = [word for option in options for word in ("--set", option)]
    arguments = ("--towers", place.root / "export", "--out", place.root / "with_neighbours", *settings)
    return run_job("mine_neighbours", place.day, *arguments, "--overwrite")


def sweep(place: Place) -> JobRun:
    return run_job("sweep_days", place.out, "--today", "2027-06-01", "--set", "privacy.keep_days=30")


JOBS = (mine_again, mine_other_day, release, forget, revoke, name_vocabulary, add_neighbours, sweep)
Job = Callable[[Place], JobRun]
PAIRS = [
    pytest.param(first, second, marks=() if forget in (first, second) else pytest.mark.slow)
    for first in JOBS
    for second in JOBS
    if first is not second
]


@pytest.fixture(scope="module")
def ground(spark: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published day and a held one beside it, engagements that contradict some negatives, and an export."""
    root = tmp_path_factory.mktemp("ground")
    place = Place(root)
    LOG.write(root / "log")
    early = mine_log(place, "--as-of", "2026-11-21T06:00:00", "--set", "mining.maturity_h=1")
    assert early.exit_code == 0, early.stderr
    write_parquet(clicks_on_negatives(place.out), root / "late")
    bounds = (
        "--overwrite",
        "--set",
        "gate.bounds.engagement_rate={low: 0.89}",
        "--set",
        "mining.maturity_h=1",
    )
    held = mine_log(place, *bounds)
    assert held.exit_code == 3, held.stderr
    plant_towers(PLAN, root / "export", "ivf_flat")
    with TemporaryDirectory() as trial:
        place = copy(root, Path(trial) / "place")
        revoked = revoke(place)
        assert revoked.exit_code == 0 and read_manifest(str(place.day)).num_revoked, revoked.stdout
    return root


def clicks_on_negatives(out: Path) -> pa.Table:
    """A click on one served negative of every user, four days after it was served."""
    side = side_of(records_of(out), "negative").to_pylist()
    of_users = {row["user_id"]: row for row in side if row["kind"] == SERVED}
    columns = {
        "user_id": list(of_users),
        "ad_id": [row["ad_id"] for row in of_users.values()],
        "kind": ["click"] * len(of_users),
        "engaged_at": [row["served_at_ms"] * 1000 + 96 * HOUR_US for row in of_users.values()],
        "request_id": [None] * len(of_users),
    }
    schema = LOG.engagements.schema
    return pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names})


def copy(ground: Path, to: Path) -> Place:
    shutil.copytree(ground, to)
    return Place(to)


def state(place: Place) -> dict[str, Any]:
    """All that jobs may change: of every day its records as readers see them, its vocabulary and revocations."""
    found: dict[str, Any] = {}
    for path in sorted(place.root.rglob(MANIFEST_NAME)):
        uri = str(path.parent)
        manifest = published_manifest(uri)
        assert manifest is not None
        assert all((path.parent / named).is_file() for named in manifest.paths)
        records = [record for batch in ShardReader([uri]) for record in batch.to_pylist()]
        found[str(path.parent.relative_to(place.root))] = (
            {record["user_id"]: record for record in records},
            manifest.ads is not None,
            manifest.num_revoked,
        )
    found[LIST_NAME] = (place.out / LIST_NAME).exists()
    return found


def finish(job: Job, place: Place, run: JobRun) -> None:
    """Run a job again that lost; a mistake that the other job's change makes of it is its end."""
    assert run.exit_code in (0, 1, 2), run.stderr
    if run.exit_code:
        assert "Traceback" not in run.stderr and len(run.stderr.splitlines()) == 1, run.stderr
        assert job(place).exit_code in (0, 2)


def in_order(ground: Path, folder: Path, jobs: tuple[Job, Job]) -> dict[str, Any]:
    place = copy(ground, folder / "-".join(job.__name__ for job in jobs))
    for job in jobs:
        assert job(place).exit_code in (0, 2)
    return state(place)


@pytest.fixture(scope="module")
def orders(ground: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Job, Job], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("orders")
    return cache(lambda first, second: in_order(ground, folder, (first, second)))


class Interruption:
    """Run something once, before or after the first call of a function that changes a manifest or a list."""

    def __init__(self, when: str, action: Callable[[], None]) -> None:
        self.when, self.action, self.has_happened = when, action, False

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(filesystem: Any, path: str, *arguments: Any) -> Any:
            is_marked = path.endswith((MANIFEST_NAME, LIST_NAME)) and not self.has_happened
            if is_marked and self.when == "before":
                self.happen()
            result = function(filesystem, path, *arguments)
            if is_marked and self.when == "after":
                self.happen()
            return result

        return call

    def happen(self) -> None:
        self.has_happened = True
        self.action()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_nothing_is_lost_and_nobody_comes_back_whatever_runs_at_once(
    first: Job,
    second: Job,
    when: str,
    ground: Path,
    tmp_path: Path,
    orders: Callable[[Job, Job], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = copy(ground, tmp_path / "place")
    inner: list[JobRun] = []
    interruption = Interruption(when, lambda: inner.append(second(place)))
    with monkeypatch.context() as patched:
        for name in ("write_over", "write_new", "delete_unchanged"):
            patched.setattr(files, name, interruption.around(getattr(files, name)))
        outer = first(place)
    assert interruption.has_happened
    finish(first, place, outer)
    finish(second, place, inner[0])
    found = state(place)
    assert found in (orders(first, second), orders(second, first))
    if forget in (first, second):
        nobody = {USER, *Forgotten.of([str(USER)], None).ids.tolist()}
        assert not any(nobody & set(day[0]) for day in found.values() if isinstance(day, tuple))
