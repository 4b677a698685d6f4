"""A simulated log in which a retriever says what users may be shown, day by day."""

from __future__ import annotations

import hashlib
import json
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
DAILY = ("impressions/", "engagements/", "truth/")


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


def test_slots_that_are_not_random_show_the_pool_s_ads_where_all_of_them_live(tmp_path: Path) -> None:
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
    assert 0.9 < from_pool.mean() < 1


def test_an_ad_that_is_not_there_yet_is_shown_only_once_it_is(tmp_path: Path) -> None:
    newest = np.full((NUM_USERS, 20), NUM_ADS - 1, np.int32)
    simulate_log(replace(REQUEST, retrieved=saved(newest, tmp_path)), tmp_path / "log")
    created = rows(tmp_path / "log", "ads")["created_at"].cast(pa.int64()).to_numpy()[-1]
    truth = rows(tmp_path / "log", "truth").filter(pc.invert(rows(tmp_path / "log")["is_random"]))
    is_person = ~truth["is_bot"].to_numpy()
    is_newest = (truth["ad_id"].to_numpy() == NUM_ADS)[is_person]
    is_there = (truth["served_at"].cast(pa.int64()).to_numpy() >= created)[is_person]
    assert is_there.any() and not is_there.all()
    assert is_newest[is_there].all() and not is_newest[~is_there].any()


def test_bots_see_the_funnel_s_own_ads(whole: Path, tmp_path: Path) -> None:
    simulate_log(replace(REQUEST, retrieved=saved(pools_of(1), tmp_path)), tmp_path / "log")
    of_bots = [
        truth.filter(truth["is_bot"]).select(["request_id", "position", "ad_id"])
        for truth in (rows(whole, "truth"), rows(tmp_path / "log", "truth"))
    ]
    assert of_bots[0].num_rows > 50
    # Earlier requests differ in their number of rows, so that the logs end at different requests: compare shared ones.
    here, there = (
        {(row["request_id"], row["position"]): row["ad_id"] for row in table.to_pylist()} for table in of_bots
    )
    assert len(here.keys() & there.keys()) > 50
    assert all(here[place] == there[place] for place in here.keys() & there.keys())


def test_minus_one_leaves_the_funnel_s_own_ads(whole: Path, tmp_path: Path) -> None:
    nothing = saved(np.full((NUM_USERS, 20), -1, np.int32), tmp_path)
    simulate_log(replace(REQUEST, retrieved=nothing), tmp_path / "log")
    for name in ("impressions", "engagements", "ads", "truth"):
        assert contents(tmp_path / "log" / name) == contents(whole / name)


def test_the_record_says_which_day_and_pools_and_nothing_of_them_without(whole: Path, tmp_path: Path) -> None:
    path = saved(pools_of(1), tmp_path)
    simulate_log(replace(REQUEST, retrieved=path, only_day=1), tmp_path / "log")
    record, without = (json.loads((log / "simulation.json").read_text()) for log in (tmp_path / "log", whole))
    assert record["retrieved_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["only_day"] == 1
    assert record["intercept"] == without["intercept"]
    assert record.keys() - without.keys() == {"only_day", "retrieved_sha256"}


def test_users_ads_and_tastes_stay_the_same(whole: Path, tmp_path: Path) -> None:
    simulate_log(replace(REQUEST, retrieved=saved(pools_of(1), tmp_path)), tmp_path / "log")
    assert contents(tmp_path / "log" / "ads") == contents(whole / "ads")
    wanted: dict[tuple[int, int], bool] = {}
    for folder in (whole, tmp_path / "log"):
        for row in rows(folder, "truth").select(["user_id", "ad_id", "is_relevant"]).to_pylist():
            pair = row["user_id"], row["ad_id"]
            assert wanted.setdefault(pair, row["is_relevant"]) == row["is_relevant"]


def test_two_processes_write_what_one_writes(tmp_path: Path) -> None:
    request = replace(REQUEST, only_day=2)
    for num_processes in (1, 2):
        # The log does not depend on the file's path.
        moved = saved(pools_of(2), tmp_path / f"pools-{num_processes}")
        simulate_log(replace(request, retrieved=moved), tmp_path / str(num_processes), num_processes)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_the_days_one_by_one_are_the_whole_log(whole: Path, tmp_path: Path) -> None:
    found: dict[str, str] = {}
    for day in range(4):
        counts = simulate_log(replace(REQUEST, only_day=day), tmp_path / str(day))
        assert counts["impressions"] == 5_000
        for name in DAILY:
            found |= {
                f"{name}{file}": digest for file, digest in contents(tmp_path / str(day) / name).items()
            }
        days = rows(tmp_path / str(day))["served_at"].cast(pa.date32())
        assert len(days.unique()) == 1
    assert found == {name: digest for name, digest in contents(whole).items() if name.startswith(DAILY)}


@pytest.mark.parametrize(
    ("pools", "found"),
    [
        (np.zeros((NUM_USERS, 20)), r"float64 \[133, 20\]"),
        (np.zeros((NUM_USERS, 20), np.int64), r"int64 \[133, 20\]"),
        (np.zeros((NUM_USERS, 21), np.int32), r"int32 \[133, 21\]"),
        (np.zeros((NUM_USERS - 1, 20), np.int32), r"int32 \[132, 20\]"),
        (np.zeros(NUM_USERS, np.int32), r"int32 \[133\]"),
        (np.full((NUM_USERS, 20), NUM_ADS, np.int32), r"int32 \[133, 20\] with values from 381 to 381"),
        (np.full((NUM_USERS, 20), -2, np.int32), r"int32 \[133, 20\] with values from -2 to -2"),
    ],
)
def test_pools_that_do_not_fit_are_refused_before_anything_is_written(
    pools: NDArray[Any], found: str, tmp_path: Path
) -> None:
    expected = r"int32 \[133, 20\] \(users, slots of a pool\) with values from -1 to 380"
    with pytest.raises(UserError, match=f"--retrieved .*: expected {expected}, found {found}"):
        simulate_log(replace(REQUEST, retrieved=saved(pools, tmp_path)), tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_a_file_that_is_no_array_of_numbers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.npy").touch()
    np.savez(tmp_path / "several.npz", np.zeros(3, np.int32))
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    saved(pools_of(1), tmp_path)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "retrieved.npy").read_bytes()[:-100])
    for name in ("text.npy", "empty.npy", "several.npz", "objects.npy", "cut.npy", "nowhere.npy"):
        with pytest.raises(UserError, match=r"--retrieved .*: expected an array as numpy\.save writes it"):
            simulate_log(replace(REQUEST, retrieved=tmp_path / name), tmp_path / "log")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": replace(SHAPE, rows_per_file=8_000)}, "found 20,000 rows in 3 files"),
        ({"num_rows": 19_999}, "found 19,999 rows in 4 files"),
        ({"only_day": 4}, "expected a day of the log's 4, from 0 to 3, found 4"),
        ({"only_day": -1}, "found -1"),
    ],
)
def test_a_day_that_is_not_in_the_log_or_not_whole_files_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"--only-day: .*{message}"):
        replace(REQUEST, **{"only_day": 0, **changes})
