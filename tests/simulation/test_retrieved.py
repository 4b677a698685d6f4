"""A simulated log in which a retriever says what users may be shown, day by day."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from scrollpast.errors import UserError
from scrollpast.simulation.log import LogRequest, simulate_log
from scrollpast.simulation.shape import LogShape
from tests.simulation.test_log import LAST_DAY, contents

SHAPE = LogShape(rows_per_file=5_000, pool_ads=20, duplicates=0.0, broken=0.0, random_slot_share=0.1)
REQUEST = LogRequest(20_000, 4, LAST_DAY, seed=3, shape=SHAPE)
NUM_USERS, NUM_ADS = 133, 381


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log without a retriever, all days."""
    folder = tmp_path_factory.mktemp("whole")
    simulate_log(REQUEST, folder)
    return folder


def saved(pools: NDArray[Any], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "retrieved.npy"
    np.save(path, pools)
    return path


def pools_of(seed: int) -> NDArray[np.int32]:
    random = np.random.Generator(np.random.Philox(seed))
    return random.integers(0, NUM_ADS, (NUM_USERS, 20), np.int32)


def rows(folder: Path, table: str = "impressions") -> pa.Table:
    return pq.read_table(folder / table)


def test_what_is_shown_comes_from_the_pools_or_by_lot(tmp_path: Path) -> None:
    pools = pools_of(1)
    simulate_log(replace(REQUEST, retrieved=saved(pools, tmp_path)), tmp_path / "log")
    found = rows(tmp_path / "log").filter(pc.invert(rows(tmp_path / "log")["is_random"]))
    truth = rows(tmp_path / "log", "truth").filter(pc.invert(rows(tmp_path / "log")["is_random"]))
    is_person = ~truth["is_bot"].to_numpy()
    users, ads = (found[name].to_numpy()[is_person] - 1 for name in ("user_id", "ad_id"))
    created = rows(tmp_path / "log", "ads")["created_at"].cast(pa.int64()).to_numpy()
    # An ad that is not there yet leaves its slot to the funnel: here a tenth of the ads come in the four days.
    later = (created[pools] >= REQUEST.first_us).any(axis=1)
    from_pool = (pools[users] == ads[:, None]).any(axis=1)
    assert from_pool[~later[users]].all() and not later.all()
    assert from_pool.mean() > 0.9


def test_minus_one_leaves_the_funnel_s_own_ads(whole: Path, tmp_path: Path) -> None:
    nothing = saved(np.full((NUM_USERS, 20), -1, np.int32), tmp_path)
    simulate_log(replace(REQUEST, retrieved=nothing), tmp_path / "log")
    for name in ("impressions", "engagements", "ads", "truth"):
        assert contents(tmp_path / "log" / name) == contents(whole / name)


def test_users_ads_and_tastes_stay_the_same(whole: Path, tmp_path: Path) -> None:
    simulate_log(replace(REQUEST, retrieved=saved(pools_of(1), tmp_path)), tmp_path / "log")
    assert contents(tmp_path / "log" / "ads") == contents(whole / "ads")
    wanted = {}
    for folder in (whole, tmp_path / "log"):
        for row in rows(folder, "truth").select(["user_id", "ad_id", "is_relevant"]).to_pylist():
            pair = row["user_id"], row["ad_id"]
            assert wanted.setdefault(pair, row["is_relevant"]) == row["is_relevant"]


def test_two_processes_write_what_one_writes(tmp_path: Path) -> None:
    request = replace(REQUEST, only_day=2)
    for num_processes in (1, 2):
        # Where the file lies is not part of the log.
        moved = saved(pools_of(2), tmp_path / f"pools-{num_processes}")
        simulate_log(replace(request, retrieved=moved), tmp_path / str(num_processes), num_processes)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_the_days_one_by_one_are_the_whole_log(whole: Path, tmp_path: Path) -> None:
    found = {}
    for day in range(4):
        counts = simulate_log(replace(REQUEST, only_day=day), tmp_path / str(day))
        assert counts["impressions"] == 5_000
        found |= contents(tmp_path / str(day) / "impressions")
        days = rows(tmp_path / str(day))["served_at"].cast(pa.date32())
        assert len(days.unique()) == 1
    assert found == contents(whole / "impressions")


@pytest.mark.parametrize(
    ("pools", "found"),
    [
        (np.zeros((NUM_USERS, 20)), r"float64 \[133, 20\]"),
        (np.zeros((NUM_USERS, 21), np.int32), r"int32 \[133, 21\] from 0 to 0"),
        (np.full((NUM_USERS, 20), NUM_ADS, np.int32), "from 381 to 381"),
        (np.full((NUM_USERS, 20), -2, np.int32), "from -2 to -2"),
        (np.array([{}], object), "pickle"),
    ],
)
def test_pools_that_do_not_fit_are_refused(pools: NDArray[Any], found: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--retrieved .*expected .*found .*{found}"):
        simulate_log(replace(REQUEST, retrieved=saved(pools, tmp_path)), tmp_path / "log")


def test_a_file_that_is_no_array_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_text("no array")
    for path in (tmp_path / "x.npy", tmp_path / "nowhere.npy"):
        with pytest.raises(UserError, match=r"--retrieved .*expected an array as numpy\.save writes it"):
            simulate_log(replace(REQUEST, retrieved=path), tmp_path / "log")


def test_a_day_that_is_not_whole_files_or_not_in_the_log_is_refused() -> None:
    with pytest.raises(
        UserError, match="--only-day: expected as many files on each of the 4 days, found 3 files"
    ):
        replace(REQUEST, only_day=0, shape=replace(SHAPE, rows_per_file=8_000))
    with pytest.raises(UserError, match="--only-day: expected a day of the log's 4, from 0 to 3, found 4"):
        replace(REQUEST, only_day=4)
