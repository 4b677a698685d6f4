"""Account of what an import did not read: every file and column of a log is read, or is named with a reason."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from scrollpast.errors import UserError
from scrollpast.importing.logs import IMPORTERS, import_log
from scrollpast.importing.source import UNKNOWN
from tests.importing import test_ebnerd, test_mind
from tests.importing.published import published_log

TIME = dt.datetime(2023, 2, 27, 3, 23, 27)  # noqa: DTZ001 -- the log's times have no zone
HISTORY = pa.table(
    {
        "user_id": pa.array([100, 101, 102], pa.uint32()),
        "impression_time_fixed": pa.array(
            [[TIME - dt.timedelta(days=1), TIME], [TIME], None], pa.large_list(pa.timestamp("us"))
        ),
        "article_id_fixed": pa.array([[7, 2], [9], None], pa.large_list(pa.int32())),
        "read_time_fixed": pa.array([[1.0, 2.0], [3.0], None], pa.large_list(pa.float32())),
    }
)
ARTICLES = (
    "title", "subtitle", "last_modified_time", "premium", "body", "published_time", "image_ids", "article_type", "url",
    "ner_clusters", "entity_groups", "topics", "subcategory", "category_str", "total_inviews", "total_pageviews",
    "total_read_time", "sentiment_score", "sentiment_label",
)  # fmt: skip
"""The other columns of EB-NeRD's articles.parquet as it is published."""
FLAGS = ("is_click", "long_view", "is_like", "is_comment", "is_forward", "is_follow", "is_hate")
USER_CODES = ("is_live_streamer", "is_video_author", *(f"onehot_feat{number}" for number in range(18)))


def ebnerd(folder: Path) -> dict[str, pa.Table]:
    tables = {"behaviors.parquet": test_ebnerd.BEHAVIOURS, "history.parquet": HISTORY}
    for name, table in tables.items():
        pq.write_table(table, folder / name)
    return tables


def kuairand(folder: Path) -> dict[str, pa.Table]:
    log = {"user_id": [1, 1, 2], "video_id": [5, 6, 5], "time_ms": [1_650_800_000_000] * 3}
    log |= {name: [0, int(name == "is_click"), 0] for name in FLAGS}
    log |= {"play_time_ms": [0, 900, 0], "is_rand": [0, 0, 0], "tab": [0, 1, 0], "duration_ms": [9, 9, 9]}
    videos = {"video_id": [5, 6], "author_id": [1, 2], "upload_dt": ["2022-04-01"] * 2, "tag": ["3,4", "5"]}
    videos["video_type"] = ["NORMAL"] * 2
    ranges = ("follow_user_num_range", "fans_user_num_range", "friend_user_num_range", "register_days_range")
    users = {"user_id": [1, 2, 3]} | {name: ["a", "b", "b"] for name in ("user_active_degree", *ranges)}
    users |= {name: [0, 1, 1] for name in USER_CODES} | {"onehot_feat4": [0.0, 1.0, 2.0]}
    users |= {name: [7, 8, 9] for name in ("is_lowactive_period", "register_days", "fans_user_num")}
    histories = {"user_id": [2, 4, 1], "watch_seq": [[5, 5, 6], [6], [7]], "long_watch_seq": [[6], [], None]}
    tables = {
        "log_1.parquet": pa.table(log),
        "videos.parquet": pa.table(videos),
        "user_features.parquet": pa.table(users),
        "history_1.parquet": pa.table(histories),
    }
    for name, table in tables.items():
        pq.write_table(table, folder / name)
    return tables


def openbandit(folder: Path) -> dict[str, pa.Table]:
    columns = {"timestamp": pa.array([TIME] * 3, pa.timestamp("us", "UTC")), "item_id": [1, 2, 3]}
    columns |= {"position": [1, 2, 3], "click": [0, 1, 0], "propensity_score": [0.5, 0.5, 0.5]}
    columns |= {f"user_feature_{i}": ["a", "b", "a"] for i in range(4)}
    tables = {"random_men.parquet": pa.table(columns)}
    pq.write_table(tables["random_men.parquet"], folder / "random_men.parquet")
    return tables


def mind(folder: Path) -> dict[str, pa.Table]:
    test_mind.part(folder)
    return {}


LOGS: dict[str, Callable[[Path], dict[str, pa.Table]]] = {
    "ebnerd": ebnerd, "kuairand": kuairand, "openbandit": openbandit, "mind": mind,
}  # fmt: skip


def unused(report: str) -> dict[str, str]:
    """Reasons by what the report says was not used."""
    if "in the log, not used:\n" not in report:
        return {}
    section = report.split("in the log, not used:\n")[1]
    return dict(re.findall(r"^  (\S.*)\n    (.*)$", section, re.MULTILINE))


@pytest.mark.parametrize("name", IMPORTERS.names)
def test_every_file_and_column_that_is_not_read_is_named(name: str, tmp_path: Path) -> None:
    source = tmp_path / "log"
    source.mkdir()
    tables = LOGS[name](source)
    for file, table in tables.items():
        pq.write_table(table.append_column("surprise", pa.array([1] * len(table))), source / file)
    (source / "deeper").mkdir()
    (source / "deeper" / "more.parquet").write_bytes(b"anything")
    (source / "README.md").write_text("words")
    found = unused(import_log(name, source, source / "out", False))
    assert found["deeper/more.parquet"] == UNKNOWN
    assert found["README.md"] == "text about the log"
    for file in tables:
        assert found[f"{file}: surprise"] == UNKNOWN
    # Only unknown files and columns have the reason UNKNOWN; known ones that are not read have their own.
    assert [what for what, reason in found.items() if reason == UNKNOWN] == [
        "deeper/more.parquet", *(f"{file}: surprise" for file in tables),
    ]  # fmt: skip


def test_columns_without_a_use_have_their_reason(tmp_path: Path) -> None:
    mind(tmp_path)
    found = unused(import_log("mind", tmp_path, tmp_path / "out", False))
    assert found["behaviors.tsv: history"] == "ids without times: an engagement needs one"


def test_of_many_files_the_first_are_named_and_all_are_counted(tmp_path: Path) -> None:
    source = tmp_path / "log"
    source.mkdir()
    mind(source)
    for number in range(1_500):
        (source / f"more_{number:04}.bin").touch()
    (source / ".git").mkdir()
    for name in (".DS_Store", ".git/HEAD"):
        (source / name).touch()
    found = unused(import_log("mind", source, tmp_path / "out", False))
    assert [what for what in found if what.startswith("more_")] == [f"more_{n:04}.bin" for n in range(20)]
    assert found["1,480 more files"] == "the first 20 by name are listed"
    assert "2 hidden files" in found


def test_columns_of_files_of_one_name_are_told_apart_by_folder(tmp_path: Path) -> None:
    source = tmp_path / "small"
    for part in ("train", "validation"):
        (source / part).mkdir(parents=True)
        ebnerd(source / part)
    articles = {"article_id": pa.array([1, 2], pa.int32()), "category": pa.array([3, 4], pa.int16())}
    articles |= {name: ["", ""] for name in ARTICLES} | {
        "published_time": pa.array([TIME] * 2, pa.timestamp("us"))
    }
    pq.write_table(pa.table(articles), tmp_path / "articles.parquet")
    found = unused(import_log("ebnerd", source, source / "out", False))
    assert {what.partition(":")[0] for what in found} >= {
        "train/behaviors.parquet", "validation/behaviors.parquet", "train/history.parquet", "../articles.parquet",
    }  # fmt: skip
    assert UNKNOWN not in found.values()
    assert (
        "include the time after an impression"
        in found["../articles.parquet: total_inviews, total_pageviews, total_read_time"]
    )


def test_published_files_of_open_bandit_are_known(tmp_path: Path) -> None:
    openbandit(tmp_path)
    log = pq.read_table(tmp_path / "random_men.parquet")
    for number in range(3):
        log = log.append_column(f"user-item_affinity_{number}", pa.array([0.0] * len(log)))
    pq.write_table(log, tmp_path / "random_men.parquet")
    for policy in ("bts", "random"):
        folder = tmp_path / policy / "men"
        folder.mkdir(parents=True)
        items = {
            "": [0],
            "item_id": [1],
            "item_feature_0": [0.5],
            "item_feature_1": ["a"],
            "item_feature_2": ["b"],
        }
        pyarrow.csv.write_csv(pa.table(items | {"item_feature_3": ["c"]}), folder / "item_context.csv")
    found = unused(import_log("openbandit", tmp_path, tmp_path / "out", False))
    assert UNKNOWN not in found.values()
    assert "user-item_affinity_0, user-item_affinity_1, user-item_affinity_2" in " ".join(found)
    assert "random/men/item_context.csv" in found


def test_somebody_without_any_feature_is_no_cohort(tmp_path: Path) -> None:
    """Open Bandit's cohorts are hashes of four features; of a row that has none nothing is known."""
    openbandit(tmp_path)
    log = pq.read_table(tmp_path / "random_men.parquet")
    for number in range(4):
        values = ["a", None, None if number else "a"]
        at = log.schema.get_field_index(f"user_feature_{number}")
        log = log.set_column(at, f"user_feature_{number}", pa.array(values, pa.string()))
    pq.write_table(log, tmp_path / "random_men.parquet")
    import_log("openbandit", tmp_path, tmp_path / "out", False)
    users = pq.read_table(tmp_path / "out" / "impressions")["user_id"].to_pylist()
    assert users[1] is None and None not in (users[0], users[2])
    assert pq.read_table(tmp_path / "out" / "engagements")["user_id"].to_pylist() == [None]


def test_an_empty_id_of_mind_is_null(tmp_path: Path) -> None:
    behaviours = test_mind.BEHAVIOURS.replace("U13740", "")
    test_mind.part(tmp_path, behaviours, test_mind.NEWS.replace("N35729", ""))
    report = import_log("mind", tmp_path, tmp_path / "out", False)
    users = pq.read_table(tmp_path / "out" / "impressions")["user_id"].to_pylist()
    assert users == [None] * 2 + ["U91836"] * 3 and "impressions: 5" in report
    assert pq.read_table(tmp_path / "out" / "engagements")["user_id"].to_pylist() == [None, "U91836"]
    assert pq.read_table(tmp_path / "out" / "ads")["ad_id"].to_pylist() == ["N55689"]


def test_users_of_kuairand_have_the_columns_of_both_files(tmp_path: Path) -> None:
    kuairand(tmp_path)
    report = import_log("kuairand", tmp_path, tmp_path / "out", False)
    assert f"--users {tmp_path}/out/users --set mining.user_history=watch_seq" in report
    assert "users: 4" in report
    rows = pq.read_table(tmp_path / "out" / "users").to_pylist()
    assert [row["user_id"] for row in rows] == [1, 2, 3, 4]
    assert [row["watch_seq"] for row in rows] == [[7], [5, 5, 6], None, [6]]
    assert [row["long_watch_seq"] for row in rows] == [None, [6], None, []]
    assert [row["onehot_feat4"] for row in rows] == [0, 1, 2, None]
    assert [row["user_active_degree"] for row in rows] == ["a", "b", "b", None]


def test_users_of_ebnerd_have_the_articles_of_before_the_log(tmp_path: Path) -> None:
    for part, hours in (("train", 1), ("validation", 50)):
        (tmp_path / part).mkdir()
        behaviours = test_ebnerd.BEHAVIOURS
        pq.write_table(behaviours, tmp_path / part / "behaviors.parquet")
        times = [[TIME - dt.timedelta(hours=hours), TIME], [TIME - dt.timedelta(hours=3)], None]
        at = HISTORY.schema.get_field_index("impression_time_fixed")
        moved = HISTORY.set_column(
            at, HISTORY.schema.field(at), pa.array(times, HISTORY.schema.field(at).type)
        )
        pq.write_table(moved, tmp_path / part / "history.parquet")
    report = import_log("ebnerd", tmp_path, tmp_path / "out", False)
    assert "--set mining.user_history=read_articles" in report
    # Article 2 was read when the log began; both parts hold article 9 at the same moment.
    assert pq.read_table(tmp_path / "out" / "users").to_pylist() == [
        {"user_id": 100, "read_articles": [7, 7]},
        {"user_id": 101, "read_articles": [9]},
    ]


@pytest.mark.parametrize(("name", "folder"), [("ebnerd", "ebnerd"), ("kuairand", "kuairand")])
def test_a_published_log_holds_nothing_unknown(name: str, folder: str, tmp_path: Path) -> None:
    found = unused(import_log(name, published_log(folder), tmp_path / "out", False))
    assert found
    assert UNKNOWN not in found.values()


def cases() -> list[tuple[str, str, str]]:
    """Every nullable column of every table of the logs in Parquet."""
    columns = {
        "ebnerd": {
            "behaviors.parquet": test_ebnerd.BEHAVIOURS.column_names,
            "history.parquet": ["user_id", "impression_time_fixed", "article_id_fixed"],
        },
        "kuairand": {
            "log_1.parquet": ["user_id", "video_id", "time_ms", *FLAGS, "play_time_ms", "is_rand", "tab"],
            "videos.parquet": ["video_id", "author_id", "upload_dt", "tag"],
            "user_features.parquet": ["user_id", "user_active_degree", "onehot_feat0", "onehot_feat4"],
            "history_1.parquet": ["user_id", "watch_seq", "long_watch_seq"],
        },
        "openbandit": {
            "random_men.parquet": ["timestamp", "item_id", "position", "click", "propensity_score"]
            + [f"user_feature_{i}" for i in range(4)],
        },
    }
    return [
        (name, file, column)
        for name, files in columns.items()
        for file, names in files.items()
        for column in names
    ]


@pytest.mark.parametrize(("name", "file", "column"), cases())
@pytest.mark.parametrize("nulls", [[0], [1], [0, 1]])
def test_nulls_of_a_log_stay_nulls(
    name: str, file: str, column: str, nulls: list[int], tmp_path: Path
) -> None:
    tables = LOGS[name](tmp_path)
    values = tables[file][column].to_pylist()
    for row in nulls:
        values[row] = None
    if column.endswith("_fixed"):  # times and articles belong together
        for other in ("article_id_fixed", "impression_time_fixed"):
            table = tables[file]
            at = table.schema.get_field_index(other)
            cut = [None if row in nulls else value for row, value in enumerate(table[other].to_pylist())]
            tables[file] = table.set_column(at, other, pa.array(cut, table.schema.field(other).type))
    else:
        at = tables[file].schema.get_field_index(column)
        with_nulls = pa.array(values, tables[file].schema.field(column).type)
        tables[file] = tables[file].set_column(at, column, with_nulls)
    pq.write_table(tables[file], tmp_path / file)
    if tables[file][column].null_count == tables[file].num_rows and column in (
        "impression_time",
        "article_ids_inview",
    ):
        with pytest.raises(UserError, match="expected impressions with a time, found none"):
            import_log(name, tmp_path, tmp_path / "out", False)
        return
    report = import_log(name, tmp_path, tmp_path / "out", False)
    num_rows = pq.read_table(tmp_path / "out" / "impressions").num_rows
    assert f"impressions: {num_rows:,}" in report
    if column != "article_ids_inview":  # without its slate a request shows nothing
        assert num_rows == {"ebnerd": 5, "kuairand": 3, "openbandit": 3}[name]


def test_the_note_on_still_tabs_knows_a_tab_that_is_null(tmp_path: Path) -> None:
    tables = kuairand(tmp_path)
    log = tables["log_1.parquet"]
    at = log.schema.get_field_index("tab")
    pq.write_table(log.set_column(at, "tab", pa.array([0, 1, None])), tmp_path / "log_1.parquet")
    report = import_log("kuairand", tmp_path, tmp_path / "out", False)
    assert "note: on tab 0, null (surface all) most videos without a click did not play at all" in report


def test_the_history_of_reads_becomes_clicks_without_a_request(tmp_path: Path) -> None:
    ebnerd(tmp_path)
    import_log("ebnerd", tmp_path, tmp_path / "out", False)
    rows = pq.read_table(tmp_path / "out" / "engagements").to_pylist()
    found = [
        (row["request_id"], row["user_id"], row["ad_id"], row["engaged_at"], row["kind"]) for row in rows
    ]
    time = TIME.replace(tzinfo=dt.UTC)
    # The click of user 100 on article 2 is in the behaviours too, and is imported once.
    assert found[:3] == [
        (9, 100, 2, time, "click"),
        (10, 101, 4, time + dt.timedelta(hours=30), "click"),
        (10, 101, 2, time + dt.timedelta(hours=30), "click"),
    ]
    assert found[3:] == [
        (None, 100, 7, time - dt.timedelta(days=1), "click"),
        (None, 101, 9, time, "click"),
    ]


def test_the_published_history_adds_to_the_clicks_of_the_behaviours(tmp_path: Path) -> None:
    folder = published_log("ebnerd")
    import_log("ebnerd", folder, tmp_path / "out", False)
    rows = pq.read_table(tmp_path / "out" / "engagements")
    clicked = sum(
        len(clicks)
        for clicks in pq.read_table(folder / "behaviors.parquet")["article_ids_clicked"].to_pylist()
    )
    history = pq.read_table(folder / "history.parquet")
    reads = {
        (user, article, time)
        for user, articles, times in zip(
            *(history[name].to_pylist() for name in ("user_id", "article_id_fixed", "impression_time_fixed")),
            strict=True,
        )
        for article, time in zip(articles, times, strict=True)
    }
    assert rows.num_rows - rows["request_id"].null_count == clicked
    assert clicked < rows.num_rows <= clicked + len(reads)
    found = {
        (row["user_id"], row["ad_id"], row["engaged_at"].replace(tzinfo=None))
        for row in rows.select(["user_id", "ad_id", "engaged_at"]).to_pylist()
    }
    assert reads <= found


def test_a_history_of_unequal_lists_is_refused(tmp_path: Path) -> None:
    ebnerd(tmp_path)
    at = HISTORY.schema.get_field_index("article_id_fixed")
    short = pa.array([[7], [9], None], pa.large_list(pa.int32()))
    pq.write_table(HISTORY.set_column(at, "article_id_fixed", short), tmp_path / "history.parquet")
    with pytest.raises(
        UserError, match="expected equally many times and articles of every user, found 2 and 1 of user 100"
    ):
        import_log("ebnerd", tmp_path, tmp_path / "out", False)
