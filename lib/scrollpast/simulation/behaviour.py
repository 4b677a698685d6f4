"""Behaviour of a user on one served ad: look, stay, click, return, hide.

Position-based examination (Wang et al., WSDM 2018) and a click that needs both examination and relevance. Dwell is a
mixture: scrolled past, examined and skipped, lingered on, clicked. Accidental clicks have a separate short mode
(Yahoo reports a mode near 1.8 s after the click). Delays of conversions follow Criteo's report: 35 % within one hour,
50 % within a day, the rest up to 30 days.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from scrollpast.simulation.draws import draw, draw_log_uniform, draw_lognormal
from scrollpast.simulation.slate import is_wanted

KINDS = ("click", "long_click", "save", "conversion", "hide", "report")
# Typed, because numba would compile `_note` again for every plain number.
CLICK, LONG_CLICK, SAVE, CONVERSION, HIDE, REPORT = (np.int64(code) for code in range(len(KINDS)))
NO_REQUEST = np.int64(-1)
_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3600.0, 86400.0

_UNSEEN_MS, _UNSEEN_SIGMA = 150.0, 0.6
_SKIPPED_MS, _SKIPPED_SIGMA = 1200.0, 0.5
_LINGERED_MS, _LINGERED_SIGMA = 7000.0, 0.35
_CLICKED_MS, _CLICKED_SIGMA = 2500.0, 0.5
_ACCIDENT_MS, _ACCIDENT_SIGMA = 700.0, 0.4
_LINGERS_IF_WANTED, _LINGERS_OTHERWISE = 0.6, 0.03


@njit(cache=True)
def draw_dwell_ms(stream, is_examined, is_wanted_ad, is_clicked):  # type: ignore[no-untyped-def]
    """Pre-click dwell in whole milliseconds, below 2**30."""
    if not is_examined:
        dwell = draw_lognormal(stream, _UNSEEN_MS, _UNSEEN_SIGMA)
    elif is_clicked and is_wanted_ad:
        dwell = draw_lognormal(stream, _CLICKED_MS, _CLICKED_SIGMA)
    elif is_clicked:
        dwell = draw_lognormal(stream, _ACCIDENT_MS, _ACCIDENT_SIGMA)
    elif draw(stream) < (_LINGERS_IF_WANTED if is_wanted_ad else _LINGERS_OTHERWISE):
        dwell = draw_lognormal(stream, _LINGERED_MS, _LINGERED_SIGMA)
    else:
        dwell = draw_lognormal(stream, _SKIPPED_MS, _SKIPPED_SIGMA)
    return int(min(dwell, 2.0**30))


@njit(cache=True)
def draw_conversion_delay_s(stream, cap_days):  # type: ignore[no-untyped-def]
    """Seconds from a click to its conversion: 35 % within 1 h, 50 % within 24 h, all within the cap."""
    share = draw(stream)
    if share < 0.35:
        return draw_log_uniform(stream, _MINUTE_S, _HOUR_S)
    if share < 0.5:
        return draw_log_uniform(stream, _HOUR_S, _DAY_S)
    return draw_log_uniform(stream, _DAY_S, cap_days * _DAY_S)


@njit(cache=True)
def react(world, rates, seed, stream, user, ad, is_bot, surface, position, relevance):  # type: ignore[no-untyped-def]
    """Draw examination, relevance, click and dwell of one exposure.

    Returns:
        (is_wanted, is_examined, is_clicked, dwell_ms).
    """
    wanted = is_wanted(seed, user, ad, relevance)
    if is_bot:
        return wanted, False, draw(stream) < rates.bot_click, int(30 + 200 * draw(stream))
    examined = draw(stream) < world.examination[surface, position]
    if not examined:
        chance = 0.0
    elif wanted:
        chance = rates.click_given_want if world.user_clicks[user] else 0.0
    else:
        chance = rates.accidental_click
    clicked = draw(stream) < chance
    return wanted, examined, clicked, draw_dwell_ms(stream, examined, wanted, clicked)


@njit(cache=True)
def engage(rates, stream, exposure, reaction, user_clicks, engaged, count):  # type: ignore[no-untyped-def]
    """Write the engagements that follow from one exposure.

    Args:
        exposure: (request, user id, ad id, position, served_at in microseconds, is_bot).
        reaction: what ``react`` returned.
        engaged: ``Engaged`` arrays with room for 4 more.
        count: engagements written before.

    Returns:
        Engagements written so far.
    """
    request, user, ad, position, served_us, is_bot = exposure
    wanted, examined, clicked, dwell_ms = reaction
    # Lower slots come into view later: a click follows within seconds to a minute.
    looked_us = served_us + int(draw(stream) * position * 1.5e6)
    click_us = looked_us + dwell_ms * 1000
    if clicked:
        count = _note(engaged, count, CLICK, request, user, ad, click_us, math.nan)
        if not wanted or is_bot:
            return count
        if draw(stream) < rates.long_click_given_click:
            at_us = click_us + int(draw_log_uniform(stream, 20.0, 180.0) * 1e6)
            count = _note(engaged, count, LONG_CLICK, request, user, ad, at_us, math.nan)
        if draw(stream) < rates.save_given_click:
            at_us = click_us + int(draw_log_uniform(stream, 60.0, 1800.0) * 1e6)
            known = NO_REQUEST if draw(stream) < rates.save_without_request else request
            count = _note(engaged, count, SAVE, known, user, ad, at_us, math.nan)
        if draw(stream) < rates.conversion_given_click:
            at_us = click_us + int(draw_conversion_delay_s(stream, rates.conversion_cap_days) * 1e6)
            known = NO_REQUEST if draw(stream) < rates.conversion_without_request else request
            value = round(draw_lognormal(stream, 30.0, 0.8), 2)
            count = _note(engaged, count, CONVERSION, known, user, ad, at_us, value)
        return count
    if not examined or is_bot:
        return count
    if wanted:
        if user_clicks and draw(stream) < rates.organic_given_want:
            at_us = click_us + int(draw_log_uniform(stream, _MINUTE_S, rates.organic_cap_days * _DAY_S) * 1e6)
            way = draw(stream)
            kind = CLICK if way < 0.7 else SAVE if way < 0.85 else CONVERSION
            value = round(draw_lognormal(stream, 30.0, 0.8), 2) if kind == CONVERSION else math.nan
            count = _note(engaged, count, kind, NO_REQUEST, user, ad, at_us, value)
        return count
    choice = draw(stream)
    if choice < rates.hide_given_unwanted + rates.report_given_unwanted:
        kind = HIDE if choice < rates.hide_given_unwanted else REPORT
        count = _note(engaged, count, kind, request, user, ad, click_us + int(draw(stream) * 1e7), math.nan)
    return count


@njit(cache=True)
def _note(engaged, count, kind, request, user, ad, at_us, value):  # type: ignore[no-untyped-def]
    if at_us >= engaged.until_us:
        return count
    engaged.kind[count] = kind
    engaged.request[count] = request
    engaged.user[count] = user
    engaged.ad[count] = ad
    engaged.at_us[count] = at_us
    engaged.value[count] = value
    return count + 1
