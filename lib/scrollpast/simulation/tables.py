"""From the compiled loop's arrays to Arrow tables, after the input contract, and their Parquet files.

Strings are written from dictionaries, and without Arrow's own schema beside the Parquet one, so that every
reader takes them for plain strings.
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
from scrollpast.simulation.shape import SURFACES
from scrollpast.simulation.world import COUNTRIES, DEVICES, World

TABLES = ("impressions", "engagements", "ads", "truth", "truth_examination")
_TIME = pa.timestamp("us", tz="UTC")


def impressions_of(rows: Rows, world: World) -> pa.Table:
    """The log as the serving pipeline would have written it: what the miner reads."""
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
    """True events of each impression, row for row; broken values are whole here."""
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
    """Engagements of users; the request is null where the kind of event does not know it."""
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


def examination_of(world: World) -> pa.Table:
    """The planted curve: P(examined) by surface and position."""
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
    # Level 1 costs a third of the time of the default's and a few percent of size on such columns.
    pq.write_table(
        table,
        folder / f"part-{part:05d}.parquet",
        compression="zstd",
        compression_level=1,
        row_group_size=1 << 20,
        store_schema=False,
        use_dictionary=["surface", "country", "device", "kind"],
    )


def _array(
    values: NDArray[np.generic], is_null: NDArray[np.bool_] | None = None, kind: pa.DataType | None = None
) -> pa.Array:
    if is_null is not None and not is_null.any():
        is_null = None
    return pa.array(values, type=kind, mask=is_null)


def _names(codes: NDArray[np.int8], names: tuple[str, ...]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names))
