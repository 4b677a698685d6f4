"""The vocabulary job from outside: counts against plain loops, a parent's rows, mistakes told in one line."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scrollpast.shards.manifest import read_manifest
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.shards.vocabulary_of_days import resolve_vocabulary
from tests.jobs.job_runs import run_job
from tests.training.data.days import records, write_day

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ADVERTISERS = {ad: f"advertiser {ad % 3}" for ad in range(60)}


def _run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the job in this process."""
    done = run_job("build_vocabulary", *arguments)
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def ads(tmp_path: Path) -> str:
    table = pa.table({"ad_id": list(ADVERTISERS), "advertiser": list(ADVERTISERS.values())})
    (tmp_path / "ads").mkdir()
    pq.write_table(table, tmp_path / "ads" / "part-0.parquet")
    return str(tmp_path / "ads")


@pytest.fixture
def days(tmp_path: Path) -> list[str]:
    random = np.random.Generator(np.random.Philox(1))
    return [
        write_day(tmp_path, [records(random, 1000 * at + 100 * shard, 30) for shard in range(3)], ds=ds)
        for at, ds in enumerate(("2026-11-20", "2026-11-21"))
    ]


def _counted(days: list[str], feature: str) -> Counter[int]:
    from tests.training.data.days import read_records

    rows = [row for shard in read_records(days) for row in shard]
    values = [row[feature] for row in rows]
    return Counter(ad for value in values for ad in (value if isinstance(value, list) else [value]))


def test_counts_are_those_of_a_plain_loop_over_the_records(
    spark: SparkSession, tmp_path: Path, days: list[str], ads: str
) -> None:
    exit_code, stdout, stderr = _run(
        *days, "--ads", ads, "--feature", "advertiser", "--out", str(tmp_path), "--num-user-rows", "99"
    )
    assert exit_code == 0, stderr
    words = Vocabulary.read(stdout.splitlines()[-1].removeprefix("published "))
    positives, negatives = _counted(days, "positive_ad_id"), _counted(days, "negative_ad_id")
    found = words.ad_ids[1:].tolist()
    assert set(found) == {*positives, *negatives, *ADVERTISERS}
    assert words.counts[1:].tolist() == [positives[ad] for ad in found]
    assert found == sorted(found, key=lambda ad: (-positives[ad], -negatives[ad], ad))
    for row, ad in enumerate(found, 1):
        assert words.values["advertiser"][words.feature_codes["advertiser"][row] - 1] == ADVERTISERS[ad]
    ages = Counter({age: n for age, n in _counted(days, "user_age").items() if age is not None})
    assert words.values["user_age"] == tuple(
        str(age) for age in sorted(ages, key=lambda age: (-ages[age], age))
    )
    assert (words.days, words.num_user_rows) == (("2026-11-20", "2026-11-21"), 99)


def test_a_newer_vocabulary_leaves_its_parents_rows_where_they_are(
    spark: SparkSession, tmp_path: Path, days: list[str]
) -> None:
    uris = []
    for day in days:
        parent = ["--parent", uris[-1]] if uris else []
        exit_code, stdout, stderr = _run(day, "--out", str(tmp_path), *parent)
        assert exit_code == 0, stderr
        uris.append(stdout.splitlines()[-1].removeprefix("published "))
    older, newer = (Vocabulary.read(uri) for uri in uris)
    assert newer.parent == older.version
    assert newer.ad_ids[: older.num_rows].tolist() == older.ad_ids.tolist()
    assert newer.num_user_rows == older.num_user_rows
    # Every day names the one that was built from it; the newer one serves both.
    named = [f"../vocabulary/v={words.version}" for words in (older, newer)]
    assert [read_manifest(day).ads for day in days] == named
    assert newer.extends(older)
    assert resolve_vocabulary(days, None)[0].version == newer.version


def test_the_same_days_give_the_same_version_and_name_it_once(
    spark: SparkSession, tmp_path: Path, days: list[str]
) -> None:
    unnamed = [read_manifest(day) for day in days]
    runs, stamps = [], []
    for _ in range(2):
        runs.append(_run(*days, "--out", str(tmp_path))[1].splitlines())
        stamps.append([(Path(day) / "manifest.json").stat().st_ino for day in days])
    assert runs[0][-1] == runs[1][-1]
    assert [run[-2] for run in runs] == [
        f"named in the manifests of the days, newly in {count} of them" for count in (2, 0)
    ]
    assert stamps[0] == stamps[1]  # a manifest that names it is not written again
    reference = f"../vocabulary/{Path(runs[0][-1]).name}"
    assert [read_manifest(day) for day in days] == [replace(day, ads=reference) for day in unnamed]


def test_a_day_that_is_not_published_is_told_before_spark_starts(tmp_path: Path) -> None:
    exit_code, _, stderr = _run(str(tmp_path / "ds=2026-11-21"), "--out", str(tmp_path))
    assert exit_code == 2
    assert "expected a manifest, which publishes a day, found no such file" in stderr


def test_a_feature_that_ads_does_not_have_is_named(tmp_path: Path, days: list[str], ads: str) -> None:
    exit_code, _, stderr = _run(*days, "--ads", ads, "--feature", "color", "--out", str(tmp_path))
    assert exit_code == 2
    assert "expected the column color" in stderr and "found only ad_id, advertiser" in stderr


@pytest.mark.parametrize("feature", ["count", "user_age"])
def test_a_feature_with_a_name_of_the_vocabularys_own_is_refused(
    tmp_path: Path, days: list[str], ads: str, feature: str
) -> None:
    exit_code, _, stderr = _run(*days, "--ads", ads, "--feature", feature, "--out", str(tmp_path))
    assert exit_code == 2
    assert f"--feature {feature}: expected a column of ads" in stderr


def test_features_need_a_table_of_ads(tmp_path: Path, days: list[str]) -> None:
    exit_code, _, stderr = _run(*days, "--feature", "advertiser", "--out", str(tmp_path))
    assert exit_code == 2
    assert "input.ads: expected a path or a table, found neither" in stderr


def test_a_table_of_other_ads_is_refused(spark: SparkSession, tmp_path: Path, days: list[str]) -> None:
    pq.write_table(pa.table({"ad_id": ["a", "b"]}), tmp_path / "others.parquet")
    exit_code, _, stderr = _run(*days, "--ads", str(tmp_path / "others.parquet"), "--out", str(tmp_path))
    assert exit_code == 2
    assert "ads of the records, found none of them" in stderr


def test_a_broken_shard_is_one_line(spark: SparkSession, tmp_path: Path, days: list[str]) -> None:
    shard = next(Path(days[0]).glob("bucket=*/*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[20] ^= 1
    shard.write_bytes(content)
    exit_code, _, stderr = _run(*days, "--out", str(tmp_path))
    assert exit_code == 1
    assert stderr.count("\n") == 1 and shard.name in stderr and "mine ds=2026-11-20 again" in stderr
    assert [read_manifest(day).ads for day in days] == [None, None]


def test_a_feature_that_is_null_throughout_is_noted_with_its_table_and_the_remedy(
    spark: SparkSession, tmp_path: Path, days: list[str]
) -> None:
    (tmp_path / "ads").mkdir()
    table = pa.table({"ad_id": list(ADVERTISERS), "campaign": pa.nulls(len(ADVERTISERS), pa.string())})
    pq.write_table(table, tmp_path / "ads" / "part-0.parquet")
    exit_code, stdout, stderr = _run(
        *days, "--ads", str(tmp_path / "ads"), "--feature", "campaign", "--out", str(tmp_path)
    )
    assert exit_code == 0, stderr
    (note,) = (line for line in stdout.splitlines() if line.startswith("note: "))
    assert note == (
        f"note: ad feature campaign of ads ({tmp_path / 'ads'}) is null throughout; fill the column or name another "
        "column with --feature, and build the vocabulary again"
    )
