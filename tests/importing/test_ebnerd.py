"""EB-NeRD: slates become exposures, without a position."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scrollpast.errors import UserError
from scrollpast.importing.ebnerd import import_ebnerd
from tests.importing.published import published_log

TIME = dt.datetime(2023, 2, 27, 3, 23, 27)  # noqa: DTZ001 -- the log's times have no zone
BEHAVIOURS = pa.table(
    {
        "impression_id": pa.array([9, 10], pa.uint32()),
        "article_id": pa.array([None, 5], pa.int32()),
        "impression_time": pa.array([TIME, TIME + dt.timedelta(hours=30)], pa.timestamp("us")),
        "read_time": pa.array([17.0, 3.0], pa.float32()),
        "device_type": pa.array([2, 1], pa.int8()),
        "article_ids_inview": pa.array([[1, 2, 3], [2, 4]], pa.large_list(pa.int32())),
        "article_ids_clicked": pa.array([[2], [4, 2]], pa.large_list(pa.int32())),
        "user_id": pa.array([100, 101], pa.uint32()),
    }
)


def test_every_article_in_view_is_one_impression(tmp_path: Path) -> None:
    pq.write_table(BEHAVIOURS, tmp_path / "behaviors.parquet")
    report = import_ebnerd(tmp_path, tmp_path / "out")
    served = TIME.replace(tzinfo=dt.UTC)
    rows = pq.read_table(tmp_path / "out" / "impressions").to_pylist()
    assert [(row["request_id"], row["user_id"], row["ad_id"], row["surface"]) for row in rows] == [
        (9, 100, 1, "front_page"), (9, 100, 2, "front_page"), (9, 100, 3, "front_page"),
        (10, 101, 2, "article"), (10, 101, 4, "article"),
    ]  # fmt: skip
    assert rows[0]["served_at"] == served
    assert {row["position"] for row in rows} == {row["dwell_ms"] for row in rows} == {None}
    assert [row["device_type"] for row in rows] == [2, 2, 2, 1, 1]
    clicks = pq.read_table(tmp_path / "out" / "engagements").to_pylist()
    assert [(row["request_id"], row["user_id"], row["ad_id"], row["kind"]) for row in clicks] == [
        (9, 100, 2, "click"), (10, 101, 4, "click"), (10, 101, 2, "click"),
    ]  # fmt: skip
    assert pq.read_table(tmp_path / "out" / "ads")["ad_id"].to_pylist() == [1, 2, 3, 4]
    assert "--date 2023-02-28 --days 2" in report


def test_articles_give_ads_their_category_where_they_are_published(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    pq.write_table(BEHAVIOURS, tmp_path / "train" / "behaviors.parquet")
    articles = {
        "article_id": [1, 4],
        "category": [140, 118],
        "published_time": [TIME, TIME],
        "title": ["a", "b"],
    }
    pq.write_table(pa.table(articles), tmp_path / "articles.parquet")
    import_ebnerd(tmp_path, tmp_path / "out")
    ads = pq.read_table(tmp_path / "out" / "ads")
    assert ads.select(["ad_id", "category_id"]).to_pylist() == [
        {"ad_id": 1, "category_id": 140},
        {"ad_id": 4, "category_id": 118},
    ]
    assert ads["created_at"][0].as_py() == TIME.replace(tzinfo=dt.UTC)


def test_a_log_without_a_clicked_column_is_refused(tmp_path: Path) -> None:
    pq.write_table(BEHAVIOURS.drop(["article_ids_clicked"]), tmp_path / "behaviors.parquet")
    with pytest.raises(UserError, match="expected the column article_ids_clicked"):
        import_ebnerd(tmp_path, tmp_path / "out")


def test_the_published_sample_comes_through_whole(tmp_path: Path) -> None:
    import_ebnerd(published_log("ebnerd"), tmp_path)
    impressions = pq.read_table(tmp_path / "impressions")
    assert impressions.num_rows == 10_848
    assert len(impressions["request_id"].unique()) == 1_046
    assert len(impressions["user_id"].unique()) == 38
