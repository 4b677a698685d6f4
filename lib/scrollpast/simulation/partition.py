"""One stretch (partition) of the log: the rows of one file, made by one compiled loop from the seed and its number.

A request is a pure function of (seed, stretch, number), so that a stretch can repeat requests of the stretch before
without communication between processes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from scrollpast.simulation.behaviour import engage, react
from scrollpast.simulation.draws import draw, key_of, pick, unit_of
from scrollpast.simulation.rows import (
    FINE,
    NEGATIVE_DWELL,
    NEGATIVE_POSITION,
    UNKNOWN_DWELL,
    Engaged,
    Rows,
    empty_engaged,
    empty_rows,
    rates_of,
)
from scrollpast.simulation.shape import SURFACES, LogShape
from scrollpast.simulation.slate import fill_slate, served_moment
from scrollpast.simulation.world import World

REQUEST_BITS = 24
"""Low bits of a request id that number the requests of one stretch; the high bits hold the stretch."""

_FEED, _SEARCH = 0.6, 0.25
_NUM_SURFACES = len(SURFACES)
_REQUEST_TAG = 0x52455121
_LATE_TAG = 0x4C415445
_ENGAGE_TAG = 0x454E4741
_NUM_FAULTS = NEGATIVE_POSITION


class Plan(NamedTuple):
    """Division of the log: ``num_rows`` in ``num_stretches`` parts of nearly the same size."""

    num_rows: int
    num_stretches: int


def plan_of(num_rows: int, shape: LogShape) -> Plan:
    """Divide a log into stretches of ``shape.rows_per_file`` rows or slightly fewer."""
    return Plan(num_rows, math.ceil(num_rows / shape.rows_per_file))


def make_stretch(
    world: World, shape: LogShape, plan: Plan, stretch: int, seed: int, until_us: int
) -> tuple[Rows, Engaged]:
    """Make the impressions of one stretch, with their truth, and the engagements that follow from them.

    Args:
        world: users and ads.
        shape: rates.
        plan: number of rows of the log, and of stretches.
        stretch: number of the stretch, from 0.
        seed: seed of the log.
        until_us: end of the engagements, microseconds since 1970; later engagements are left out.
    """
    num_rows = _rows_before(plan, stretch + 1) - _rows_before(plan, stretch)
    rows, engaged = empty_rows(num_rows), empty_engaged(num_rows, until_us)
    num_engaged = _fill(world, rates_of(shape), plan, stretch, seed, rows, engaged)
    return rows, Engaged._make([*(column[:num_engaged] for column in engaged[:-1]), until_us])


@njit(cache=True)
def _rows_before(plan, stretch):  # type: ignore[no-untyped-def]
    return plan.num_rows * stretch // plan.num_stretches


@njit(cache=True)
def _fill(world, rates, plan, stretch, seed, rows, engaged):  # type: ignore[no-untyped-def]
    num_rows = rows.request.size
    scratch = _scratch(rates)
    # Shares refer to all rows, chances to rows served once; only valid rows are delivered again.
    repeat = rates.duplicates / ((1.0 - rates.duplicates) * (1.0 - _fault_chance(rates)))
    # Typed zeros: numba makes a literal of a plain zero, and compiles every called function again for it.
    at = np.int64(0)

    # Late re-deliveries: whole slates of the stretch before. Only its first requests qualify, because its file
    # surely holds them completely; their chance is raised so that half of all duplicates are late.
    nearby = repeat
    if stretch > 0:
        nearby = 0.5 * repeat
        num_sure = (_rows_before(plan, stretch) - _rows_before(plan, stretch - 1)) // (3 * rates.max_slate)
        mean_slate = 0.5 * (rates.min_slate + rates.max_slate)
        num_served = num_rows * (1.0 - rates.duplicates)
        chance = 0.5 * repeat * num_served / max(1.0, num_sure * mean_slate)
        for earlier in range(num_sure):
            if unit_of(key_of(seed ^ _LATE_TAG, stretch, earlier)) < chance:
                at = _deliver_again(world, rates, plan, stretch - 1, earlier, seed, scratch, rows, at)

    number = np.int64(0)
    num_engaged = np.int64(0)
    while at < num_rows:
        first = at
        at = _serve(world, rates, plan, stretch, number, seed, scratch, rows, at)
        number += 1
        end = at
        for row in range(first, end):
            num_engaged = _follow(world, rates, seed, rows, row, scratch[2], engaged, num_engaged)
            _spoil(rows, row)
        for row in range(first, end):
            key = key_of(seed ^ _LATE_TAG, rows.request[row], -1 - row)
            if at < num_rows and rows.broken[row] == FINE and unit_of(key) < nearby:
                _copy(rows, row, at)
                at += 1
    return num_engaged


@njit(cache=True)
def _fault_chance(rates):  # type: ignore[no-untyped-def]
    return rates.broken / (1.0 - rates.duplicates)


@njit(cache=True)
def _scratch(rates):  # type: ignore[no-untyped-def]
    room = 2 * rates.max_slate
    slate = np.empty(room, np.int64), np.empty(room), np.empty(room, np.bool_), np.empty(room)
    return slate, np.empty(rates.pool_ads, np.int64), np.empty(1, np.uint64)


@njit(cache=True)
def _serve(world, rates, plan, stretch, number, seed, scratch, rows, at):  # type: ignore[no-untyped-def]
    """Write the rows of one request from ``at`` on, as far as space allows; returns the end of the rows."""
    slate, slots, stream = scratch
    request = (np.int64(stretch) << REQUEST_BITS) | number
    stream[0] = key_of(seed ^ _REQUEST_TAG, stretch, number)
    num_people = world.user_keep.size
    num_bots = world.user_clicks.size - num_people
    is_bot = draw(stream) < rates.bot_rows and num_bots > 0
    if is_bot:
        user = num_people + int(draw(stream) * num_bots)
    else:
        user = pick(world.user_keep, world.user_other, draw(stream))
    served_us = served_moment(world, _share_of_window(rates, plan, stretch, number, draw(stream)))
    kind = draw(stream)
    surface = 0 if kind < _FEED else 1 if kind < _FEED + _SEARCH else 2
    size = rates.min_slate + int(draw(stream) * (rates.max_slate - rates.min_slate + 1))
    filled, num_alive = fill_slate(world, rates, seed, stream, user, served_us, size, slots, slate)
    for position in range(min(filled, rows.request.size - at)):
        ad = slate[0][position]
        relevance = np.float32(1.0 / (1.0 + math.exp(-slate[1][position])))
        wanted, examined, clicked, dwell_ms = react(
            world, rates, seed, stream, user, ad, is_bot, surface, position, relevance
        )
        rows.request[at] = request
        rows.user[at] = user + 1
        rows.ad[at] = ad + 1
        rows.served_us[at] = served_us
        rows.surface[at] = surface
        rows.position[at] = position
        rows.dwell_ms[at] = dwell_ms
        rows.propensity[at] = 1.0 / num_alive if slate[2][position] else math.nan
        rows.score[at] = slate[3][position]
        rows.is_random[at] = slate[2][position]
        rows.relevance[at] = relevance
        rows.is_relevant[at] = wanted
        rows.is_examined[at] = examined
        rows.is_clicked[at] = clicked
        rows.is_bot[at] = is_bot
        rows.is_duplicate[at] = False
        rows.broken[at] = 1 + int(draw(stream) * _NUM_FAULTS) if draw(stream) < _fault_chance(rates) else FINE
        rows.is_dwell_sent[at] = draw(stream) >= rates.dwell_missing
        at += 1
    return at


@njit(cache=True)
def _share_of_window(rates, plan, stretch, number, jitter):  # type: ignore[no-untyped-def]
    """Time of a request as a share of the window: about in the order of its number, inside the stretch's share."""
    first = _rows_before(plan, stretch)
    num_rows = _rows_before(plan, stretch + 1) - first
    # Slightly more requests than expected, so that few requests exceed the end of their stretch: random slate
    # sizes change the number of requests by less than 0.3 sqrt(expected).
    expected = num_rows * (1.0 - rates.duplicates) / (0.5 * (rates.min_slate + rates.max_slate))
    num_requests = 1.0 + expected + 0.6 * math.sqrt(expected)
    progress = (number + jitter) / num_requests
    return (first + num_rows * (progress if progress < 1.0 else jitter)) / plan.num_rows


@njit(cache=True)
def _follow(world, rates, seed, rows, row, stream, engaged, count):  # type: ignore[no-untyped-def]
    """Write the engagements that follow from one row, drawn from a separate stream."""
    user, position = rows.user[row], rows.position[row]
    stream[0] = key_of(seed ^ _ENGAGE_TAG, rows.request[row], position)
    exposure = rows.request[row], user, rows.ad[row], position, rows.served_us[row], rows.is_bot[row]
    reaction = rows.is_relevant[row], rows.is_examined[row], rows.is_clicked[row], rows.dwell_ms[row]
    return engage(rates, stream, exposure, reaction, world.user_clicks[user - 1], engaged, count)


@njit(cache=True)
def _deliver_again(world, rates, plan, stretch, number, seed, scratch, rows, at):  # type: ignore[no-untyped-def]
    """Write the valid rows of an earlier request again; returns the end of the rows."""
    end = _serve(world, rates, plan, stretch, number, seed, scratch, rows, at)
    kept = at
    for row in range(at, end):
        if rows.broken[row] == FINE:
            _spoil(rows, row)
            _copy(rows, row, kept)
            kept += 1
    return kept


@njit(cache=True)
def _spoil(rows, row):  # type: ignore[no-untyped-def]
    """Inject faults of the logging pipeline into a row: a lost dwell, an invalid value."""
    if not rows.is_dwell_sent[row]:
        rows.dwell_ms[row] = UNKNOWN_DWELL
    if rows.broken[row] == NEGATIVE_DWELL:
        rows.dwell_ms[row] = -1 - abs(rows.dwell_ms[row]) % 1000


@njit(cache=True)
def _copy(rows, source, target):  # type: ignore[no-untyped-def]
    rows.request[target] = rows.request[source]
    rows.user[target] = rows.user[source]
    rows.ad[target] = rows.ad[source]
    rows.served_us[target] = rows.served_us[source]
    rows.surface[target] = rows.surface[source]
    rows.position[target] = rows.position[source]
    rows.dwell_ms[target] = rows.dwell_ms[source]
    rows.propensity[target] = rows.propensity[source]
    rows.score[target] = rows.score[source]
    rows.is_random[target] = rows.is_random[source]
    rows.relevance[target] = rows.relevance[source]
    rows.is_relevant[target] = rows.is_relevant[source]
    rows.is_examined[target] = rows.is_examined[source]
    rows.is_clicked[target] = rows.is_clicked[source]
    rows.is_bot[target] = rows.is_bot[source]
    rows.is_duplicate[target] = True
    rows.broken[target] = rows.broken[source]
    rows.is_dwell_sent[target] = rows.is_dwell_sent[source]
