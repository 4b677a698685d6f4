"""MIND: tab-separated text, string ids, times in the US format."""

import datetime as dt
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scrollpast.errors import UserError
from scrollpast.importing.mind import import_mind

BEHAVIOURS = """\
1\tU13740\t11/11/2019 9:05:58 AM\tN55189 N42782\tN55689-1 N35729-0
2\tU91836\t11/12/2019 6:11:30 PM\t\tN20678-0 N55689-0 N58133-1
"""
NEWS = """\
N55689\tsports\tfootball_nfl\tA "quoted" title\tAbstract\thttps://example.org\t[]\t[]
N35729\tnews\tnewscrime\tTitle\t\thttps://example.org\t[{"Label": "x"}]\t[]
"""


def part(folder: Path, behaviours: str = BEHAVIOURS, news: str = NEWS) -> Path:
    (folder / "behaviors.tsv").write_text(behaviours, encoding="utf-8")
    (folder / "news.tsv").write_text(news, encoding="utf-8")
    return folder


def test_slates_become_exposures_and_clicks(tmp_path: Path) -> None:
    report = import_mind(part(tmp_path), tmp_path / "out")
    impressions = pq.read_table(tmp_path / "out" / "impressions")
    assert impressions.select(["request_id", "user_id", "ad_id"]).to_pylist() == [
        {"request_id": 1, "user_id": "U13740", "ad_id": "N55689"},
        {"request_id": 1, "user_id": "U13740", "ad_id": "N35729"},
        {"request_id": 2, "user_id": "U91836", "ad_id": "N20678"},
        {"request_id": 2, "user_id": "U91836", "ad_id": "N55689"},
        {"request_id": 2, "user_id": "U91836", "ad_id": "N58133"},
    ]
    for name in ("surface", "position", "dwell_ms", "propensity", "is_random"):
        assert impressions[name].null_count == 5, name
    clicks = pq.read_table(tmp_path / "out" / "engagements").to_pylist()
    evening = dt.datetime(2019, 11, 12, 18, 11, 30, tzinfo=dt.UTC)
    assert [(row["user_id"], row["ad_id"], row["kind"]) for row in clicks] == [
        ("U13740", "N55689", "click"),
        ("U91836", "N58133", "click"),
    ]
    assert clicks[0]["engaged_at"] == dt.datetime(2019, 11, 11, 9, 5, 58, tzinfo=dt.UTC)
    assert clicks[1]["engaged_at"] == evening
    assert "--date 2019-11-12 --days 2" in report


def test_the_history_is_not_made_into_engagements(tmp_path: Path) -> None:
    import_mind(part(tmp_path), tmp_path / "out")
    assert "N55189" not in pq.read_table(tmp_path / "out" / "engagements")["ad_id"].to_pylist()


def test_news_are_ads_whatever_quotes_their_titles_hold(tmp_path: Path) -> None:
    import_mind(part(tmp_path), tmp_path / "out")
    ads = pq.read_table(tmp_path / "out" / "ads").select(["ad_id", "category_id", "subcategory_id"])
    assert ads.to_pylist() == [
        {"ad_id": "N55689", "category_id": "sports", "subcategory_id": "football_nfl"},
        {"ad_id": "N35729", "category_id": "news", "subcategory_id": "newscrime"},
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\tU1\t11/11/2019 9:05:58 AM\tN1\tN2 N3\n", "found 'N2'; the test part has no labels"),
        ("1\tU1\t2019-11-11 09:05:58\tN1\tN2-0\n", "expected times such as"),
        ("x\tU1\t11/11/2019 9:05:58 AM\tN1\tN2-0\n", "expected request ids that are numbers, found 'x'"),
        ("1\tU1\t11/11/2019 9:05:58 AM\tN2-0\n", "expected 5 columns"),
    ],
)
def test_a_line_of_another_form_is_the_users_mistake(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_mind(part(tmp_path, behaviours=BEHAVIOURS + line), tmp_path / "out")


def test_missing_news_are_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "behaviors.tsv").write_text(BEHAVIOURS)
    with pytest.raises(UserError, match=r"expected the news \(news.tsv\), found behaviors.tsv"):
        import_mind(tmp_path, tmp_path / "out")
