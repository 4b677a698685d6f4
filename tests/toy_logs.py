"""Small logs with everything a real one has: two surfaces, unknown and broken values, repeats, hides, late clicks.

The day is 2026-11-20; some rows and engagements lie on the days beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

DAY = "2026-11-20"
AS_OF = "2026-11-28"
DAY_START_US = 1_795_132_800_000_000
"""2026-11-20T00:00:00Z, in microseconds since the epoch."""
HOUR_US = 3_600_000_000
SLATE = 8
"""Ads of one request."""
NUM_ADS = 60

_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class ToyLog:
    """One log as Arrow tables with the columns of the input contract, and a user's country."""

    impressions: pa.Table
    engagements: pa.Table
    ads: pa.Table

    def with_impressions(self, **columns: Any) -> ToyLog:
        """The same log with columns of impressions replaced, added, or (None) left out."""
        return replace(self, impressions=_with_columns(self.impressions, columns))

    def with_engagements(self, **columns: Any) -> ToyLog:
        """The same log with columns of engagements replaced, added, or (None) left out."""
        return replace(self, engagements=_with_columns(self.engagements, columns))

    def with_text_ids(self) -> ToyLog:
        """The same log with strings for ids: ``user-17``, ``ad-5`` and so on."""

        def texts(table: pa.Table) -> pa.Table:
            for name in ("request_id", "user_id", "ad_id"):
                if name in table.column_names:
                    prefix = name.removesuffix("_id")
                    spelled = pc.binary_join_element_wise(prefix, table[name].cast(pa.string()), "-")
                    table = _with_columns(table, {name: spelled})
            return table

        return ToyLog(texts(self.impressions), texts(self.engagements), texts(self.ads))

    def write(self, folder: Path) -> Path:
        """Every table as one Parquet file with a few row groups: ``folder/impressions/part-0.parquet`` …"""
        for name in ("impressions", "engagements", "ads"):
            write_parquet(getattr(self, name), folder / name)
        return folder


def toy_log(num_requests: int = 400, *, num_users: int = 30, seed: int = 0) -> ToyLog:
    """A log of ``num_requests`` slates of ``SLATE`` ads; the same arguments give the same rows."""
    random = np.random.Generator(np.random.Philox(seed))
    num_rows = num_requests * SLATE
    # A sixth of the requests on the days before and after, so that a window cuts the log.
    served_us = DAY_START_US + random.integers(-2 * HOUR_US, 26 * HOUR_US, num_requests)
    user = random.integers(0, num_users, num_requests).repeat(SLATE)
    request = np.arange(num_requests).repeat(SLATE)
    ad = np.minimum(random.zipf(1.5, num_rows), NUM_ADS) - 1
    position = np.tile(np.arange(SLATE), num_requests)
    dwell_ms = random.lognormal(7.0, 0.9, num_rows).astype(np.int64)
    # A broken row has no user, or a dwell below zero.
    broken = random.random(num_rows)
    dwell_ms[broken < 0.01] = -5
    impressions = pa.table(
        {
            "request_id": request,
            "user_id": pa.array(user, mask=broken > 0.99),
            "ad_id": ad,
            "served_at": pa.array(served_us.repeat(SLATE), _TIME),
            "surface": pa.array(
                np.array(["feed", "search"])[request % 2], mask=random.random(num_rows) < 0.02
            ),
            "position": pa.array(position, pa.int32(), mask=random.random(num_rows) < 0.05),
            "dwell_ms": pa.array(dwell_ms, pa.int32(), mask=random.random(num_rows) < 0.05),
            "country": pa.array(np.array(["de", "fr", "dk"])[user % 3]),
        }
    )
    # A log that was delivered at least once holds some rows twice.
    impressions = pa.concat_tables(
        [impressions, impressions.take(random.integers(0, num_rows, num_rows // 50))]
    )
    return ToyLog(impressions, _engagements(impressions, random), _ads())


def _engagements(impressions: pa.Table, random: np.random.Generator) -> pa.Table:
    """Answers to some impressions, within minutes or a day later, one in three without its request."""
    usable = impressions.filter(pc.is_valid(impressions["user_id"]))
    chosen = usable.take(np.flatnonzero(random.random(len(usable)) < 0.03))
    num_rows = len(chosen)
    delay_us = random.choice(np.array([1, 5, 60, 1500]) * 60_000_000, num_rows)
    kinds = np.array(["click", "long_click", "save", "conversion", "hide", "report", "glance"])
    return pa.table(
        {
            "user_id": chosen["user_id"],
            "ad_id": chosen["ad_id"],
            "kind": pa.array(kinds[random.integers(0, len(kinds), num_rows)]),
            "engaged_at": pa.array(chosen["served_at"].to_numpy().astype(np.int64) + delay_us, _TIME),
            "request_id": pa.array(chosen["request_id"].to_numpy(), mask=random.random(num_rows) < 0.33),
        }
    )


def _ads() -> pa.Table:
    number = np.arange(NUM_ADS)
    return pa.table({"ad_id": number, "advertiser_id": number // 4})


def write_parquet(table: pa.Table, folder: Path, *, rows_per_group: int = 1000, **options: Any) -> Path:
    """One file ``part-0.parquet`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "part-0.parquet"
    pq.write_table(table, path, row_group_size=rows_per_group, **options)
    return path


def write_shuffled(
    table: pa.Table, folder: Path, *, num_files: int, rows_per_group: int, seed: int = 1
) -> None:
    """The same rows in another order, over several files of other names."""
    random = np.random.Generator(np.random.Philox(seed))
    order = random.permutation(len(table))
    folder.mkdir(parents=True)
    for number, rows in enumerate(np.array_split(order, num_files)):
        path = folder / f"shuffled-{num_files - number}.parquet"
        pq.write_table(table.take(rows), path, row_group_size=rows_per_group)


def _with_columns(table: pa.Table, columns: dict[str, Any]) -> pa.Table:
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        if values is None:
            table = table.drop_columns([name])
        elif at < 0:
            table = table.append_column(name, values)
        else:
            table = table.set_column(at, name, values)
    return table


def rows(table: pa.Table, names: Sequence[str] | None = None) -> Iterable[tuple[Any, ...]]:
    """The rows of a table as tuples."""
    return zip(*(table[name].to_pylist() for name in names or table.column_names), strict=True)
