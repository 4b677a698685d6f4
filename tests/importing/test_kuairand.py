"""KuaiRand: exposures, what followed from them, and videos."""

import datetime as dt
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from scrollpast.errors import UserError
from scrollpast.importing.kuairand import import_kuairand
from tests.importing.published import published_log

FLAGS = ("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view")
MOMENT_MS = 1_650_812_741_436


def exposure(
    user_id: int, video_id: int, time_ms: int = MOMENT_MS, play_time_ms: int = 0, **flags: int
) -> dict:
    row = {"user_id": user_id, "video_id": video_id, "date": 20220425, "hourmin": 5, "time_ms": time_ms}
    row |= dict.fromkeys(FLAGS, 0) | {"play_time_ms": play_time_ms, "duration_ms": 9000}
    return row | {"is_rand": 0, "tab": 1} | flags


LOG = [
    exposure(7, 70, play_time_ms=1200),
    exposure(7, 71, play_time_ms=60_000, is_click=1, long_view=1, is_like=1),
    exposure(7, 71, play_time_ms=60_000, is_click=1, long_view=1, is_like=1),
    exposure(8, 70, MOMENT_MS + 1, play_time_ms=300, is_hate=1, is_rand=1, tab=4),
    exposure(9, 72, MOMENT_MS + 2, play_time_ms=800, is_follow=1, is_forward=1, is_comment=1),
]
VIDEOS = [
    {"video_id": 70, "author_id": 1, "upload_dt": "2022-04-10", "tag": "39"},
    {"video_id": 71, "author_id": 2, "upload_dt": "2022-04-09", "tag": "12,65"},
    {"video_id": 72, "author_id": 2, "upload_dt": "", "tag": ""},
]


def as_parquet(folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(LOG), folder / "log_2022-04-25.parquet")
    pq.write_table(pa.Table.from_pylist(VIDEOS), folder / "videos.parquet")
    return folder


def as_csv(folder: Path) -> Path:
    pyarrow.csv.write_csv(pa.Table.from_pylist(LOG), folder / "log_standard_4_22_to_5_08_pure.csv")
    pyarrow.csv.write_csv(pa.Table.from_pylist(VIDEOS), folder / "video_features_basic_pure.csv")
    return folder


@pytest.fixture(params=[as_parquet, as_csv])
def imported(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    import_kuairand(request.param(tmp_path), tmp_path / "out")
    return tmp_path / "out"


def test_play_time_is_dwell_only_where_nothing_was_clicked(imported: Path) -> None:
    impressions = pq.read_table(imported / "impressions")
    assert impressions["dwell_ms"].to_pylist() == [1200, None, None, 300, 800]
    assert impressions["surface"].to_pylist() == ["1", "1", "1", "4", "1"]
    assert impressions["is_random"].to_pylist() == [False, False, False, True, False]
    assert impressions["position"].null_count == impressions["propensity"].null_count == 5


def test_one_moment_of_one_user_is_one_request(imported: Path) -> None:
    requests = pq.read_table(imported / "impressions")["request_id"].to_pylist()
    assert requests[0] == requests[1] == requests[2]
    assert len(set(requests)) == 3
    assert min(requests) >= 0


def test_time_is_the_epoch_time_and_not_the_local_clock(imported: Path) -> None:
    served = pq.read_table(imported / "impressions")["served_at"]
    assert served.type == pa.timestamp("us", tz="UTC")
    assert served[0].as_py() == dt.datetime(2022, 4, 24, 15, 5, 41, 436_000, tzinfo=dt.UTC)


def test_each_flag_becomes_its_kind(imported: Path) -> None:
    rows = pq.read_table(imported / "engagements").to_pylist()
    found = sorted((row["user_id"], row["ad_id"], row["kind"]) for row in rows)
    # The duplicate row of user 7 stays: its engagements come twice.
    assert found == [
        (7, 71, "click"), (7, 71, "click"), (7, 71, "long_click"), (7, 71, "long_click"),
        (7, 71, "save"), (7, 71, "save"),
        (8, 70, "hide"),
        (9, 72, "conversion"), (9, 72, "save"), (9, 72, "save"),
    ]  # fmt: skip


def test_videos_are_ads_with_their_first_tag(imported: Path) -> None:
    upload = dt.datetime(2022, 4, 9, 16, tzinfo=dt.UTC)  # midnight of the 10th at UTC+8
    assert pq.read_table(imported / "ads").to_pylist() == [
        {"ad_id": 70, "advertiser_id": 1, "category_id": 39, "created_at": upload},
        {"ad_id": 71, "advertiser_id": 2, "category_id": 12, "created_at": upload - dt.timedelta(days=1)},
        {"ad_id": 72, "advertiser_id": 2, "category_id": None, "created_at": None},
    ]


def test_a_missing_column_is_named_and_nothing_is_left_behind(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(LOG).drop(["is_hate", "tab"]), tmp_path / "log_a.parquet")
    pq.write_table(pa.Table.from_pylist(VIDEOS), tmp_path / "videos.parquet")
    with pytest.raises(UserError, match=r"log_a\.parquet: expected the columns is_hate, tab, found user_id"):
        import_kuairand(tmp_path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_videos_are_the_users_mistake(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(LOG), tmp_path / "log_a.parquet")
    with pytest.raises(UserError, match="expected the videos"):
        import_kuairand(tmp_path, tmp_path / "out")


def test_the_published_slice_comes_through_whole(tmp_path: Path) -> None:
    report = import_kuairand(published_log("kuairand"), tmp_path)
    assert "impressions: 94,784" in report
    assert "days: 2022-04-24 to 2022-04-30 (UTC), 7" in report
    files = f"'{tmp_path}/impressions/*.parquet'"
    counts = duckdb.execute(
        f"select count(*), count(distinct user_id), count(distinct ad_id) from {files}"
    ).fetchone()
    assert counts == (94_784, 21_184, 5_564)
    assert pq.read_table(tmp_path / "ads").num_rows == 7_583
    moments = duckdb.execute(
        f"select count(distinct request_id), count(distinct (user_id, served_at)) from {files}"
    ).fetchone()
    assert moments is not None and moments[0] == moments[1]
