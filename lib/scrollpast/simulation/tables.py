"""Arrow tables of the input contract, made from the compiled loop's arrays, and their Parquet files.

Strings are written from dictionaries, without Arrow's schema in the Parquet metadata, so that every reader reads plain
strings.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scrollpast.simulation.behaviour import KINDS, NO_REQUEST
from scrollpast.simulation.rows import (
    FINE,
    NEGATIVE_POSITION,
    NO_AD,
    NO_REQUEST_ID,
    NO_TIME,
    NO_USER,
    UNKNOWN_DWELL,
    Engaged,
    Rows,
)
from scrollpast.simulation.shape import SURFACES, LogShape
from scrollpast.simulation.users import AGE_BANDS, UserFacts
from scrollpast.simulation.world import COUNTRIES, DEVICES, World

TABLES = (
    "impressions", "engagements", "ads", "users", "truth", "truth_users", "truth_ads", "truth_examination",
)  # fmt: skip
_TIME = pa.timestamp("us", tz="UTC")


def impressions_of(rows: Rows, world: World) -> pa.Table:
    """Impressions in the schema of a serving pipeline's log, for the miner."""
    broken = rows.broken
    position = np.where(broken == NEGATIVE_POSITION, -1 - rows.position, rows.position).astype(np.int32)
    person = rows.user - 1
    return pa.table(
        {
            "request_id": _array(rows.request, broken == NO_REQUEST_ID),
            "user_id": _array(rows.user, broken == NO_USER),
            "ad_id": _array(rows.ad, broken == NO_AD),
            "served_at": _array(rows.served_us, broken == NO_TIME, _TIME),
            "surface": _names(rows.surface, SURFACES),
            "position": _array(position),
            "dwell_ms": _array(rows.dwell_ms, rows.dwell_ms == UNKNOWN_DWELL),
            "propensity": _array(rows.propensity, np.isnan(rows.propensity)),
            "is_random": _array(rows.is_random),
            "ranker_score": _array(rows.score, np.isnan(rows.score)),
            "country": _names(world.user_country[person], COUNTRIES),
            "device": _names(world.user_device[person], DEVICES),
        }
    )


def truth_of(rows: Rows) -> pa.Table:
    """True events of each impression, row for row, without injected faults."""
    return pa.table(
        {
            "request_id": _array(rows.request),
            "user_id": _array(rows.user),
            "ad_id": _array(rows.ad),
            "position": _array(rows.position),
            "served_at": _array(rows.served_us, None, _TIME),
            "relevance": _array(rows.relevance),
            "is_relevant": _array(rows.is_relevant),
            "is_examined": _array(rows.is_examined),
            "is_bot": _array(rows.is_bot),
            "is_duplicate": _array(rows.is_duplicate),
            "is_broken": _array(rows.broken != FINE),
        }
    )


def engagements_of(engaged: Engaged) -> pa.Table:
    """Engagements of users; the request is null where the event does not name it."""
    return pa.table(
        {
            "user_id": _array(engaged.user),
            "ad_id": _array(engaged.ad),
            "kind": _names(engaged.kind, KINDS),
            "engaged_at": _array(engaged.at_us, None, _TIME),
            "request_id": _array(engaged.request, engaged.request == NO_REQUEST),
            "value": _array(engaged.value, np.isnan(engaged.value)),
        }
    )


def ads_of(world: World) -> pa.Table:
    """Every ad of the world, served or not."""
    return pa.table(
        {
            "ad_id": _array(np.arange(1, world.ad_created_us.size + 1)),
            "advertiser_id": _array(world.ad_advertiser),
            "category_id": _array(world.ad_category),
            "created_at": _array(world.ad_created_us, None, _TIME),
        }
    )


def users_of(world: World, facts: UserFacts) -> pa.Table:
    """Every user of the world, bots among them: features, and the ads engaged with before the first day."""
    offsets = facts.watched_offsets
    return pa.table(
        {
            "user_id": _array(np.arange(1, offsets.size)),
            "country": _names(world.user_country, COUNTRIES),
            "device": _names(world.user_device, DEVICES),
            "age_band": _names(facts.age_band, AGE_BANDS),
            "interest": _array(facts.interest),
            "watched": pa.LargeListArray.from_arrays(offsets, facts.watched).cast(pa.list_(pa.int64())),
        }
    )


def truth_users_of(world: World, shape: LogShape) -> pa.Table:
    """Tastes of all users: P(want) = 1 / (1 + exp(−(vector of the user · vector of the ad + log_odds of the ad)))."""
    num_people = world.user_keep.size
    return pa.table(
        {
            "user_id": _array(np.arange(1, world.user_clicks.size + 1)),
            "vector": _vectors(np.float32(shape.relevance_spread) * world.user_vector),
            "clicks": _array(world.user_clicks),
            "is_bot": _array(np.arange(world.user_clicks.size) >= num_people),
        }
    )


def truth_ads_of(world: World) -> pa.Table:
    """What all ads offer to the tastes of `truth_users_of`."""
    return pa.table(
        {
            "ad_id": _array(np.arange(1, world.ad_created_us.size + 1)),
            "vector": _vectors(world.ad_vector),
            "log_odds": _array((world.intercept + world.ad_quality).astype(np.float32)),
            "created_at": _array(world.ad_created_us, None, _TIME),
        }
    )


def examination_of(world: World) -> pa.Table:
    """True curve: P(examined) by surface and position."""
    num_surfaces, num_positions = world.examination.shape
    return pa.table(
        {
            "surface": _names(np.repeat(np.arange(num_surfaces, dtype=np.int8), num_positions), SURFACES),
            "position": _array(np.tile(np.arange(num_positions, dtype=np.int32), num_surfaces)),
            "probability": _array(world.examination.ravel()),
        }
    )


def write_part(table: pa.Table, folder: Path, part: int = 0) -> None:
    """Write one file of a table's folder: zstd, row groups of a million rows."""
    # Level 1 takes a third of the default level's time, for files a few percent larger.
    pq.write_table(
        table,
        folder / f"part-{part:05d}.parquet",
        compression="zstd",
        compression_level=1,
        row_group_size=1 << 20,
        store_schema=False,
        use_dictionary=["surface", "country", "device", "age_band", "kind"],
    )


def _array(
    values: NDArray[np.generic], is_null: NDArray[np.bool_] | None = None, kind: pa.DataType | None = None
) -> pa.Array:
    if is_null is not None and not is_null.any():
        is_null = None
    return pa.array(values, type=kind, mask=is_null)


def _vectors(values: NDArray[np.float32]) -> pa.Array:
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(offsets, values.ravel())


def _names(codes: NDArray[np.int8], names: tuple[str, ...]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names))
