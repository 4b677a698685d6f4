"""KuaiRand, a short-video feed: Gao et al., CIKM 2022, arXiv 2208.08696 (Pure, 1K and 27K alike).

One row of its log is one exposure. The log has no request id: the exposures of a user at one millisecond count as one
request, with a hash of (user, time) as its id. Times of engagements are not logged either; each engagement gets the
time of its exposure.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from scrollpast.hashing import ID_MASK, xxhash64
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

LOG_PATTERNS = ("log_*.parquet", "log_*.csv", "data/log_*.csv")
VIDEO_PATTERNS = (
    "videos.parquet", "videos.csv", "video_features_basic*.csv", "data/video_features_basic*.csv",
)  # fmt: skip
USER_PATTERNS = ("user_features*.parquet", "user_features*.csv", "data/user_features*.csv")
HISTORY_PATTERNS = ("history_*.parquet",)
KINDS = {
    "is_click": "click", "long_view": "long_click", "is_like": "save", "is_comment": "save",
    "is_forward": "save", "is_follow": "conversion", "is_hate": "hide",
}  # fmt: skip
DESCRIPTION = LogDescription(
    title="KuaiRand (Gao et al., CIKM 2022, arXiv 2208.08696)",
    mapped={
        "request_id": "hash of (user_id, time_ms): one exposure moment",
        "user_id": "user_id",
        "ad_id": "video_id",
        "served_at": "time_ms (epoch, so UTC; date and hourmin are local and unused)",
        "surface": "tab",
        "dwell_ms": "play_time_ms of rows without a click; with one it is not pre-click, and left null",
        "is_random": "is_rand",
        "kind": "is_click click; long_view long_click; is_like, is_comment, is_forward save; "
        "is_follow conversion; is_hate hide",
        "engaged_at": "time_ms of the exposure",
        "advertiser_id": "author_id",
        "category_id": "the first of tag",
        "created_at": "upload_dt, a local date: its first moment at UTC+8",
        "users": "user_features*, its categorical columns, and watch_seq and long_watch_seq of history_*.parquet, "
        "where these files are there",
    },
    missing={
        "position": "not logged",
        "propensity": "not published, not for random exposures either",
        "value": "no amounts",
    },
    unused_files={
        "history_*.parquet": "one table of histories is read, the first by name",
        "user_features*": "one table of users is read, the first by name",
        "video_features_statistic*": "counts over all days, the evaluated ones among them",
        "load_data_*.py": "a program",
    },
    unused_columns={
        "date": "local; time_ms holds it",
        "hourmin": "local; time_ms holds it",
        "duration_ms": "of the video, not of the exposure",
        **dict.fromkeys(
            ("profile_stay_time", "comment_stay_time", "is_profile_enter"), "of other pages, after the look"
        ),
        **dict.fromkeys(
            (
                "video_type",
                "upload_type",
                "visible_status",
                "video_duration",
                "server_width",
                "server_height",
                "music_id",
                "music_type",
            ),
            "a feature of ads that the contract does not name",
        ),
        "is_lowactive_period": "the same for every user",
        **dict.fromkeys(
            ("follow_user_num", "fans_user_num", "friend_user_num", "register_days"),
            "a count; its range is read",
        ),
    },
    options=("mining.user_history=watch_seq",),
    notes=("exact duplicate rows stay in; the miner counts them as duplicate",),
)

_LOCAL_OFFSET_US = 8 * 3_600_000_000
_IMPRESSIONS = impressions_schema(pa.int64(), pa.int64())
_ENGAGEMENTS = engagements_schema(pa.int64(), pa.int64())
_ADS = ads_schema(pa.int64(), pa.int64())
_LOG_COLUMNS = {
    name: pa.int64() for name in ("user_id", "video_id", "time_ms", *KINDS, "play_time_ms", "is_rand", "tab")
}
_VIDEO_COLUMNS = {
    "video_id": pa.int64(),
    "author_id": pa.int64(),
    "upload_dt": pa.string(),
    "tag": pa.string(),
}
_RANGES = (
    "user_active_degree", "follow_user_num_range", "fans_user_num_range", "friend_user_num_range",
    "register_days_range",
)  # fmt: skip
_CODES = ("is_live_streamer", "is_video_author", *(f"onehot_feat{number}" for number in range(18)))
_SEQUENCES = ("watch_seq", "long_watch_seq")
_USERS = users_schema(
    pa.int64(), _SEQUENCES, **dict.fromkeys(_RANGES, pa.string()), **dict.fromkeys(_CODES, pa.int64())
)
# Some codes are written as 1.0.
_USER_COLUMNS = {
    "user_id": pa.int64(), **dict.fromkeys(_RANGES, pa.string()), **dict.fromkeys(_CODES, pa.float64()),
}  # fmt: skip
_HISTORY_COLUMNS = {"user_id": pa.int64(), **{name: pa.list_(pa.int64()) for name in _SEQUENCES}}


def import_kuairand(source: Path, out: Path, overwrite: bool = False) -> str:
    """Import every log file, the videos and the users of a KuaiRand folder, CSV or Parquet; returns the report.

    Raises:
        UserError: a file or column is missing, or ``out`` holds tables and ``overwrite`` is not given.
    """
    files = LogSource(source)
    logs = files.find(LOG_PATTERNS, "a log")
    videos = files.find(VIDEO_PATTERNS, "the videos")
    num_unclicked: Counter[str | None] = Counter()
    num_never_played: Counter[str | None] = Counter()
    with LogWriter(out, overwrite) as writer:
        for path in logs:
            for batch in files.read(path, _LOG_COLUMNS):
                impressions = impressions_of(batch)
                writer.impressions(impressions)
                writer.engagements(engagements_of(batch))
                dwell = impressions.filter(pc.is_valid(impressions["dwell_ms"]))
                num_unclicked.update(dwell["surface"].to_pylist())
                num_never_played.update(dwell.filter(pc.equal(dwell["dwell_ms"], 0))["surface"].to_pylist())
        for path in videos:
            for batch in files.read(path, _VIDEO_COLUMNS):
                writer.ads(ads_of(batch))
        users = users_of(files)
        if users is not None:
            writer.users(users)
        still = [tab for tab in num_unclicked if 2 * num_never_played[tab] > num_unclicked[tab]]
        return report_of(_with_note_on_still_tabs(still), writer, files)


def impressions_of(batch: pa.RecordBatch) -> pa.Table:
    """Convert to impressions: one for each row of the log."""
    clicked = pc.equal(batch["is_click"], 1)
    columns = {
        "request_id": request_ids(batch),
        "user_id": batch["user_id"],
        "ad_id": batch["video_id"],
        "served_at": _times(batch),
        "surface": batch["tab"],
        "dwell_ms": pc.if_else(clicked, pa.scalar(None, pa.int64()), batch["play_time_ms"]),
        "is_random": pc.equal(batch["is_rand"], 1),
    }
    return table_of(_IMPRESSIONS, columns, batch.num_rows)


def engagements_of(batch: pa.RecordBatch) -> pa.Table:
    """Convert to engagements: one for each set flag."""
    columns = {
        "user_id": batch["user_id"],
        "ad_id": batch["video_id"],
        "engaged_at": _times(batch),
        "request_id": request_ids(batch),
    }
    parts = []
    for flag, kind in KINDS.items():
        kinds = pa.repeat(kind, batch.num_rows)
        table = table_of(_ENGAGEMENTS, {**columns, "kind": kinds}, batch.num_rows)
        parts.append(table.filter(pc.equal(batch[flag], 1)))
    return pa.concat_tables(parts)


def ads_of(batch: pa.RecordBatch) -> pa.Table:
    """Convert to ads: one for each video."""
    days = pc.strptime(batch["upload_dt"], format="%Y-%m-%d", unit="us", error_is_null=True)
    tag = pc.struct_field(pc.extract_regex(batch["tag"], pattern=r"^(?P<first>\d+)"), "first")
    columns = {
        "ad_id": batch["video_id"],
        "advertiser_id": batch["author_id"],
        "category_id": tag,
        "created_at": pc.subtract(days.cast(pa.int64()), _LOCAL_OFFSET_US).cast(UTC_TIME),
    }
    return table_of(_ADS, columns, batch.num_rows)


def users_of(files: LogSource) -> pa.Table | None:
    """Users by id: their categorical features, and what they watched before the log; None without both files."""
    parts = []
    for patterns, columns in ((USER_PATTERNS, _USER_COLUMNS), (HISTORY_PATTERNS, _HISTORY_COLUMNS)):
        path = files.find_optional(patterns)
        batches = [] if path is None else list(files.read(path, columns, optional=set(columns) - {"user_id"}))
        parts.append(pa.Table.from_batches(batches, pa.schema(columns)).combine_chunks())
    users = pc.unique(
        pa.chunked_array([chunk for part in parts for chunk in part["user_id"].chunks], pa.int64())
    )
    users = users.drop_null().sort()
    if not len(users):
        return None
    columns = {"user_id": users}
    for part in parts:
        rows = pc.index_in(users, part["user_id"].combine_chunks())
        columns |= {name: part[name].take(rows) for name in part.column_names if name != "user_id"}
    return table_of(_USERS, columns, len(users))


def request_ids(batch: pa.RecordBatch) -> pa.Array:
    """63-bit hash of (user, time), independent of file and order of rows."""
    users, times = (batch[name].fill_null(0).to_numpy() for name in ("user_id", "time_ms"))
    return pa.array(xxhash64(times, xxhash64(users)) & ID_MASK)


def _times(batch: pa.RecordBatch) -> pa.Array:
    return pc.multiply(batch["time_ms"], 1000).cast(UTC_TIME)


def _with_note_on_still_tabs(still: list[str | None]) -> LogDescription:
    if not still:
        return DESCRIPTION
    tabs = sorted((tab for tab in still if tab is not None), key=int)
    tabs += ["null (surface all)"] if None in still else []
    note = (
        f"on tab {', '.join(tabs)} most videos without a click did not play at all: a dwell of 0 there does "
        "not mean that nobody looked; see mining.examined.surfaces.<tab>.min_dwell_ms"
    )
    return dataclasses.replace(DESCRIPTION, notes=(*DESCRIPTION.notes, note))
