"""A mined day from outside: the ledger, the records and the quarantine, held against the raw log."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from chispa import assert_df_equality
from pyspark.sql import SparkSession
from pyspark.sql import functions as sql

from scrollpast.config import load_config
from scrollpast.hashing import hash_column
from scrollpast.mining.rules.rules import Rules, Window
from tests.jobs.job_runs import JobRun, arguments_of, mine, run_here
from tests.jobs.published_days import (
    check_laws,
    day_of,
    find_breaches,
    ledger_of,
    published,
    records_of,
    side_of,
)
from tests.mining import reference
from tests.toy_logs import AS_OF, DAY, DAY_START_US, HOUR_US, toy_log

LOG = toy_log()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return LOG.write(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def mined(spark: SparkSession, folder: Path) -> tuple[JobRun, Path]:
    """A run with the defaults, and where it published."""
    out = folder / "out"
    run = mine(folder, out)
    assert run.exit_code == 0, run.stderr
    return run, out


def test_a_day_keeps_every_law(mined: tuple[JobRun, Path]) -> None:
    check_laws(mined[1], LOG.impressions, LOG.engagements)


def test_the_laws_notice_a_lost_row_and_a_late_click(mined: tuple[JobRun, Path]) -> None:
    negative = (
        side_of(records_of(mined[1]), "negative").filter(pc.field("kind") == 0).slice(0, 1).to_pylist()[0]
    )
    like = {**negative, "kind": "click", "request_id": None}
    like["engaged_at"] = datetime.fromtimestamp(negative["served_at_ms"] / 1000 + 60, UTC)
    row = pa.Table.from_pylist(
        [{name: like[name] for name in LOG.engagements.column_names}], LOG.engagements.schema
    )
    found = find_breaches(mined[1], LOG.impressions.slice(40), pa.concat_tables([LOG.engagements, row]))
    assert found["no negative that the user engaged with inside the guard window"] == 1
    assert found["the ledger adds up to the input"] > 0


def test_the_console_shows_the_whole_ledger_and_where_the_day_is(mined: tuple[JobRun, Path]) -> None:
    run, out = mined
    assert run.stderr == ""
    printed = {
        name: int(count.replace(",", ""))
        for name, count in re.findall(r"^(\w+) +([\d,]+) +[\d.]+%", run.stdout, re.M)
    }
    total = printed.pop("total")
    assert printed == published(out).ledger
    assert total == sum(printed.values())
    assert "note: kinds of engagement that mining.kinds does not name were ignored: glance (" in run.stdout
    assert run.stdout.endswith(f"published {day_of(out)}/manifest.json\n")


def test_the_manifest_says_what_was_mined_from_what(mined: tuple[JobRun, Path], folder: Path) -> None:
    manifest = published(mined[1])
    assert (manifest.ds, manifest.window_start, manifest.window_end) == (
        DAY, "2026-11-20T00:00:00+00:00", "2026-11-21T00:00:00+00:00",
    )  # fmt: skip
    assert manifest.as_of == f"{AS_OF}T00:00:00+00:00"
    assert manifest.input["impressions"]["place"] == str(folder / "impressions")
    assert manifest.input["impressions"]["num_rows"] == sum(manifest.ledger.values())
    assert manifest.kinds["served"] == 0
    records = records_of(mined[1])
    assert manifest.num_records == len(records)
    assert manifest.num_positives == len(side_of(records, "positive"))
    assert manifest.num_negatives == len(side_of(records, "negative"))


def test_records_are_ordered_by_user_in_a_bucket_and_every_user_is_in_hers(
    mined: tuple[JobRun, Path],
) -> None:
    from scrollpast.hashing import bucket_of, xxhash64
    from scrollpast.shards.codec import decode_records

    manifest = published(mined[1])
    for entry in manifest.shards:
        path = day_of(mined[1]) / entry.path
        users = decode_records(path.read_bytes(), pa.schema([("user_id", pa.int64())]), entry.path)["user_id"]
        assert users.to_pylist() == sorted(users.to_pylist())
        assert set(bucket_of(xxhash64(users.to_numpy()), manifest.num_buckets).tolist()) == {entry.bucket}


def test_the_ledger_is_what_plain_loops_over_the_rows_count(spark: SparkSession, folder: Path) -> None:
    out = folder / "uncapped"
    options = {"mining.max_ad_share": 1, "mining.negatives_per_user": 1024}
    settings = [f"{name}={value}" for name, value in options.items()]
    assert mine(folder, out, *(part for setting in settings for part in ("--set", setting))).exit_code == 0
    window = Window.of_days(datetime(2026, 11, 20, tzinfo=UTC).date(), 1, datetime(2026, 11, 28, tzinfo=UTC))
    rules = Rules.of(load_config(None, settings).mining, window)
    served_us = LOG.impressions["served_at"].cast(pa.int64())
    inside = LOG.impressions.filter(
        pc.and_(pc.greater_equal(served_us, DAY_START_US), pc.less(served_us, DAY_START_US + 24 * HOUR_US))
    )
    hashes = hash_column(inside["request_id"].combine_chunks()) & (2**63 - 1)
    inside = inside.set_column(3, "served_at", inside["served_at"].cast(pa.int64()))
    rows = inside.append_column("request_hash", pa.array(hashes)).to_pylist()
    engagements = LOG.engagements.set_column(3, "engaged_at", LOG.engagements["engaged_at"].cast(pa.int64()))
    outcomes = reference.decide(rows, engagements.to_pylist(), rules, {})
    cells = [
        ("negative" if outcome == "candidate" else outcome, row["surface"] or "all", row["position"])
        for outcome, row in zip(outcomes, rows, strict=True)
    ]
    expected = (
        spark.createDataFrame(cells, "outcome string, surface string, position long")
        .groupBy("outcome", "surface", "position")
        .agg(sql.count("*").alias("count"))
    )
    found = spark.read.parquet(str(day_of(out) / "ledger"))
    assert_df_equality(expected, found, ignore_nullable=True, ignore_row_order=True)


def test_the_quarantine_holds_exactly_the_broken_rows_with_a_reason(
    spark: SparkSession, mined: tuple[JobRun, Path]
) -> None:
    found = spark.read.parquet(str(day_of(mined[1]) / "quarantine"))
    broken = spark.createDataFrame(LOG.impressions.drop_columns(["country"])).where(
        (sql.col("user_id").isNull() | (sql.col("dwell_ms") < 0))
        & (sql.col("served_at") >= sql.lit(f"{DAY}T00:00:00Z").cast("timestamp"))
        & (sql.col("served_at") < sql.lit("2026-11-21T00:00:00Z").cast("timestamp"))
    )
    reason = sql.when(sql.col("user_id").isNull(), "user_id is null, or one of input.null_ids").otherwise(
        "dwell_ms is negative"
    )
    expected = broken.select(
        "request_id", "user_id", "ad_id", "served_at", sql.col("position").cast("long"),
        sql.col("dwell_ms").cast("long"), "surface", reason.alias("reason"),
    )  # fmt: skip
    assert_df_equality(
        expected.select(sorted(expected.columns)),
        found.select(sorted(found.columns)),
        ignore_nullable=True,
        ignore_row_order=True,
    )
    assert found.count() == published(mined[1]).ledger["invalid"] > 0


def test_two_days_are_one_data_set(spark: SparkSession, folder: Path) -> None:
    out = folder / "two"
    run = mine(folder, out, "--date", "2026-11-21", "--days", "2")
    assert run.exit_code == 0, run.stderr
    check_laws(out, LOG.impressions, LOG.engagements, "2026-11-21")
    assert published(out, "2026-11-21").window_start == "2026-11-20T00:00:00+00:00"


def test_what_was_not_known_yet_takes_no_part(spark: SparkSession, folder: Path) -> None:
    out = folder / "early"
    run = mine(folder, out, "--as-of", f"{DAY}T18:00:00")
    assert run.exit_code == 0, run.stderr
    check_laws(out, LOG.impressions, LOG.engagements)
    ledger = published(out).ledger
    assert ledger["immature"] > 0
    assert ledger["negative"] == 0  # none can be certain before its attribution window has closed


def test_an_advertisers_other_ads_are_guarded_by_one_click(spark: SparkSession, folder: Path) -> None:
    out = folder / "guarded"
    run = mine(folder, out, f"--ads={folder / 'ads'}", "--set", "mining.guard.keys=[advertiser_id]")
    assert run.exit_code == 0, run.stderr
    check_laws(out, LOG.impressions, LOG.engagements)
    negative, ads, engagements = side_of(records_of(out), "negative"), LOG.ads, LOG.engagements
    query = """
        SELECT count(*) FROM negative n JOIN ads a USING (ad_id)
        SEMI JOIN (SELECT e.user_id, advertiser_id, epoch_us(engaged_at) // 1000 AS at_ms
                   FROM engagements e JOIN ads USING (ad_id)
                   WHERE kind IN ('click', 'long_click', 'save', 'conversion')) e
        ON n.user_id = e.user_id AND a.advertiser_id = e.advertiser_id
           AND e.at_ms BETWEEN n.served_at_ms - 168 * 3600000 AND n.served_at_ms + 72 * 3600000
        WHERE n.kind = 0"""
    database = duckdb.connect()
    for name, table in {"negative": negative, "ads": ads, "engagements": engagements}.items():
        database.register(name, table)
    assert database.execute(query).fetchone() == (0,)
    assert len(negative) > 0


def test_a_users_latest_feature_is_in_her_record(spark: SparkSession, folder: Path) -> None:
    out = folder / "features"
    assert mine(folder, out, "--set", "mining.user_features=[country]").exit_code == 0
    countries = pa.array(["de", "fr", "dk"])
    codes = hash_column(countries) & (2**63 - 1)
    for record in records_of(out).to_pylist():
        assert record["user_country"] == codes[record["user_id"] % 3]


def test_a_user_feature_that_is_null_in_every_record_is_noted(
    spark: SparkSession, folder: Path, tmp_path: Path
) -> None:
    impressions = pq.read_table(folder / "impressions")
    impressions = impressions.append_column("region", pa.nulls(len(impressions), pa.string()))
    (tmp_path / "impressions").mkdir()
    pq.write_table(impressions, tmp_path / "impressions" / "part-0.parquet")
    tables = ("--impressions", str(tmp_path / "impressions"))
    run = mine(folder, tmp_path / "out", *tables, "--set", "mining.user_features=[country, region]")
    assert run.exit_code == 0, run.stderr
    (note,) = (line for line in run.stdout.splitlines() if "user feature" in line)
    assert note == (
        f"note: user feature region of impressions ({tmp_path / 'impressions'}) is null in every record; "
        "fill the column, or remove it from mining.user_features"
    )


def test_the_configuration_of_a_file_and_its_paths_are_taken(
    spark: SparkSession, folder: Path, tmp_path: Path
) -> None:
    tables = {name: f"{{path: {folder / name}}}" for name in ("impressions", "engagements")}
    (tmp_path / "own.yaml").write_text(
        f"input:\n  impressions: {tables['impressions']}\n  engagements: {tables['engagements']}\n"
        f"output: {{path: {tmp_path / 'out'}}}\nmining: {{num_buckets: 3}}\nspark: {{num_partitions: 1}}\n"
    )
    run = run_here("--config", str(tmp_path / "own.yaml"), "--date", DAY, "--as-of", AS_OF)
    assert run.exit_code == 0, run.stderr
    assert published(tmp_path / "out").num_buckets == 3
    assert {entry.bucket for entry in published(tmp_path / "out").shards} <= {0, 1, 2}


def test_a_window_without_engagements_can_be_mined_if_that_is_meant(
    spark: SparkSession, folder: Path, tmp_path: Path
) -> None:
    pq.write_table(LOG.engagements.slice(0, 0), tmp_path / "none.parquet")
    out = tmp_path / "out"
    run = run_here(
        *arguments_of(folder, out), "--engagements", str(tmp_path / "none.parquet"),
        "--set", "mining.require_engagements=false", "--set", "spark.num_partitions=2",
        "--set", "gate.bounds.recorded=null",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    ledger = published(out).ledger
    assert ledger["unanchored"] + ledger["invalid"] == sum(ledger.values())
    assert published(out).shards == ()
    check_laws(out, LOG.impressions, LOG.engagements.slice(0, 0))
    assert ledger_of(out).num_rows > 0
