"""Logs that differ from the contract as teams' logs do: read as they mean, noted, or refused with a remedy."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from scrollpast.hashing import hash_column
from tests.jobs.job_runs import JobRun, mine, run_job
from tests.jobs.published_days import check_laws, content_of, published, records_of
from tests.toy_logs import DAY, ToyLog, toy_log, write_parquet

LOG = toy_log(120)
NULL_IDS = ("--set", 'input.null_ids=["", "unknown", "-1"]')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return LOG.write(tmp_path / "log")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def notes(run: JobRun) -> list[str]:
    assert run.exit_code == 0, run.stderr
    return [line.removeprefix("note: ") for line in run.stdout.splitlines() if line.startswith("note: ")]


def shards(out: Path) -> list[str]:
    return [entry.sha256 for entry in published(out).shards]


# Files of a folder


@pytest.mark.parametrize("column", ["dwell_ms", "position", "surface"])
def test_a_column_that_an_older_file_lacks_is_null_there(
    spark: SparkSession, folder: Path, out: Path, tmp_path: Path, column: str
) -> None:
    half = len(LOG.impressions) // 2
    older, newer = LOG.impressions.slice(0, half), LOG.impressions.slice(half)
    write_parquet(older.drop_columns([column]), folder / "impressions")
    pq.write_table(newer, folder / "impressions" / "part-1.parquet")
    assert f"impressions.{column}: 1 of 2 files lack the column; it is null in their rows" in notes(
        mine(folder, out)
    )
    filled = older.set_column(
        older.schema.get_field_index(column), column, pa.nulls(half, older.schema.field(column).type)
    )
    whole = LOG.write(tmp_path / "whole")
    write_parquet(pa.concat_tables([filled, newer]), whole / "impressions")
    mine(whole, tmp_path / "expected")
    assert shards(out) == shards(tmp_path / "expected")
    assert published(out).ledger == published(tmp_path / "expected").ledger


def test_a_column_that_no_file_has_is_still_a_mistake(spark: SparkSession, folder: Path, out: Path) -> None:
    write_parquet(LOG.impressions.drop_columns(["dwell_ms"]), folder / "impressions")
    run = mine(folder, out)
    assert run.exit_code == 2
    assert "expected the column dwell_ms (int (nulls allowed)), found only" in run.error


def test_files_of_another_kind_are_skipped_and_named(spark: SparkSession, folder: Path, out: Path) -> None:
    mine(folder, out)
    for name in ("README.txt", "sub/state.json"):
        path = folder / "impressions" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("no table")
    run = mine(folder, out.with_name("again"))
    assert notes(run)[0] == (
        f"impressions ({folder / 'impressions'}): skipped README.txt, sub/state.json: the table's other files have "
        "the suffix .parquet"
    )
    assert shards(out) == shards(out.with_name("again"))


def test_a_broken_file_of_a_table_says_to_move_it_away(spark: SparkSession, folder: Path, out: Path) -> None:
    (folder / "impressions" / "part-1").write_text("no table")
    run = mine(folder, out)
    assert run.exit_code == 2
    assert f"impressions ({folder / 'impressions' / 'part-1'}): expected a readable Parquet file" in run.error
    assert run.error.endswith("; move the file away if it is no part of the table")


def test_files_of_another_kind_beside_csv_are_skipped_and_named(
    spark: SparkSession, folder: Path, out: Path
) -> None:
    mine(folder, out)
    (folder / "csv").mkdir()
    pa.csv.write_csv(LOG.engagements, folder / "csv" / "part-0.csv")
    (folder / "csv" / "README.txt").write_text("17,3,click,2026-11-20T10:00:00Z,5\n")
    columns = "user_id BIGINT, ad_id BIGINT, kind STRING, engaged_at TIMESTAMP, request_id BIGINT"
    run = mine(
        folder, out.with_name("csv"), f"--engagements={folder / 'csv'}",
        "--set", "input.engagements.format=csv", "--set", f"input.engagements.columns={columns}",
        "--set", "input.engagements.options={header: true}",
    )  # fmt: skip
    assert notes(run)[0] == (
        f"engagements ({folder / 'csv'}): skipped README.txt: the table's other files have the suffix .csv"
    )
    assert shards(out) == shards(out.with_name("csv"))


# Ids that stand for no id


def with_some(values: pa.ChunkedArray, value: object, chosen: np.ndarray) -> pa.ChunkedArray:
    return pc.if_else(pa.array(chosen), pa.scalar(value, values.type), values)


@pytest.mark.parametrize("value", ["", "unknown"])
@pytest.mark.parametrize("column", ["user_id", "ad_id", "request_id"])
def test_an_id_that_stands_for_none_makes_a_row_invalid_as_null_does(
    spark: SparkSession, out: Path, tmp_path: Path, column: str, value: str
) -> None:
    log = LOG.with_text_ids()
    chosen = np.random.default_rng(1).random(len(log.impressions)) < 0.1
    engaged = np.random.default_rng(2).random(len(log.engagements)) < 0.1
    days = {}
    for name, stands_for in (("as null", None), ("as text", value)):
        changed = ToyLog(
            log.with_impressions(
                **{column: with_some(log.impressions[column], stands_for, chosen)}
            ).impressions,
            log.with_engagements(
                **{column: with_some(log.engagements[column], stands_for, engaged)}
            ).engagements,
            log.ads,
        )
        run = mine(changed.write(tmp_path / name), out / name, *NULL_IDS)
        assert run.exit_code == 0, run.stderr
        days[name] = content_of(out / name)
    assert days["as null"] == days["as text"]
    assert published(out / "as text").ledger["invalid"] > 0.05 * len(LOG.impressions)
    day = out / "as text" / f"ds={DAY}"
    reasons = set(pq.read_table(day / "quarantine")["reason"].to_pylist())
    assert f"{column} is null, or one of input.null_ids" in reasons
    users = {record["user_id"] for record in records_of(out / "as text").to_pylist()}
    assert int(hash_column(pa.array([value]))[0] & np.int64(2**63 - 1)) not in users


def test_a_whole_number_may_stand_for_no_id(spark: SparkSession, out: Path, tmp_path: Path) -> None:
    nobody = pc.fill_null(LOG.impressions["user_id"], -1)
    log = LOG.with_impressions(user_id=nobody)
    run = mine(log.write(tmp_path / "log"), out, *NULL_IDS)
    assert run.exit_code == 0, run.stderr
    mine(LOG.write(tmp_path / "null"), out.with_name("null"))
    assert content_of(out) == content_of(out.with_name("null"))


def test_other_ids_that_stand_for_none_are_another_configuration(
    spark: SparkSession, folder: Path, out: Path
) -> None:
    mine(folder, out)
    run = mine(folder, out, *NULL_IDS)
    assert run.exit_code == 2
    assert "a published day, and a change of the configuration of mining" in run.error


# Kinds of engagement


def with_kinds(log: ToyLog, **names: str) -> ToyLog:
    kinds = [names.get(name, "other") for name in log.engagements["kind"].to_pylist()]
    return log.with_engagements(kind=pa.array(kinds))


def test_kinds_without_a_name_are_named_by_the_options_of_the_message(
    spark: SparkSession, out: Path, tmp_path: Path
) -> None:
    log = with_kinds(LOG, click="clk", conversion="purchase")
    folder = log.write(tmp_path / "log")
    run = mine(folder, out)
    assert run.exit_code == 2
    remedy = re.search(r"name the kinds that are positive: (.*) \(role explicit_negative", run.error)
    assert remedy is not None, run.error
    options = shlex.split(remedy[1])
    assert options == [
        "--set", "mining.kinds.clk={code: 5, role: positive, attribution_h: 24}",
        "--set", "mining.kinds.other={code: 6, role: positive, attribution_h: 24}",
        "--set", "mining.kinds.purchase={code: 7, role: positive, attribution_h: 24}",
    ]  # fmt: skip
    named = mine(folder, out, *options)
    assert named.exit_code == 0, named.stderr
    assert published(out).num_positives > 0
    assert {"clk": 5, "other": 6, "purchase": 7}.items() <= published(out).kinds.items()


def test_a_day_without_a_record_is_held_and_can_be_asked_for(
    spark: SparkSession, out: Path, tmp_path: Path
) -> None:
    folder = with_kinds(LOG, click="clk").write(tmp_path / "log")
    anyway = ("--set", "mining.require_engagements=false")
    run = mine(folder, out, *anyway)
    assert run.exit_code == 3
    assert "expected recorded at least 1 (gate.bounds.recorded), found 0" in run.error
    assert list(out.glob("ds=*")) == []
    assert mine(folder, out, *anyway, "--set", "gate.bounds.recorded=null").exit_code == 0
    assert published(out).num_records == 0


def test_a_moment_of_knowledge_at_the_start_of_the_days_is_a_mistake_of_its_own(
    folder: Path, out: Path
) -> None:
    run = run_job("mine_negatives", "--date", DAY, "--as-of", DAY, f"--impressions={folder}", f"--out={out}")
    assert run.exit_code == 2
    assert run.error == (
        "--as-of: expected a moment after the first day has begun, found 2026-11-20T00:00:00+00:00, the moment at "
        "which it begins; the days have no data at that moment; for complete days, pass the day "
        "after the last day: --as-of 2026-11-21"
    )


# Units


def test_slots_from_1_are_noted_and_the_option_mends_them(
    spark: SparkSession, folder: Path, out: Path, tmp_path: Path
) -> None:
    log = LOG.with_impressions(position=pc.add(LOG.impressions["position"], pa.scalar(1, pa.int32())))
    shifted = log.write(tmp_path / "shifted")
    note = (
        "no impression has position 0, the smallest is 1: if the log counts slots from 1, set "
        "input.impressions.first_position=1"
    )
    assert note in notes(mine(shifted, out / "noted"))
    run = mine(shifted, out / "mended", "--set", "input.impressions.first_position=1")
    assert note not in notes(run)
    mine(folder, out / "expected")
    assert content_of(out / "mended") == content_of(out / "expected")


def test_dwell_in_seconds_is_noted_and_the_option_mends_it(
    spark: SparkSession, out: Path, tmp_path: Path
) -> None:
    seconds = pc.divide(LOG.impressions["dwell_ms"], pa.scalar(1000, pa.int32()))
    log = LOG.with_impressions(dwell_ms=seconds)
    folder = log.write(tmp_path / "log")
    noted = [note for note in notes(mine(folder, out / "noted")) if "dwells above 0 are under 60 ms" in note]
    assert noted[0].endswith("if they are seconds, set input.impressions.dwell_unit=s")
    run = mine(folder, out / "mended", "--set", "input.impressions.dwell_unit=s")
    assert not any("dwells above 0" in note for note in notes(run))
    in_ms = LOG.with_impressions(dwell_ms=pc.multiply(seconds, pa.scalar(1000, pa.int32())))
    mine(in_ms.write(tmp_path / "ms"), out / "expected")
    assert content_of(out / "mended") == content_of(out / "expected")


def test_a_log_without_any_dwell_is_noted(spark: SparkSession, out: Path, tmp_path: Path) -> None:
    log = LOG.with_impressions(dwell_ms=pa.nulls(len(LOG.impressions), pa.int32()))
    run = mine(log.write(tmp_path / "log"), out)
    assert any(note.startswith("no impression has a dwell: ") for note in notes(run))


def test_a_catalogue_of_new_ads_only_is_noted(spark: SparkSession, out: Path, tmp_path: Path) -> None:
    created = pa.array([1_795_132_800_000_000] * len(LOG.ads), pa.timestamp("us", "UTC"))
    larger = toy_log(400)
    log = ToyLog(larger.impressions, larger.engagements, larger.ads.append_column("created_at", created))
    folder = log.write(tmp_path / "log")
    run = mine(folder, out, f"--ads={folder / 'ads'}")
    assert any(note.startswith("every ad whose age is known is new") for note in notes(run))


def test_a_log_in_order_has_no_such_note(spark: SparkSession, folder: Path, out: Path) -> None:
    found = notes(mine(folder, out))
    assert len(found) == 2, found  # of the kind that is not named, and of the gate
    check_laws(out, LOG.impressions, LOG.engagements)


# The share of an ad


@pytest.mark.parametrize("share", [0.02, 0.03, 0.1, 0.3])
def test_no_ad_has_more_than_its_share_of_what_is_written(
    spark: SparkSession, folder: Path, out: Path, share: float
) -> None:
    run = mine(folder, out, "--set", f"mining.max_ad_share={share}")
    served = [
        ad
        for record in records_of(out).to_pylist()
        for ad, kind in zip(record["negative_ad_id"], record["negative_kind"], strict=True)
        if kind == 0
    ]
    largest = max(served.count(ad) for ad in set(served)) / len(served)
    if largest > share:
        assert f"one ad has {largest:.3%} of the negatives, more than {share:.3%}" in run.stdout
        assert share * len(set(served)) < 1.2
    else:
        assert "max_ad_share" not in run.stdout
