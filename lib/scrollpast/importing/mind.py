"""MIND, Microsoft News: Wu et al., ACL 2020. behaviors.tsv and news.tsv, without headers; ids are strings.

The history column is a list of earlier clicks without times. An engagement needs a time, so that the column is not
used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from scrollpast.errors import UserError
from scrollpast.importing.contract import (
    UTC_TIME,
    ads_schema,
    engagements_schema,
    impressions_schema,
    table_of,
)
from scrollpast.importing.report import LogDescription, report_of
from scrollpast.importing.source import LogSource
from scrollpast.importing.writing import LogWriter

TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"
BEHAVIOUR_COLUMNS = ("impression_id", "user_id", "time", "history", "impressions")
NEWS_COLUMNS = (
    "news_id",
    "category",
    "subcategory",
    "title",
    "abstract",
    "url",
    "title_entities",
    "entities",
)
DESCRIPTION = LogDescription(
    title="MIND (Wu et al., ACL 2020)",
    mapped={
        "request_id": "impression id",
        "user_id": "user id ('U123')",
        "ad_id": "each of impressions ('N123')",
        "served_at": "time, in the US format and without a zone: taken as UTC",
        "kind": "click for an impression labelled 1",
        "engaged_at": "time of the request: the moment of the click is not logged",
        "category_id": "category of news.tsv",
        "subcategory_id": "subcategory of news.tsv (an extra column)",
    },
    missing={
        "surface": "one surface",
        "position": "the slate was shuffled before publication",
        "dwell_ms": "not logged",
        "propensity": "not logged",
        "is_random": "not logged",
        "advertiser_id": "not published",
        "created_at": "not published",
        "value": "no amounts",
    },
    unused_files={"*_embedding.vec": "embeddings: ads have categorical features only"},
    unused_columns={
        "history": "ids without times: an engagement needs one",
        **dict.fromkeys(
            ("title", "abstract", "url", "title_entities", "entities"),
            "text: ads have categorical features only",
        ),
    },
)

_BEHAVIOURS_READ = ("impression_id", "user_id", "time", "impressions")
_NEWS_READ = ("news_id", "category", "subcategory")
_BLOCK_BYTES = 8 << 20
_IMPRESSIONS = impressions_schema(pa.string(), pa.int64())
_ENGAGEMENTS = engagements_schema(pa.string(), pa.int64())
_ADS = ads_schema(pa.string(), pa.string(), subcategory_id=pa.string())


def import_mind(source: Path, out: Path, overwrite: bool = False) -> str:
    """Import one part (train or dev) of MIND; a run takes one part, because request numbers repeat between parts.

    Raises:
        UserError: a file is missing, a line is malformed, the part has no labels (test), or ``out`` holds
            tables and ``overwrite`` is not given.
    """
    log = LogSource(source)
    (behaviours,) = log.find(["behaviors.tsv"], "the behaviours")
    (news,) = log.find(["news.tsv"], "the news")
    with LogWriter(out, overwrite) as writer:
        for batch in read_tsv(behaviours, BEHAVIOUR_COLUMNS, _BEHAVIOURS_READ):
            exposures = exposures_of(batch, behaviours)
            writer.impressions(exposures.select(_IMPRESSIONS.names))
            writer.engagements(clicks_of(exposures))
        for batch in read_tsv(news, NEWS_COLUMNS, _NEWS_READ):
            batch = batch.filter(pc.not_equal(batch["news_id"], ""))
            columns = {
                "ad_id": batch["news_id"],
                "category_id": batch["category"],
                "subcategory_id": batch["subcategory"],
            }
            writer.ads(table_of(_ADS, columns, batch.num_rows))
        log.was_read(behaviours, BEHAVIOUR_COLUMNS, _BEHAVIOURS_READ)
        log.was_read(news, NEWS_COLUMNS, _NEWS_READ)
        return report_of(DESCRIPTION, writer, log)


def read_tsv(path: Path, names: tuple[str, ...], wanted: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """Read string columns of a file of tab-separated values without a header or quotes, block by block.

    Raises:
        UserError: a line has another number of columns.
    """
    try:
        yield from pyarrow.csv.open_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=_BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=wanted, column_types=dict.fromkeys(names, pa.string())
            ),
        )
    except pa.ArrowInvalid as error:
        found = " ".join(str(error).split())[:200]
        raise UserError(
            str(path),
            expected=f"{len(names)} columns: {', '.join(names)}",
            found=found,
            remedy="point SRC at one part of the log as it was published",
        ) from None


def exposures_of(batch: pa.RecordBatch, path: Path) -> pa.Table:
    """Convert to impressions: one for each item of a slate, with the extra column ``label`` ('0' or '1').

    Raises:
        UserError: an item has no label, a request id is not a number, or a time has another format.
    """
    slates = pc.split_pattern_regex(pc.utf8_trim_whitespace(batch["impressions"].fill_null("")), r"\s+")
    items = pc.list_flatten(slates)
    is_item = pc.not_equal(items, "")
    items, rows = items.filter(is_item), pc.list_parent_indices(slates).filter(is_item)
    parts = pc.extract_regex(items, pattern=r"^(?P<ad>.+)-(?P<label>[01])$")
    remedy = "the test part has no labels and cannot be mined; point SRC at train or dev"
    _refuse_nulls(path, items, parts, "labelled items such as 'N123-0'", remedy)
    times = pc.strptime(batch["time"], format=TIME_FORMAT, unit="us", error_is_null=True)
    _refuse_nulls(path, batch["time"], times, "times such as 11/15/2019 9:05:58 AM", "mend the line")
    requests = pc.if_else(
        pc.match_substring_regex(batch["impression_id"], r"^\d+$"), batch["impression_id"], None
    )
    _refuse_nulls(path, batch["impression_id"], requests, "request ids that are numbers", "mend the line")
    columns = {
        "request_id": requests.take(rows),
        "user_id": pc.if_else(pc.equal(batch["user_id"], ""), None, batch["user_id"]).take(rows),
        "ad_id": pc.struct_field(parts, "ad"),
        "served_at": times.cast(pa.int64()).cast(UTC_TIME).take(rows),
    }
    exposures = table_of(_IMPRESSIONS, columns, len(rows))
    return exposures.append_column("label", pc.struct_field(parts, "label"))


def clicks_of(exposures: pa.Table) -> pa.Table:
    """Convert to engagements: one click for each exposure with label 1."""
    clicked = exposures.filter(pc.equal(exposures["label"], "1"))
    columns = {name: clicked[name] for name in ("user_id", "ad_id", "request_id")}
    columns |= {"kind": pa.repeat("click", clicked.num_rows), "engaged_at": clicked["served_at"]}
    return table_of(_ENGAGEMENTS, columns, clicked.num_rows)


def _refuse_nulls(path: Path, values: pa.Array, parsed: pa.Array, expected: str, remedy: str) -> None:
    if parsed.null_count:
        found = repr(values.filter(pc.is_null(parsed))[0].as_py())
        raise UserError(str(path), expected=expected, found=found, remedy=remedy)
