"""A published day meets another run: the same again, a change refused, a change wanted, a change that fails."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from scrollpast.shards.reader import ShardReader
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.shards.vocabulary_of_days import name_vocabulary
from tests.jobs.job_runs import JobRun, mine
from tests.jobs.published_days import check_laws, content_of, day_of, published
from tests.toy_logs import DAY, toy_log, write_parquet

LOG = toy_log(150)
pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture(scope="module")
def mined(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log in ``log`` and its published day in ``out``; tests work on copies."""
    folder = tmp_path_factory.mktemp("mined")
    LOG.write(folder / "log")
    done(mine(folder / "log", folder / "out"))
    return folder


@pytest.fixture
def folder(mined: Path, tmp_path: Path) -> Path:
    """A copy of the log and its day, times of files included: they are part of the input's fingerprint."""
    from shutil import copytree

    return copytree(mined, tmp_path / "copy")


def done(run: JobRun) -> JobRun:
    assert run.exit_code == 0, run.stderr
    return run


def again(folder: Path, *arguments: str, buckets: int = 4) -> JobRun:
    return mine(folder / "log", folder / "out", *arguments, buckets=buckets)


def manifest_of(folder: Path) -> bytes:
    return (day_of(folder / "out") / "manifest.json").read_bytes()


def files_of(folder: Path) -> set[str]:
    day = day_of(folder / "out")
    return {str(path.relative_to(day)) for path in day.rglob("*") if path.is_file()}


def a_user_with_positives(folder: Path) -> int:
    records = ShardReader([str(day_of(folder / "out"))], features=["user_id"])
    return int(next(iter(records))["user_id"][0].as_py())


def refused(run: JobRun) -> str:
    assert run.exit_code == 2, run.stdout
    assert run.stdout == ""
    return run.error


# The same again


def test_the_same_again_does_nothing_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("Spark was started to do nothing")

    monkeypatch.setattr("scrollpast.mining.spark.session.spark_session", start)
    before, files = manifest_of(folder), files_of(folder)
    run = done(again(folder))
    assert run.stdout.endswith(
        f"already published from the same input; nothing was done: {day_of(folder / 'out')}/manifest.json\n"
    )
    assert (manifest_of(folder), files_of(folder)) == (before, files)


def test_a_day_that_names_a_vocabulary_is_still_the_same_day_until_it_is_mined_anew(folder: Path) -> None:
    words = Vocabulary(np.arange(3), np.zeros(3), {}, {}, num_user_rows=10)
    uri = words.write(str(folder / "out"))
    assert name_vocabulary(str(day_of(folder / "out")), published(folder / "out"), uri)
    before = manifest_of(folder)
    assert "nothing was done" in done(again(folder)).stdout
    assert manifest_of(folder) == before
    # The records may be others now: a vocabulary has to be built from them again.
    done(again(folder, "--overwrite", "--set", "output.orphan_grace_h=0"))
    assert published(folder / "out").ads is None
    assert Vocabulary.read(uri).version == words.version


def test_another_number_of_partitions_is_no_change(folder: Path) -> None:
    before = manifest_of(folder)
    assert "nothing was done" in done(again(folder, "--set", "spark.num_partitions=9")).stdout
    assert manifest_of(folder) == before


def test_what_was_too_young_is_decided_by_a_run_that_is_late_enough(folder: Path) -> None:
    early = folder / "early"
    done(mine(folder / "log", early, "--as-of", f"{DAY}T18:00:00"))
    immature = published(early).ledger["immature"]
    assert immature > 0
    # Without --as-of it is now, later than the day was mined.
    from tests.jobs.job_runs import arguments_of, run_here

    arguments = arguments_of(folder / "log", early)
    at = arguments.index("--as-of")
    run = run_here(*arguments[:at], *arguments[at + 2 :], "--set", "mining.num_buckets=4")
    if run.exit_code == 2:  # the machine's clock stands before the toy day
        pytest.skip("the toy day lies in the future of this machine's clock")
    assert (
        f"mined again because of a change in the age of {immature:,} impressions, which were immature: "
        in run.stdout
    )
    assert published(early).ledger["immature"] == 0


# More has come


def test_more_data_changes_the_buckets_that_it_concerns_and_no_other(folder: Path) -> None:
    """Clicks that came late, of one user, who is in one bucket; a limit of ads would tie all buckets together."""
    unlimited = ("--set", "mining.max_ad_share=1")
    done(again(folder, "--overwrite", *unlimited))
    before = {entry.bucket: entry for entry in published(folder / "out").shards}
    times = {path: path.stat().st_mtime_ns for path in day_of(folder / "out").rglob("*.tfrecord")}
    late = pc.equal(LOG.engagements["user_id"], a_user_with_positives(folder))
    write_parquet(LOG.engagements.filter(pc.invert(late)), folder / "log" / "engagements")
    run = done(again(folder, *unlimited))
    after = {entry.bucket: entry for entry in published(folder / "out").shards}
    assert sum(before.get(bucket) != after.get(bucket) for bucket in range(4)) == 1
    assert (
        "note: mined again because of a change in the files of engagements: 1 of 4 buckets changed"
        in run.stdout
    )
    unchanged = {day_of(folder / "out") / entry.path for entry in after.values()} & times.keys()
    assert len(unchanged) == 3
    assert all(path.stat().st_mtime_ns == times[path] for path in unchanged)


@pytest.mark.parametrize("table", ["impressions", "engagements"])
def test_a_day_brought_up_to_date_is_the_day_mined_at_once(folder: Path, tmp_path: Path, table: str) -> None:
    some = getattr(LOG, table)
    write_parquet(some.slice(some.num_rows // 2), folder / "log" / table)
    run = done(again(folder))
    assert f"mined again because of a change in the files of {table}: " in run.stdout
    done(mine(folder / "log", tmp_path / "at once"))
    assert content_of(folder / "out") == content_of(tmp_path / "at once")


def test_a_later_moment_that_is_chosen_is_news(folder: Path) -> None:
    assert (
        "mined again because of a change in --as-of: 0 of 4 buckets changed"
        in done(again(folder, "--as-of", "2026-12-01")).stdout
    )
    assert published(folder / "out").as_of.startswith("2026-12-01")


# A change refused


@pytest.mark.parametrize(
    ("arguments", "change"),
    [
        (["--set", "mining.seed=7"], "the configuration of mining"),
        (["--days", "2"], "the window of days"),
        (["--as-of", "2026-11-27"], "--as-of to an earlier moment"),
        (
            ["--set", "mining.seed=7", "--as-of", "2026-11-27"],
            "the configuration of mining, --as-of to an earlier moment",
        ),
    ],
)
def test_a_change_without_overwrite_is_refused_and_named(
    folder: Path, arguments: list[str], change: str
) -> None:
    before = manifest_of(folder)
    assert refused(again(folder, *arguments)) == (
        f"{day_of(folder / 'out')}: expected an unpublished day, or the same configuration as before, "
        f"found a published day, and a change of {change}; pass --overwrite to replace the day, or choose another --out"
    )
    assert manifest_of(folder) == before


# A change wanted


def test_overwrite_replaces_the_day(folder: Path) -> None:
    before = content_of(folder / "out")
    write_parquet(LOG.impressions.slice(100), folder / "log" / "impressions")
    run = done(again(folder, "--overwrite"))
    assert run.stdout.endswith(f"\npublished {day_of(folder / 'out')}/manifest.json\n")
    assert content_of(folder / "out") != before
    check_laws(folder / "out", LOG.impressions.slice(100), LOG.engagements)


def test_files_of_the_day_before_it_stay_for_their_readers_until_the_grace_is_over(folder: Path) -> None:
    old = {entry.path for entry in published(folder / "out").shards}
    done(again(folder, "--overwrite", "--set", "mining.seed=7", "--set", "mining.negatives_per_user=3"))
    new = {entry.path for entry in published(folder / "out").shards}
    assert not old & new
    assert old | new <= files_of(folder)
    # Orphans one hour and a half old: a grace of two hours keeps them, one of one hour does not.
    for path in old:
        os.utime(day_of(folder / "out") / path, (time.time() - 5400, time.time() - 5400))
    changed = ("--overwrite", "--set", "mining.seed=7", "--set", "mining.negatives_per_user=3")
    done(again(folder, *changed, "--set", "output.orphan_grace_h=2"))
    assert old <= files_of(folder)
    done(again(folder, *changed, "--set", "output.orphan_grace_h=1"))
    assert not old & files_of(folder)
    assert new <= files_of(folder)


def test_without_a_grace_only_what_the_manifest_names_is_left(folder: Path) -> None:
    (day_of(folder / "out") / "notes.txt").write_text("a person's file is not ours to sweep")
    done(again(folder, "--overwrite", "--set", "mining.seed=7", "--set", "output.orphan_grace_h=0"))
    manifest = published(folder / "out")
    assert files_of(folder) == {*manifest.paths, "manifest.json", "notes.txt"}


# A change that fails


def test_the_old_day_stays_whole_when_the_run_that_replaces_it_fails(folder: Path) -> None:
    before, content, files = manifest_of(folder), content_of(folder / "out"), files_of(folder)
    # The shard of bucket 4, which the old day does not have, finds no place; those of other buckets do.
    (day_of(folder / "out") / "bucket=00004").write_text("in the way")
    run = again(folder, "--overwrite", "--set", "output.orphan_grace_h=0", buckets=5)
    assert run.exit_code == 1
    assert run.is_calm()
    assert run.error.startswith("Spark: expected all tasks to succeed, found ")
    assert "bucket=00004" in run.error
    assert run.error.endswith("nothing was published")
    # Nothing is left of the run that failed.
    assert set(files_of(folder)) == {*files, "bucket=00004"}
    assert manifest_of(folder) == before
    assert content_of(folder / "out") == content
    check_laws(folder / "out", LOG.impressions, LOG.engagements)
    # The next run sweeps what it left.
    (day_of(folder / "out") / "bucket=00004").unlink()
    done(again(folder, "--overwrite", "--set", "output.orphan_grace_h=0"))
    assert content_of(folder / "out") == content
    assert files_of(folder) == files


def test_orphans_of_killed_tasks_are_never_read(folder: Path) -> None:
    stray = day_of(folder / "out") / "bucket=00000" / "part-0123456789abcdef.tfrecord"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"half a shard")
    check_laws(folder / "out", LOG.impressions, LOG.engagements)


def test_of_two_runs_for_one_day_the_second_to_publish_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run publishes while this one works: its manifest appears just before this one's."""
    from scrollpast.privacy import forgetting

    publish = forgetting.publish_manifest
    theirs = manifest_of(folder)

    def publish_late(day_uri: str, manifest: object, *, replacing: object) -> None:
        (Path(day_uri) / "manifest.json").write_bytes(theirs)
        publish(day_uri, manifest, replacing=replacing)  # type: ignore[arg-type]

    monkeypatch.setattr(forgetting, "publish_manifest", publish_late)
    out = tmp_path / "contested"
    text = refused(mine(folder / "log", out))
    assert "found a manifest that was published meanwhile; run again to compare with that manifest" in text
    assert (day_of(out) / "manifest.json").read_bytes() == theirs
