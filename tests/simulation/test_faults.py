"""Planted faults touch the day that they are planted on, and nothing else."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from scrollpast.simulation.faults import FAULTS, HOUR_US, Feeds
from scrollpast.simulation.log import LogRequest, simulate_log
from scrollpast.simulation.world import DAY_US

LAST_DAY = dt.date(2026, 11, 20)
DAY_START_US = (LAST_DAY - dt.date(1970, 1, 1)).days * DAY_US
DAY = DAY_START_US // DAY_US
NEIGHBOURS = {"engage_3_h_late": DAY + 1, "engage_3_h_early": DAY - 1}
"""Days that receive what a shifted clock takes over midnight."""


@pytest.fixture(scope="module")
def feeds(tmp_path_factory: pytest.TempPathFactory) -> Feeds:
    folder = tmp_path_factory.mktemp("log")
    simulate_log(LogRequest(12_000, 4, LAST_DAY, seed=5), folder)
    return Feeds(pq.read_table(folder / "impressions"), pq.read_table(folder / "engagements"))


def days_of(table: pa.Table) -> np.ndarray:
    name = "served_at" if "served_at" in table.column_names else "engaged_at"
    return np.asarray(table[name].cast(pa.int64()).fill_null(0).to_numpy() // DAY_US)


def on(table: pa.Table, day: int) -> pa.Table:
    return table.filter(pa.array(days_of(table) == day))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_keeps_the_tables_shape_and_all_other_days(feeds: Feeds, fault: str) -> None:
    faulty = FAULTS[fault](feeds, DAY_START_US)
    assert faulty.impressions.schema == feeds.impressions.schema
    assert faulty.engagements.schema == feeds.engagements.schema
    assert not faulty.impressions.equals(feeds.impressions) or not faulty.engagements.equals(
        feeds.engagements
    )
    for before, after in ((feeds.impressions, faulty.impressions), (feeds.engagements, faulty.engagements)):
        for day in set(days_of(before).tolist()) - {DAY, NEIGHBOURS.get(fault)}:
            assert on(after, day).equals(on(before, day)), day
    again = FAULTS[fault](feeds, DAY_START_US)
    assert again.impressions.equals(faulty.impressions) and again.engagements.equals(faulty.engagements)


def test_engagements_go_missing(feeds: Feeds) -> None:
    whole = len(on(feeds.engagements, DAY))
    left = {name: len(on(FAULTS[name](feeds, DAY_START_US).engagements, DAY)) / whole for name in FAULTS}
    assert left["drop_engagements"] == 0
    assert left["drop_half_of_the_users"] == pytest.approx(0.5, abs=0.15)
    assert left["drop_half_of_the_files"] == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(("fault", "hours"), [("engage_3_h_late", 3), ("engage_3_h_early", -3)])
def test_a_clock_is_shifted(feeds: Feeds, fault: str, hours: int) -> None:
    faulty = FAULTS[fault](feeds, DAY_START_US).engagements
    times = [table["engaged_at"].cast(pa.int64()).to_numpy() for table in (feeds.engagements, faulty)]
    moved = times[1] - times[0]
    is_of_day = days_of(feeds.engagements) == DAY
    assert set(moved[is_of_day].tolist()) == {hours * HOUR_US}
    assert set(moved[~is_of_day].tolist()) == {0}


def test_a_day_comes_again(feeds: Feeds) -> None:
    today, yesterday = on(feeds.impressions, DAY), on(feeds.impressions, DAY - 1)
    twice = on(FAULTS["deliver_twice"](feeds, DAY_START_US).impressions, DAY)
    assert twice.equals(pa.concat_tables([today, today]))
    for fault in ("deliver_yesterday_again", "replay_yesterday"):
        again = on(FAULTS[fault](feeds, DAY_START_US).impressions, DAY)
        assert again.drop_columns(["served_at"]).equals(yesterday.drop_columns(["served_at"]))


@pytest.mark.parametrize(
    ("fault", "rows_per_bot"), [("flood_with_busy_bots", 3000), ("flood_with_many_bots", 20)]
)
def test_bots_load_the_day_again(feeds: Feeds, fault: str, rows_per_bot: int) -> None:
    today, flooded = on(feeds.impressions, DAY), on(FAULTS[fault](feeds, DAY_START_US).impressions, DAY)
    bots = flooded.slice(len(today))
    assert len(bots) == len(today)
    counts = pc.value_counts(bots["user_id"].combine_chunks()).field("counts").to_pylist()
    assert max(counts) == min(rows_per_bot, len(bots))
    clicks = len(FAULTS[fault](feeds, DAY_START_US).engagements) - len(feeds.engagements)
    assert clicks / len(bots) == pytest.approx(0.05, abs=0.02)
    silent = FAULTS["flood_with_silent_bots"](feeds, DAY_START_US)
    assert len(silent.engagements) == len(feeds.engagements)


def test_ids_of_one_feed_are_remapped(feeds: Feeds) -> None:
    for fault, table, name in (
        ("remap_users_of_engagements", "engagements", "user_id"),
        ("remap_ads_of_impressions", "impressions", "ad_id"),
    ):
        before = on(getattr(feeds, table), DAY)[name]
        after = on(getattr(FAULTS[fault](feeds, DAY_START_US), table), DAY)[name]
        changed = pc.fill_null(pc.not_equal(before, after), False).to_numpy()
        assert changed.mean() == pytest.approx(0.5, abs=0.15)
        assert not set(after.filter(pa.array(changed)).to_pylist()) & set(before.to_pylist())
