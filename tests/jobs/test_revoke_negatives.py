"""Revocation from its command line: a published day, then engagements that contradict some of its negatives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from scrollpast.shards.reader import ShardReader
from scrollpast.shards.revocations import read_revocations
from tests.jobs.job_runs import JobRun, mine, run_job
from tests.jobs.published_days import SERVED, day_of, published, records_of, side_of
from tests.toy_logs import HOUR_US, toy_log, write_parquet

LOG = toy_log(150)
pytestmark = pytest.mark.usefixtures("spark")
Negative = tuple[int, int, int]


@pytest.fixture(scope="module")
def mined(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log in ``log`` and its day, as it was known two days later, in ``out``."""
    folder = tmp_path_factory.mktemp("mined")
    LOG.write(folder / "log")
    run = mine(folder / "log", folder / "out", "--as-of", "2026-11-23")
    assert run.exit_code == 0, run.stderr
    return folder


@pytest.fixture
def folder(mined: Path, tmp_path: Path) -> Path:
    return copytree(mined, tmp_path / "copy")


def revoke(folder: Path, *arguments: str) -> JobRun:
    engagements = folder / "log" / "engagements"
    return run_job("revoke_negatives", day_of(folder / "out"), "--engagements", engagements, *arguments)


def served_negatives(folder: Path) -> list[Negative]:
    """(user, ad, served_at_ms) of every served negative in the shards, in their order."""
    side = side_of(records_of(folder / "out"), "negative").to_pylist()
    return [(row["user_id"], row["ad_id"], row["served_at_ms"]) for row in side if row["kind"] == SERVED]


def read_negatives(folder: Path) -> list[Negative]:
    """The same as readers see them."""
    batches = ShardReader([str(day_of(folder / "out"))])
    side = side_of(pa.Table.from_batches(list(batches)), "negative").to_pylist()
    return [(row["user_id"], row["ad_id"], row["served_at_ms"]) for row in side if row["kind"] == SERVED]


def engage(folder: Path, *engagements: tuple[Negative, str, float]) -> None:
    """Add engagements to the log: of a negative, of a kind, hours after it was served."""
    more = pa.table(
        {
            "user_id": [user for (user, _, _), _, _ in engagements],
            "ad_id": [ad for (_, ad, _), _, _ in engagements],
            "kind": [kind for _, kind, _ in engagements],
            "engaged_at": pa.array(
                [at_ms * 1000 + int(hours * HOUR_US) for (_, _, at_ms), _, hours in engagements],
                pa.timestamp("us", "UTC"),
            ),
            "request_id": pa.array([None] * len(engagements), pa.int64()),
        }
    ).cast(LOG.engagements.schema)
    write_parquet(pa.concat_tables([LOG.engagements, more]), folder / "log" / "engagements")


def once(negatives: list[Negative]) -> list[Negative]:
    """Negatives of different users, so that what is done to one concerns no other."""
    found = {user: negative for negative in negatives for user in negative[:1]}
    return list(found.values())


def test_a_negative_that_its_user_engages_with_later_is_revoked(folder: Path) -> None:
    before = served_negatives(folder)
    first, second, hidden, late, early = once(before)[:5]
    engage(
        folder, (first, "click", 100), (second, "conversion", 500), (hidden, "hide", 100), (late, "click", 721),
        (early, "save", -160),
    )  # fmt: skip
    run = revoke(folder, "--as-of", "2027-02-01")
    assert (run.exit_code, run.stderr) == (0, "")
    gone = {first, second, early}
    assert read_negatives(folder) == [negative for negative in before if negative not in gone]
    assert served_negatives(folder) == before
    manifest = published(folder / "out")
    table = read_revocations(str(day_of(folder / "out")), manifest.revocation_file)
    assert manifest.num_revoked == table.num_rows == 3
    assert sorted(table["reason"].to_pylist()) == ["click", "conversion", "save"]
    assert "1 click, 1 conversion, 1 save" in run.stdout


def test_what_is_not_known_yet_revokes_nothing(folder: Path) -> None:
    before = published(folder / "out")
    engage(folder, (once(served_negatives(folder))[0], "click", 100))
    run = revoke(folder, "--as-of", "2026-11-23")
    assert "nothing new as of 2026-11-23T00:00:00+00:00: the negatives are unchanged" in run.stdout
    assert published(folder / "out") == replace(before, revocations_as_of="2026-11-23T00:00:00+00:00")


def test_a_search_that_finds_nothing_changes_nothing_that_readers_return(folder: Path) -> None:
    day = str(day_of(folder / "out"))
    before, negatives = ShardReader([day]).state(), read_negatives(folder)
    revoke(folder, "--as-of", "2026-11-23")
    assert (ShardReader([day]).state(), read_negatives(folder)) == (before, negatives)


def test_the_latest_search_is_recorded_and_outlives_a_day_that_is_mined_again(folder: Path) -> None:
    for as_of, latest in (("2026-11-25", "25"), ("2026-11-24", "25"), ("2026-11-26", "26")):
        revoke(folder, "--as-of", as_of)
        assert published(folder / "out").revocations_as_of == f"2026-11-{latest}T00:00:00+00:00"
    run = mine(folder / "log", folder / "out", "--as-of", "2026-11-24", "--overwrite")
    assert run.exit_code == 0, run.stderr
    assert published(folder / "out").revocations_as_of == "2026-11-26T00:00:00+00:00"
    assert published(folder / "out").revocation_file is None


def test_revocations_add_up_over_runs_and_the_same_run_again_changes_nothing(folder: Path) -> None:
    first, second = once(served_negatives(folder))[:2]
    engage(folder, (first, "click", 100))
    revoke(folder, "--as-of", "2027-02-01")
    engage(folder, (second, "click", 100))
    assert "published, with 1 new revocations" in revoke(folder, "--as-of", "2027-02-01").stdout
    assert not {first, second} & set(read_negatives(folder))
    before = (day_of(folder / "out") / "manifest.json").read_bytes()
    assert "nothing new" in revoke(folder, "--as-of", "2027-02-01").stdout
    assert (day_of(folder / "out") / "manifest.json").read_bytes() == before


def test_revocations_outlive_a_day_that_is_mined_again(folder: Path) -> None:
    chosen = once(served_negatives(folder))[0]
    engage(folder, (chosen, "click", 500))
    revoke(folder, "--as-of", "2027-02-01")
    run = mine(folder / "log", folder / "out", "--as-of", "2026-11-24", "--overwrite")
    assert run.exit_code == 0, run.stderr
    assert chosen in served_negatives(folder)
    assert chosen not in read_negatives(folder)


def test_any_number_of_partitions_revokes_the_same(folder: Path, tmp_path: Path) -> None:
    chosen = once(served_negatives(folder))
    random = np.random.Generator(np.random.Philox(3))
    engage(
        folder,
        *(
            (negative, "click", float(hours))
            for negative, hours in zip(chosen, random.uniform(1, 700, len(chosen)), strict=True)
        ),
    )
    other = copytree(folder, tmp_path / "other")
    revoke(folder, "--as-of", "2027-02-01", "--set", "spark.num_partitions=1")
    revoke(other, "--as-of", "2027-02-01", "--set", "spark.num_partitions=7")
    assert published(folder / "out").revocation_file == published(other / "out").revocation_file is not None


def test_a_day_that_is_not_published_is_told(tmp_path: Path, folder: Path) -> None:
    (day_of(folder / "out") / "manifest.json").unlink()
    run = revoke(folder)
    assert run.exit_code == 2
    assert "expected a manifest, which publishes a day" in run.stderr
