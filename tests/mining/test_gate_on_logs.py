"""Simulated days at the gate: days in order pass, and every planted fault is caught."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scrollpast.config import GateOptions, Mining
from scrollpast.documents.health import GateVerdict, Health
from scrollpast.mining.gate.bands import judge
from scrollpast.mining.gate.day_metrics import with_seen_before
from scrollpast.mining.rules.attributes import AdAttributes
from scrollpast.mining.rules.rules import DAY_US, Rules, Window
from scrollpast.mining.scan import scan_ads
from scrollpast.simulation.faults import FAULTS, Feeds
from scrollpast.simulation.log import LogRequest, simulate_log
from tests.mining.in_process import mine

LAST_DAY = date(2026, 11, 20)
NUM_DAYS = 15
ROWS_A_DAY = 50_000
GATE = GateOptions()

CAUGHT_BY = {
    "drop_engagements": "engagement_rate",
    "drop_half_of_the_users": "engagement_rate",
    "drop_half_of_the_files": "engagement_rate",
    "engage_3_h_late": "prompt_share",
    "engage_3_h_early": "engagement_rate",
    "deliver_twice": "duplicate_share",
    "deliver_yesterday_again": "seen_before_share",
    "replay_yesterday": "seen_before_share",
    "flood_with_busy_bots": "bot_share",
    "flood_with_many_bots": "engagement_rate",
    "flood_with_silent_bots": "impressions",
    "remap_users_of_engagements": "matched_share",
    "remap_ads_of_impressions": "matched_share",
}
"""By which of its figures, at least, a fault has to be known."""


@dataclass(frozen=True)
class Log:
    feeds: Feeds
    ads: AdAttributes

    def health(self, day: date, feeds: Feeds | None = None) -> Health:
        """The health of one day, known three days after it."""
        feeds = feeds or self.feeds
        as_of = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=4)
        window = Window.of_days(day, 1, as_of)
        rules = Rules.of(Mining(num_buckets=4), window)
        served_us = feeds.impressions["served_at"].cast(pa.int64()).fill_null(0).to_numpy()
        of_day = np.flatnonzero((served_us >= window.start_us) & (served_us < window.end_us))
        with TemporaryDirectory() as folder:
            mined = mine(
                [feeds.impressions.take(of_day)], [feeds.engagements], rules, Path(folder), attributes=self.ads,
                batch_rows=1 << 18,
            )  # fmt: skip
        return mined.health


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("log")
    simulate_log(LogRequest(NUM_DAYS * ROWS_A_DAY, NUM_DAYS, LAST_DAY, seed=3), folder)
    impressions, engagements, ads = (
        pq.read_table(folder / name) for name in ("impressions", "engagements", "ads")
    )
    parts = list(scan_ads(ads.to_batches(), ["created_at"]))
    return Log(Feeds(impressions, engagements), AdAttributes.of(parts, ["created_at"]))


@pytest.fixture(scope="module")
def clean(log: Log) -> dict[str, Health]:
    """The health of every day, in order."""
    days = [LAST_DAY - timedelta(days=back) for back in reversed(range(NUM_DAYS))]
    return {day.isoformat(): log.health(day) for day in days}


def verdict_on(health: Health, before: dict[str, Health]) -> GateVerdict:
    return judge(with_seen_before(health, [day.sketch for day in before.values()]), before, GATE)


def test_clean_days_raise_no_alarm(clean: dict[str, Health]) -> None:
    days = list(clean)
    judged = 0
    for number, day in enumerate(days):
        verdict = verdict_on(clean[day], {earlier: clean[earlier] for earlier in days[:number]})
        assert verdict.breaches == (), day
        judged += bool(verdict.trailing_days)
    assert judged == NUM_DAYS - GATE.min_trailing_days


def test_every_fault_has_a_figure_that_should_tell_it() -> None:
    assert set(CAUGHT_BY) == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(log: Log, clean: dict[str, Health], fault: str) -> None:
    start = datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day, tzinfo=UTC)
    day_us = int(start.timestamp()) * 1_000_000
    assert day_us % DAY_US == 0
    before = {day: health for day, health in clean.items() if day < LAST_DAY.isoformat()}
    verdict = verdict_on(log.health(LAST_DAY, FAULTS[fault](log.feeds, day_us)), before)
    assert CAUGHT_BY[fault] in [breach.figure for breach in verdict.breaches], verdict.breaches
