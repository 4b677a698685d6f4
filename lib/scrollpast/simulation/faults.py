"""Faults of the feeds of a day, injected into a sound log.

Every fault is a function of a log and a day that returns the faulty log. Its draws are hashes of the affected ids or
rows. Days before and after stay unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scrollpast.hashing import xxhash64
from scrollpast.simulation.world import DAY_US

HOUR_US = DAY_US // 24
_TIME = pa.timestamp("us", "UTC")
_STRANGE = 1 << 40
"""Offset of an id to an id outside the log."""
_SILENT, _CLICKING = 0.0, 0.05


@dataclass(frozen=True)
class Feeds:
    """The two feeds of a log, in the schemas of ``simulation.tables``."""

    impressions: pa.Table
    engagements: pa.Table


Fault = Callable[[Feeds, int], Feeds]
"""A log and the start of a day (microseconds since the epoch, UTC) → the faulty log."""


def drop_engagements(feeds: Feeds, day_us: int) -> Feeds:
    """The engagement feed of the day is missing."""
    return _without_engagements(feeds, _engaged_on(feeds, day_us))


def drop_half_of_the_users(feeds: Feeds, day_us: int) -> Feeds:
    """The engagement feed of the day lacks every second user."""
    return _without_engagements(feeds, _engaged_on(feeds, day_us) & _half(feeds.engagements, "user_id"))


def drop_half_of_the_files(feeds: Feeds, day_us: int) -> Feeds:
    """The engagement feed of the day lacks every second hour, as with lost hourly files."""
    hour = _times(feeds.engagements, "engaged_at") // HOUR_US
    return _without_engagements(feeds, _engaged_on(feeds, day_us) & (hour % 2 == 1))


def engage_3_h_late(feeds: Feeds, day_us: int) -> Feeds:
    """The clock of the engagement feed is three hours ahead of the impressions' clock."""
    return _shifted(feeds, day_us, 3 * HOUR_US)


def engage_3_h_early(feeds: Feeds, day_us: int) -> Feeds:
    """The clock of the engagement feed is three hours behind the impressions' clock."""
    return _shifted(feeds, day_us, -3 * HOUR_US)


def deliver_twice(feeds: Feeds, day_us: int) -> Feeds:
    """The impressions of the day are delivered twice."""
    of_day = _taken(feeds.impressions, _served_on(feeds, day_us))
    return replace(feeds, impressions=pa.concat_tables([feeds.impressions, of_day]))


def deliver_yesterday_again(feeds: Feeds, day_us: int) -> Feeds:
    """The impressions of the day are those of the day before, with times of this day."""
    again = _a_day_later(_taken(feeds.impressions, _served_on(feeds, day_us - DAY_US)), "served_at")
    others = _taken(feeds.impressions, ~_served_on(feeds, day_us))
    return replace(feeds, impressions=pa.concat_tables([others, again]))


def replay_yesterday(feeds: Feeds, day_us: int) -> Feeds:
    """Both feeds of the day are those of the day before, with times of this day: every rate looks normal."""
    again = _a_day_later(_taken(feeds.engagements, _engaged_on(feeds, day_us - DAY_US)), "engaged_at")
    others = _taken(feeds.engagements, ~_engaged_on(feeds, day_us))
    return replace(deliver_yesterday_again(feeds, day_us), engagements=pa.concat_tables([others, again]))


def flood_with_busy_bots(feeds: Feeds, day_us: int) -> Feeds:
    """The number of impressions is doubled by a few bots, which click on some of theirs."""
    return _flooded(feeds, day_us, rows_per_bot=3000, click=_CLICKING)


def flood_with_many_bots(feeds: Feeds, day_us: int) -> Feeds:
    """The number of impressions is doubled by bots that look like users and click on some of theirs."""
    return _flooded(feeds, day_us, rows_per_bot=20, click=_CLICKING)


def flood_with_silent_bots(feeds: Feeds, day_us: int) -> Feeds:
    """The number of impressions is doubled by bots that look like users and never click."""
    return _flooded(feeds, day_us, rows_per_bot=20, click=_SILENT)


def remap_users_of_engagements(feeds: Feeds, day_us: int) -> Feeds:
    """Half of the users have other ids in the engagement feed of the day."""
    where = _engaged_on(feeds, day_us) & _half(feeds.engagements, "user_id")
    return replace(feeds, engagements=_remapped(feeds.engagements, "user_id", where))


def remap_ads_of_impressions(feeds: Feeds, day_us: int) -> Feeds:
    """Half of the ads have other ids in the impression feed of the day."""
    where = _served_on(feeds, day_us) & _half(feeds.impressions, "ad_id")
    return replace(feeds, impressions=_remapped(feeds.impressions, "ad_id", where))


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        drop_engagements,
        drop_half_of_the_users,
        drop_half_of_the_files,
        engage_3_h_late,
        engage_3_h_early,
        deliver_twice,
        deliver_yesterday_again,
        replay_yesterday,
        flood_with_busy_bots,
        flood_with_many_bots,
        flood_with_silent_bots,
        remap_users_of_engagements,
        remap_ads_of_impressions,
    )
}


def _times(table: pa.Table, name: str) -> NDArray[np.int64]:
    """Microseconds since the epoch, [N]; null is a value far from every day."""
    return np.asarray(table[name].cast(pa.int64()).fill_null(-(2**62)).to_numpy())


def _served_on(feeds: Feeds, day_us: int) -> NDArray[np.bool_]:
    return _times(feeds.impressions, "served_at") // DAY_US == day_us // DAY_US


def _engaged_on(feeds: Feeds, day_us: int) -> NDArray[np.bool_]:
    return _times(feeds.engagements, "engaged_at") // DAY_US == day_us // DAY_US


def _half(table: pa.Table, name: str) -> NDArray[np.bool_]:
    """Mask of the rows of half of the ids, [N]; False for rows without an id."""
    hashes = xxhash64(table[name].fill_null(0).to_numpy().astype(np.int64))
    return (hashes % 2 == 0) & pc.is_valid(table[name]).to_numpy()


def _taken(table: pa.Table, where: NDArray[np.bool_]) -> pa.Table:
    return table.take(np.flatnonzero(where))


def _without_engagements(feeds: Feeds, where: NDArray[np.bool_]) -> Feeds:
    return replace(feeds, engagements=_taken(feeds.engagements, ~where))


def _with_column(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def _a_day_later(table: pa.Table, name: str) -> pa.Table:
    later = pc.add(table[name].cast(pa.int64()), DAY_US)
    return _with_column(table, name, later.cast(_TIME))


def _shifted(feeds: Feeds, day_us: int, by_us: int) -> Feeds:
    times = _times(feeds.engagements, "engaged_at")
    shifted = pa.array(np.where(_engaged_on(feeds, day_us), times + by_us, times)).cast(_TIME)
    return replace(feeds, engagements=_with_column(feeds.engagements, "engaged_at", shifted))


def _remapped(table: pa.Table, name: str, where: NDArray[np.bool_]) -> pa.Table:
    strange = pc.add(table[name], _STRANGE)
    return _with_column(table, name, pc.if_else(pa.chunked_array([where]), strange, table[name]))


def _flooded(feeds: Feeds, day_us: int, *, rows_per_bot: int, click: float) -> Feeds:
    """Repeat every row of the day for a bot, in a new request; a share of the repeated rows is clicked."""
    rows = _taken(feeds.impressions, _served_on(feeds, day_us))
    number = np.arange(len(rows))
    bots = _with_column(rows, "user_id", pa.array(_STRANGE + number // rows_per_bot))
    bots = _with_column(bots, "request_id", pa.array(_STRANGE + number))
    is_clicked = (xxhash64(number) % 10_000 < click * 10_000) & pc.is_valid(rows["ad_id"]).to_numpy()
    clicked = _taken(bots, is_clicked)
    clicks = pa.table(
        {
            "user_id": clicked["user_id"],
            "ad_id": clicked["ad_id"],
            "kind": pa.array(["click"] * len(clicked)),
            "engaged_at": pc.add(clicked["served_at"].cast(pa.int64()), 1_000_000).cast(_TIME),
            "request_id": clicked["request_id"],
            "value": pa.nulls(len(clicked), pa.float64()),
        }
    )
    return Feeds(
        pa.concat_tables([feeds.impressions, bots]),
        pa.concat_tables([feeds.engagements, clicks.cast(feeds.engagements.schema)]),
    )
