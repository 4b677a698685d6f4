"""EB-NeRD, the news pages of Ekstra Bladet: Kruse et al., RecSys Challenge 2024, arXiv 2410.03432.

One row of behaviors is one request with its slate. The slate was shuffled before publication, so that the position is
unknown. ``read_time`` measures the page and not an article in view, so that the dwell is unknown.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from scrollpast.errors import UserError
from scrollpast.importing.contract import (
    UTC_TIME,
    ads_schema,
    engagements_schema,
    impressions_schema,
    table_of,
    users_schema,
)
from scrollpast.importing.report import LogDescription, report_of
from scrollpast.importing.source import LogSource
from scrollpast.importing.writing import LogWriter

BEHAVIOUR_PATTERNS = ("behaviors.parquet", "train/behaviors.parquet", "validation/behaviors.parquet")
HISTORY_PATTERNS = ("history.parquet", "train/history.parquet", "validation/history.parquet")
ARTICLE_PATTERNS = ("articles.parquet", "../articles.parquet")
DESCRIPTION = LogDescription(
    title="EB-NeRD (Ekstra Bladet News Recommendation Dataset)",
    mapped={
        "request_id": "impression_id",
        "user_id": "user_id",
        "ad_id": "each of article_ids_inview",
        "served_at": "impression_time, which has no zone: taken as UTC",
        "surface": "front_page where article_id is null, else article",
        "device_type": "device_type (an extra column)",
        "kind": "click for each of article_ids_clicked, and for each earlier read of history.parquet, where that "
        "file is there",
        "engaged_at": "impression_time, and impression_time_fixed of the history: the click itself has no time",
        "category_id": "category of articles.parquet, where that file is there",
        "created_at": "published_time of articles.parquet, where that file is there",
        "users": "article_id_fixed of history.parquet before the first impression, as read_articles, where that file "
        "is there",
    },
    missing={
        "position": "the slate was shuffled before publication",
        "dwell_ms": "read_time is of the page, not of an article in view",
        "propensity": "not logged",
        "is_random": "not logged",
        "advertiser_id": "one publisher",
        "value": "no amounts",
    },
    unused_files={
        "articles.parquet": "one table of articles is read, the one beside the behaviours",
        "*embedding*": "embeddings: ads have categorical features only",
    },
    unused_columns={
        "read_time": "of the page, not of an article in view",
        "scroll_percentage": "of the page, not of an article in view",
        "next_read_time": "of the page after the click: no dwell before it",
        "next_scroll_percentage": "of the page after the click: no dwell before it",
        "session_id": "a request is one impression_id",
        **dict.fromkeys(
            ("is_sso_user", "gender", "postcode", "age", "is_subscriber"),
            "features of users: of them, impressions carry device_type alone",
        ),
        "scroll_percentage_fixed": "of the page that was read",
        "read_time_fixed": "of the page that was read",
        **dict.fromkeys(
            ("title", "subtitle", "body", "url", "image_ids", "last_modified_time"),
            "text and pictures: ads have categorical features only",
        ),
        "category_str": "the name of the category, whose number is read",
        "total_*": "sums until the publication of the data: they include the time after an impression",
        **dict.fromkeys(
            (
                "subcategory",
                "topics",
                "article_type",
                "premium",
                "ner_clusters",
                "entity_groups",
                "sentiment_*",
            ),
            "features of articles: of them, ads carry the category and the time of publication alone",
        ),
    },
    options=("mining.user_history=read_articles",),
    notes=("a click that the history and the behaviours hold at the same moment is imported once",),
)

_IMPRESSIONS = impressions_schema(pa.int64(), pa.int64(), device_type=pa.int64())
_ENGAGEMENTS = engagements_schema(pa.int64(), pa.int64())
_ADS = ads_schema(pa.int64(), pa.int64())
_USERS = users_schema(pa.int64(), ["read_articles"])
_BEHAVIOUR_COLUMNS = {
    "impression_id": pa.int64(),
    "user_id": pa.int64(),
    "impression_time": pa.timestamp("us"),
    "article_id": pa.int64(),
    "article_ids_inview": pa.large_list(pa.int64()),
    "article_ids_clicked": pa.large_list(pa.int64()),
    "device_type": pa.int64(),
}
_HISTORY_COLUMNS = {
    "user_id": pa.int64(),
    "article_id_fixed": pa.large_list(pa.int64()),
    "impression_time_fixed": pa.large_list(pa.timestamp("us")),
}
_CLICK = ["user_id", "ad_id", "engaged_at"]
_ARTICLE_COLUMNS = {"article_id": pa.int64(), "category": pa.int64(), "published_time": pa.timestamp("us")}


def import_ebnerd(source: Path, out: Path, overwrite: bool = False) -> str:
    """Import the behaviours of an EB-NeRD folder (its parts train and validation, where it has them).

    The history of each user, if the file exists, becomes engagements without a request: clicks of earlier weeks. Its
    articles before the first impression become a list in the table of users as well.

    Without articles.parquet the table of ads holds the ads in view, without features.

    Raises:
        UserError: a file or column is missing, or ``out`` holds tables and ``overwrite`` is not given.
    """
    log = LogSource(source)
    behaviours = log.find(BEHAVIOUR_PATTERNS, "the behaviours")
    articles = log.find_optional(ARTICLE_PATTERNS)
    clicks = _ENGAGEMENTS.empty_table().select(_CLICK)
    seen = pa.array([], pa.int64())
    histories = []
    with LogWriter(out, overwrite) as writer:
        for path in behaviours:
            for batch in log.read(path, _BEHAVIOUR_COLUMNS, optional=("article_id", "device_type")):
                impressions = impressions_of(batch)
                writer.impressions(impressions)
                engagements = engagements_of(batch)
                writer.engagements(engagements)
                clicks = pa.concat_tables([clicks, engagements.select(_CLICK)])
                seen = pc.unique(pa.concat_arrays([seen, *impressions["ad_id"].chunks]))
        for path in sorted(path for pattern in HISTORY_PATTERNS for path in source.glob(pattern)):
            for batch in log.read(path, _HISTORY_COLUMNS):
                earlier = earlier_clicks_of(batch, path, clicks)
                writer.engagements(earlier)
                clicks = pa.concat_tables([clicks, earlier.select(_CLICK)])
                histories.append(batch)
        if histories and writer.first is not None:
            writer.users(users_of(histories, writer.first))
        if articles is None:
            writer.ads(table_of(_ADS, {"ad_id": seen.sort()}, len(seen)))
        else:
            for batch in log.read(articles, _ARTICLE_COLUMNS, optional=("category", "published_time")):
                writer.ads(ads_of(batch))
        return report_of(DESCRIPTION, writer, log)


def impressions_of(batch: pa.RecordBatch) -> pa.Table:
    """Convert to impressions: one for each article in view."""
    rows = pc.list_parent_indices(batch["article_ids_inview"])
    surface = pc.if_else(pc.is_null(batch["article_id"]), "front_page", "article")
    columns = {
        "request_id": batch["impression_id"].take(rows),
        "user_id": batch["user_id"].take(rows),
        "ad_id": pc.list_flatten(batch["article_ids_inview"]),
        "served_at": _utc(batch["impression_time"]).take(rows),
        "surface": surface.take(rows),
        "device_type": batch["device_type"].take(rows),
    }
    return table_of(_IMPRESSIONS, columns, len(rows))


def engagements_of(batch: pa.RecordBatch) -> pa.Table:
    """Convert to engagements: one click for each clicked article."""
    rows = pc.list_parent_indices(batch["article_ids_clicked"])
    columns = {
        "user_id": batch["user_id"].take(rows),
        "ad_id": pc.list_flatten(batch["article_ids_clicked"]),
        "kind": pa.repeat("click", len(rows)),
        "engaged_at": _utc(batch["impression_time"]).take(rows),
        "request_id": batch["impression_id"].take(rows),
    }
    return table_of(_ENGAGEMENTS, columns, len(rows))


def earlier_clicks_of(batch: pa.RecordBatch, path: Path, known: pa.Table) -> pa.Table:
    """Convert the history to engagements without a request: one click for each read article.

    Args:
        known: user_id, ad_id and engaged_at of imported clicks, which are left out.

    Raises:
        UserError: the numbers of times and articles of a user differ.
    """
    articles, times = batch["article_id_fixed"], batch["impression_time_fixed"]
    num_articles, num_times = (pc.fill_null(pc.list_value_length(lists), 0) for lists in (articles, times))
    if not num_articles.equals(num_times):
        differs = pc.index(pc.equal(num_articles, num_times), False).as_py()
        raise UserError(
            str(path),
            expected="equally many times and articles of every user",
            found=f"{num_times[differs]} and {num_articles[differs]} of user {batch['user_id'][differs]}",
            remedy="fetch the file again",
        )
    columns = {
        "user_id": batch["user_id"].take(pc.list_parent_indices(articles)),
        "ad_id": pc.list_flatten(articles),
        "engaged_at": _utc(pc.list_flatten(times)),
    }
    clicks = pa.table(columns).group_by(_CLICK, use_threads=False).aggregate([])
    new = clicks.join(known, _CLICK, join_type="left anti", use_threads=False).sort_by(
        [(name, "ascending") for name in _CLICK]
    )
    found = {name: new[name] for name in _CLICK}
    return table_of(_ENGAGEMENTS, {**found, "kind": pa.repeat("click", len(new))}, len(new))


def users_of(histories: Sequence[pa.RecordBatch], before: dt.datetime) -> pa.Table:
    """Convert the histories to users: the articles that each user read before a moment, oldest first.

    The parts of the log have a history each; what both hold at the same moment is listed once.
    """
    reads = pa.concat_tables(
        [
            pa.table(
                {
                    "user_id": batch["user_id"].take(pc.list_parent_indices(batch["article_id_fixed"])),
                    "read_at": _utc(pc.list_flatten(batch["impression_time_fixed"])),
                    "ad_id": pc.list_flatten(batch["article_id_fixed"]),
                }
            )
            for batch in histories
        ]
    )
    reads = reads.filter(pc.less(reads["read_at"], pa.scalar(before, UTC_TIME))).group_by(
        ["user_id", "read_at", "ad_id"], use_threads=False
    )
    ordered = reads.aggregate([]).sort_by([(name, "ascending") for name in ("user_id", "read_at", "ad_id")])
    users = ordered.group_by("user_id", use_threads=False).aggregate([("ad_id", "list")])
    users = users.filter(pc.is_valid(users["user_id"]))
    columns = {"user_id": users["user_id"], "read_articles": users["ad_id_list"]}
    return table_of(_USERS, columns, len(users))


def ads_of(batch: pa.RecordBatch) -> pa.Table:
    """Convert to ads: one for each article."""
    columns = {
        "ad_id": batch["article_id"],
        "category_id": batch["category"],
        "created_at": _utc(batch["published_time"]),
    }
    return table_of(_ADS, columns, batch.num_rows)


def _utc(times: pa.Array) -> pa.Array:
    return times.cast(pa.int64()).cast(UTC_TIME)
