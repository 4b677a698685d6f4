"""EB-NeRD, the news pages of Ekstra Bladet: Kruse et al., RecSys Challenge 2024, arXiv 2410.03432.

One row of behaviors is one request with its slate. The slate was shuffled before publication, so there is no
position; ``read_time`` is that of the page and not of an article in view, so there is no dwell.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from scrollpast.importing.contract import (
    UTC_TIME,
    ads_schema,
    engagements_schema,
    impressions_schema,
    table_of,
)
from scrollpast.importing.files import find_files, find_optional, read_batches
from scrollpast.importing.report import LogDescription, report_of
from scrollpast.importing.writing import LogWriter

BEHAVIOUR_PATTERNS = ("behaviors.parquet", "train/behaviors.parquet", "validation/behaviors.parquet")
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
        "kind": "click for each of article_ids_clicked",
        "engaged_at": "impression_time: the moment of the click is not logged",
        "category_id": "category of articles.parquet, where that file is there",
        "created_at": "published_time of articles.parquet, where that file is there",
    },
    missing={
        "position": "the slate was shuffled before publication",
        "dwell_ms": "read_time is of the page, not of an article in view",
        "propensity": "not logged",
        "is_random": "not logged",
        "advertiser_id": "one publisher",
        "value": "no amounts",
    },
)

_IMPRESSIONS = impressions_schema(pa.int64(), pa.int64(), device_type=pa.int64())
_ENGAGEMENTS = engagements_schema(pa.int64(), pa.int64())
_ADS = ads_schema(pa.int64(), pa.int64())
_BEHAVIOUR_COLUMNS = {
    "impression_id": pa.int64(),
    "user_id": pa.int64(),
    "impression_time": pa.timestamp("us"),
    "article_id": pa.int64(),
    "article_ids_inview": pa.large_list(pa.int64()),
    "article_ids_clicked": pa.large_list(pa.int64()),
    "device_type": pa.int64(),
}
_ARTICLE_COLUMNS = {"article_id": pa.int64(), "category": pa.int64(), "published_time": pa.timestamp("us")}


def import_ebnerd(source: Path, out: Path, overwrite: bool = False) -> str:
    """Import the behaviours of an EB-NeRD folder (its parts train and validation, where it has them).

    Without articles.parquet the ads are those in view, with nothing known of them.

    Raises:
        UserError: a file or column is missing, or ``out`` holds tables and ``overwrite`` is not given.
    """
    behaviours = find_files(source, BEHAVIOUR_PATTERNS, "the behaviours")
    articles = find_optional(source, ARTICLE_PATTERNS)
    seen = pa.array([], pa.int64())
    with LogWriter(out, overwrite) as writer:
        for path in behaviours:
            for batch in read_batches(path, _BEHAVIOUR_COLUMNS, optional=("article_id", "device_type")):
                impressions = impressions_of(batch)
                writer.impressions(impressions)
                writer.engagements(engagements_of(batch))
                seen = pc.unique(pa.concat_arrays([seen, *impressions["ad_id"].chunks]))
        if articles is None:
            writer.ads(table_of(_ADS, {"ad_id": seen.sort()}, len(seen)))
        else:
            for batch in read_batches(articles, _ARTICLE_COLUMNS, optional=("category", "published_time")):
                writer.ads(ads_of(batch))
        return report_of(DESCRIPTION, writer)


def impressions_of(batch: pa.RecordBatch) -> pa.Table:
    """One impression an article in view."""
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
    """One click an article clicked."""
    rows = pc.list_parent_indices(batch["article_ids_clicked"])
    columns = {
        "user_id": batch["user_id"].take(rows),
        "ad_id": pc.list_flatten(batch["article_ids_clicked"]),
        "kind": pa.repeat("click", len(rows)),
        "engaged_at": _utc(batch["impression_time"]).take(rows),
        "request_id": batch["impression_id"].take(rows),
    }
    return table_of(_ENGAGEMENTS, columns, len(rows))


def ads_of(batch: pa.RecordBatch) -> pa.Table:
    """One ad an article."""
    columns = {
        "ad_id": batch["article_id"],
        "category_id": batch["category"],
        "created_at": _utc(batch["published_time"]),
    }
    return table_of(_ADS, columns, batch.num_rows)


def _utc(times: pa.Array) -> pa.Array:
    return times.cast(pa.int64()).cast(UTC_TIME)
