"""The report of exposure beside a day, and the quarantine of new ads, from the command line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from tests.jobs.job_runs import JobRun, mine
from tests.jobs.published_days import SERVED, content_of, day_of, published, records_of, side_of
from tests.toy_logs import DAY_START_US, HOUR_US, NUM_ADS, toy_log, write_parquet

LOG = toy_log()
AGES_H = np.arange(NUM_ADS) * 2 - 10
"""Hours from the creation of each ad to the start of the day; the first ads are created during the day."""
QUARANTINE = ("--set", "mining.exposure.new_ad_quarantine_h=24")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = LOG.write(tmp_path_factory.mktemp("log"))
    created = pa.array(DAY_START_US - AGES_H * HOUR_US, pa.timestamp("us", "UTC"))
    # The table lacks the last ad, and does not know of one when it was created.
    created = pa.concat_arrays([created[:20], pa.nulls(1, created.type), created[21:]])
    write_parquet(LOG.ads.append_column("created_at", created).slice(0, NUM_ADS - 1), folder / "aged")
    return folder


def done(run: JobRun) -> JobRun:
    assert run.exit_code == 0, run.stderr
    return run


def report_of(out: Path) -> dict[str, Any]:
    manifest = published(out)
    assert manifest.exposure_file is not None
    return json.loads((day_of(out) / manifest.exposure_file).read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def mined(spark: SparkSession, folder: Path) -> Path:
    done(mine(folder, folder / "out", f"--ads={folder / 'aged'}"))
    return folder / "out"


def test_the_report_counts_the_ads_of_the_records(mined: Path) -> None:
    report, records = report_of(mined), records_of(mined)
    negative = side_of(records, "negative")
    counts = Counter(ad for ad, kind in zip(negative["ad_id"].to_pylist(), negative["kind"].to_pylist(), strict=True)
                     if kind == SERVED)  # fmt: skip
    assert report["num_negatives"] == counts.total()
    assert report["num_positives"] == published(mined).num_positives
    assert (report["catalogue"], report["num_ads"]) == ("ads", NUM_ADS)
    assert report["share_of_ads_with_negatives"] == pytest.approx(len(counts) / NUM_ADS)
    of_all = np.sort([counts.get(ad, 0) for ad in range(NUM_ADS)]).astype(float)
    gini = np.abs(of_all[:, None] - of_all).mean() / (2 * of_all.mean())
    assert report["gini"] == pytest.approx(gini, abs=1e-8)
    assert 0.2 < report["gini"] < 1
    slices = report["slices"]
    new = [ad for ad in range(NUM_ADS - 1) if AGES_H[ad] < 168 and ad != 20]
    assert slices["new"]["num_ads"] == len(new)
    assert slices["new"]["num_negatives"] == sum(counts[ad] for ad in new)
    assert slices["not_listed"]["num_ads"] == int(
        NUM_ADS - 1 in counts or slices["not_listed"]["num_positives"] > 0
    )


@pytest.mark.slow
def test_without_a_table_of_ads_the_catalogue_is_what_the_records_hold(folder: Path) -> None:
    done(mine(folder, folder / "plain"))
    report = report_of(folder / "plain")
    assert report["catalogue"] == "records"
    assert set(report["slices"]) == {"head", "tail", "without_positives"}


def test_ads_are_counted_alike_in_any_number_of_parts_and_partitions(
    mined: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrollpast.mining.exposure._COUNTS_OF_ONE_PART", 100)
    done(mine(folder, tmp_path, f"--ads={folder / 'aged'}", partitions=3))
    assert published(tmp_path).exposure_file == published(mined).exposure_file
    assert content_of(tmp_path) == content_of(mined)


def test_new_ads_in_quarantine_are_counted_and_are_no_negatives(mined: Path, folder: Path) -> None:
    out = folder / "quarantined"
    done(mine(folder, out, f"--ads={folder / 'aged'}", *QUARANTINE))
    before, after = published(mined).ledger, published(out).ledger
    assert before["too_new"] == 0 < after["too_new"]
    assert sum(after.values()) == sum(before.values())
    same = ("invalid", "unanchored", "positive", "engaged_elsewhere", "not_examined", "lingered")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    negative = side_of(records_of(out), "negative").filter(pc.field("kind") == SERVED)
    served_us = np.array(negative["served_at_ms"]) * 1000
    ads = np.array(negative["ad_id"])
    is_aged = (ads != 20) & (ads != NUM_ADS - 1)
    created_us = DAY_START_US - AGES_H[ads[is_aged]] * HOUR_US
    assert (served_us[is_aged] - created_us >= 24 * HOUR_US - 1000).all()
    assert (~is_aged).any()


def test_a_quarantine_needs_to_know_when_ads_were_created(folder: Path, tmp_path: Path) -> None:
    run = mine(folder, tmp_path, f"--ads={folder / 'ads'}", *QUARANTINE)
    assert run.exit_code == 2
    assert "expected the column created_at (timestamp (UTC)), found only ad_id, advertiser_id" in run.error
    assert mine(folder, tmp_path, *QUARANTINE).exit_code == 2
