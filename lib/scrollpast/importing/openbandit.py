"""Open Bandit Dataset, fashion recommendations: Saito et al., arXiv 2008.07146.

**The log has no user id.** The user of an import is the cohort of all people with the same four hashed
features; a click of one person guards and anchors the impressions of the cohort. The import serves tests of the
pipeline, of propensities and of random slots, not the training of a retriever.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from scrollpast.errors import UserError
from scrollpast.hashing import ID_MASK, hash_column, xxhash64
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

POLICIES = ("random", "bts")
CAMPAIGNS = ("all", "men", "women")
ITEM_PATTERNS = ("item_context.csv", "random/*/item_context.csv", "bts/*/item_context.csv")
DESCRIPTION = LogDescription(
    title="Open Bandit Dataset (Saito et al., arXiv 2008.07146)",
    mapped={
        "request_id": "hash of (policy, cohort, timestamp)",
        "user_id": "hash of user_feature_0..3: a cohort, not a person",
        "ad_id": "item_id",
        "served_at": "timestamp",
        "surface": "the campaign",
        "position": "position 1..3, as 0..2",
        "propensity": "propensity_score: the policy's true probability of this item here",
        "is_random": "true in the log of the uniform random policy",
        "kind": "click",
        "engaged_at": "timestamp: the moment of the click is not logged",
        "item_feature_1..3": "item_context.csv, where that file is there",
    },
    missing={
        "dwell_ms": "not logged",
        "advertiser_id": "not published",
        "category_id": "not published, but for the hashed item features",
        "created_at": "not published",
        "value": "no amounts",
    },
    unused_columns={
        "": "the number of the row",
        "Unnamed: 0": "the number of the row",
        "item_feature_0": "a number without a meaning that is published",
        "user-item_affinity_*": "scores of earlier clicks of a cohort on an item: no table holds pairs",
    },
    unused_files={"item_context.csv": "one table of items is read, as each policy's folder has the same"},
    notes=(
        (
            "THIS LOG HAS NO USER ID. A 'user' here is the cohort of everybody with the same four features: "
            "a click of one of them counts for all of them"
        ),
    ),
)

_FEATURES = tuple(f"user_feature_{i}" for i in range(4))
_ITEM_FEATURES = {f"item_feature_{i}": pa.string() for i in (1, 2, 3)}
_IMPRESSIONS = impressions_schema(pa.int64(), pa.int64())
_ENGAGEMENTS = engagements_schema(pa.int64(), pa.int64())
_ADS = ads_schema(pa.int64(), pa.int64(), **_ITEM_FEATURES)
_LOG_COLUMNS = {
    "timestamp": UTC_TIME,
    "item_id": pa.int64(),
    "position": pa.int32(),
    "click": pa.int64(),
    "propensity_score": pa.float64(),
    **dict.fromkeys(_FEATURES, pa.string()),
}


def import_openbandit(source: Path, out: Path, overwrite: bool = False) -> str:
    """Import the logs of both policies, or of one, of one campaign.

    Args:
        source: folder with ``<policy>/<campaign>/<campaign>.csv`` as published, or with
            ``<policy>_<campaign>.parquet`` or ``.csv``.
        out: folder that receives the tables.
        overwrite: replace existing tables.

    Raises:
        UserError: a file or column is missing, the folder holds several campaigns (each has its own item ids), or
            ``out`` holds tables and ``overwrite`` is not given.
    """
    files = LogSource(source)
    logs = find_logs(files)
    items = files.find_optional(ITEM_PATTERNS)
    seen = pa.array([], pa.int64())
    with LogWriter(out, overwrite) as writer:
        for path, policy, campaign in logs:
            for batch in files.read(path, _LOG_COLUMNS):
                impressions = impressions_of(batch, policy, campaign)
                writer.impressions(impressions)
                writer.engagements(clicks_of(impressions, batch))
                seen = pc.unique(pa.concat_arrays([seen, *impressions["ad_id"].chunks]))
        if items is None:
            writer.ads(table_of(_ADS, {"ad_id": seen.sort()}, len(seen)))
        else:
            for batch in files.read(items, {"item_id": pa.int64(), **_ITEM_FEATURES}, _ITEM_FEATURES):
                features = {name: batch[name] for name in _ITEM_FEATURES}
                writer.ads(table_of(_ADS, {"ad_id": batch["item_id"], **features}, batch.num_rows))
        return report_of(DESCRIPTION, writer, files)


def find_logs(files: LogSource) -> list[tuple[Path, str, str]]:
    """(file, policy, campaign) of every log below a folder, which has to hold exactly one campaign."""
    names = {
        pattern: (policy, campaign)
        for policy in POLICIES
        for campaign in CAMPAIGNS
        for pattern in (
            f"{policy}_{campaign}.parquet",
            f"{policy}_{campaign}.csv",
            f"{policy}/{campaign}/{campaign}.csv",
        )
    }
    files.find(names, "a log of a policy")
    source = files.folder
    logs = [(source / name, *key) for name, key in names.items() if (source / name).is_file()]
    campaigns = sorted({campaign for _, _, campaign in logs})
    if len(campaigns) > 1:
        raise UserError(
            str(source),
            expected="the logs of one campaign (each numbers its items anew)",
            found=", ".join(campaigns),
            remedy="move the logs of one campaign to a separate folder",
        )
    return logs


def impressions_of(batch: pa.RecordBatch, policy: str, campaign: str) -> pa.Table:
    """Convert to impressions: one for each row of the log."""
    text = pc.binary_join_element_wise(*(batch[name].fill_null("") for name in _FEATURES), "\x1f")
    users = hash_column(text) & ID_MASK
    # People without any of the features are unknown: they do not form a cohort.
    is_unknown = pc.equal(text, "\x1f" * (len(_FEATURES) - 1))
    times = batch["timestamp"].cast(pa.int64()).fill_null(0).to_numpy()
    requests = xxhash64(times, xxhash64(users, POLICIES.index(policy))) & ID_MASK
    columns = {
        "request_id": pa.array(requests),
        "user_id": pc.if_else(is_unknown, None, pa.array(users)),
        "ad_id": batch["item_id"],
        "served_at": batch["timestamp"],
        "surface": pa.repeat(campaign, batch.num_rows),
        "position": pc.subtract(batch["position"], pa.scalar(1, pa.int32())),
        "propensity": batch["propensity_score"],
        "is_random": pa.repeat(policy == "random", batch.num_rows),
    }
    return table_of(_IMPRESSIONS, columns, batch.num_rows)


def clicks_of(impressions: pa.Table, batch: pa.RecordBatch) -> pa.Table:
    """Convert to engagements: one click for each row with ``click`` set."""
    clicked = impressions.filter(pc.equal(batch["click"], 1))
    columns = {name: clicked[name] for name in ("user_id", "ad_id", "request_id")}
    columns |= {"kind": pa.repeat("click", clicked.num_rows), "engaged_at": clicked["served_at"]}
    return table_of(_ENGAGEMENTS, columns, clicked.num_rows)
