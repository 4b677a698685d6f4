"""Open Bandit: two policies, true propensities, and cohorts in the place of users."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from scrollpast.errors import UserError
from scrollpast.importing.openbandit import import_openbandit
from tests.importing.published import published_log

TIME = dt.datetime(2019, 11, 24, 0, 3, 13, 442_536, tzinfo=dt.UTC)


def log(*rows: tuple[int, int, int, float, str]) -> pa.Table:
    """Rows of (item, position, click, propensity, cohort), one second apart."""
    return pa.table(
        {
            "timestamp": pa.array(
                [TIME + dt.timedelta(seconds=i) for i in range(len(rows))], pa.timestamp("us", tz="UTC")
            ),
            "item_id": [row[0] for row in rows],
            "position": [row[1] for row in rows],
            "click": [row[2] for row in rows],
            "propensity_score": [row[3] for row in rows],
            **{f"user_feature_{i}": [f"{row[4]}{i}" for row in rows] for i in range(4)},
        }
    )


RANDOM = log((3, 1, 0, 0.25, "a"), (4, 3, 1, 0.25, "b"))
BTS = log((5, 2, 0, 0.5, "a"))


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    pq.write_table(RANDOM, tmp_path / "random_men.parquet")
    pq.write_table(BTS, tmp_path / "bts_men.parquet")
    import_openbandit(tmp_path, tmp_path / "out")
    return tmp_path / "out"


def test_positions_start_at_zero_and_propensities_stay(imported: Path) -> None:
    rows = pq.read_table(imported / "impressions").to_pylist()
    found = [
        (row["ad_id"], row["position"], row["propensity"], row["is_random"], row["surface"]) for row in rows
    ]
    assert found == [(3, 0, 0.25, True, "men"), (4, 2, 0.25, True, "men"), (5, 1, 0.5, False, "men")]
    assert rows[0]["served_at"] == TIME


def test_the_same_features_are_the_same_cohort_but_not_the_same_request(imported: Path) -> None:
    first, second, third = pq.read_table(imported / "impressions").to_pylist()
    assert first["user_id"] == third["user_id"] != second["user_id"]
    assert first["request_id"] != third["request_id"]


def test_a_click_keeps_its_request(imported: Path) -> None:
    (click,) = pq.read_table(imported / "engagements").to_pylist()
    impression = pq.read_table(imported / "impressions").to_pylist()[1]
    assert {name: click[name] for name in ("user_id", "ad_id", "request_id")} == {
        name: impression[name] for name in ("user_id", "ad_id", "request_id")
    }
    assert click["kind"] == "click" and click["engaged_at"] == impression["served_at"]


def test_the_folders_and_csv_files_of_the_publication_are_understood(tmp_path: Path) -> None:
    folder = tmp_path / "random" / "men"
    folder.mkdir(parents=True)
    text = RANDOM.set_column(
        0, "timestamp", pa.array([f"{t.as_py():%F %T.%f}+00:00" for t in RANDOM["timestamp"]])
    )
    pyarrow.csv.write_csv(text.add_column(0, "", pa.array([0, 1])), folder / "men.csv")
    items = {"item_id": [3, 4, 5], "item_feature_0": [0.1, 0.2, 0.3], "item_feature_1": ["x", "y", "x"]}
    pyarrow.csv.write_csv(pa.table(items), folder / "item_context.csv")
    import_openbandit(tmp_path, tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "impressions")["served_at"][0].as_py() == TIME
    ads = pq.read_table(tmp_path / "out" / "ads")
    assert ads["item_feature_1"].to_pylist() == ["x", "y", "x"]
    assert ads["item_feature_2"].null_count == 3


def test_two_campaigns_are_refused_because_each_numbers_its_items(tmp_path: Path) -> None:
    pq.write_table(RANDOM, tmp_path / "random_men.parquet")
    pq.write_table(RANDOM, tmp_path / "random_women.parquet")
    with pytest.raises(UserError, match="found men, women"):
        import_openbandit(tmp_path, tmp_path / "out")


def test_the_published_logs_come_through_whole_and_say_that_users_are_cohorts(tmp_path: Path) -> None:
    report = import_openbandit(published_log("open_bandit"), tmp_path)
    assert "THIS LOG HAS NO USER ID" in report
    impressions = pq.read_table(tmp_path / "impressions")
    assert impressions.num_rows == 20_000
    assert impressions["is_random"].to_pylist().count(True) == 10_000
    assert impressions["propensity"].null_count == 0
    assert pq.read_table(tmp_path / "engagements").num_rows == 46 + 69
    assert pq.read_table(tmp_path / "ads").num_rows == 34
